"""NVTX as Python functions; see nvtx.py."""
from libc.stdint cimport uint64_t


cdef extern from "vibetensor/cuda/nvtx.h" nogil:
    int vt_nvtx_push(const char* message)
    int vt_nvtx_pop()
    uint64_t vt_nvtx_start(const char* message)
    void vt_nvtx_end(uint64_t range)
    void vt_nvtx_mark(const char* message)


def push(str message):
    cdef bytes text = message.encode()
    return vt_nvtx_push(text)


def pop():
    return vt_nvtx_pop()


def start(str message):
    cdef bytes text = message.encode()
    return vt_nvtx_start(text)


def end(uint64_t range_id):
    vt_nvtx_end(range_id)


def mark(str message):
    cdef bytes text = message.encode()
    vt_nvtx_mark(text)
