"""Between Python and blas.cpp: finds the library, sets the precision, shows the counters."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy


cdef extern from "vibetensor/cuda/blas_api.h" nogil:
    int vt_cuda_allow_tf32
    ctypedef int (*vt_cuda_path_finder)(char *path, size_t size) noexcept nogil
    void vt_cuda_set_blas_finder(vt_cuda_path_finder finder)
    ctypedef struct vt_cuda_blas_stats:
        int64_t plans
        int64_t misses
        int64_t calls
        int64_t unsupported
    void vt_cuda_blas_get_stats(vt_cuda_blas_stats *stats)
    size_t vt_cuda_blas_version(const char **why)


cdef int find(char *path, size_t size) noexcept with gil:
    try:
        from vibetensor.cuda import _blas_library
        found = _blas_library.path()
        if found is None:
            return 0
        text = found.encode()
        if <size_t>len(text) >= size:
            return 0
        memcpy(path, <const char *>text, len(text) + 1)
        return 1
    except Exception:  # the dynamic linker's message is the one to read
        return 0


vt_cuda_set_blas_finder(<vt_cuda_path_finder>find)


def set_allow_tf32(bint allow):
    """Whether float32 products may round their inputs to TF32."""
    global vt_cuda_allow_tf32
    vt_cuda_allow_tf32 = allow


def get_allow_tf32():
    return bool(vt_cuda_allow_tf32)


def stats():
    """Plans in the cache, lookups that missed it, products enqueued, products without an algorithm."""
    cdef vt_cuda_blas_stats s
    vt_cuda_blas_get_stats(&s)
    return {
        "plans": s.plans, "misses": s.misses, "calls": s.calls, "unsupported": s.unsupported
    }


def version():
    """cuBLASLt's version, 130000 for 13.0.0; loads the library."""
    cdef const char *why = NULL
    cdef size_t v
    with nogil:
        v = vt_cuda_blas_version(&why)
    if why != NULL:
        raise RuntimeError(why.decode())
    return v
