"""Capture and replay as Python functions over handles; the classes are in graphs.py."""
from libc.stdint cimport uint64_t, uintptr_t
from vibetensor.core.types cimport vt_status
from vibetensor.cuda._runtime cimport check, handle


cdef extern from "vibetensor/cuda/runtime_api.h" nogil:
    ctypedef struct vt_cuda_pool:
        uint64_t first, second
    vt_cuda_pool vt_cuda_new_pool()
    vt_status vt_cuda_capture_begin(int device, vt_cuda_pool pool, int mode)
    vt_status vt_cuda_capture_end(int device, void* stream, vt_cuda_pool pool, void** graph)
    vt_status vt_cuda_graph_instantiate(int device, void* graph, void** exec)
    vt_status vt_cuda_graph_launch(int device, void* exec, void* stream)
    vt_status vt_cuda_graph_num_nodes(void* graph, size_t* n)
    vt_status vt_cuda_graph_print(void* graph, const char* path)
    void vt_cuda_graph_destroy(int device, void* graph, void* exec)
    void vt_cuda_release_pool(int device, vt_cuda_pool pool)
    vt_status vt_cuda_write(int device, void* stream, void* data, const void* host, size_t bytes)


cdef vt_cuda_pool pool_of(object pair) except *:
    cdef vt_cuda_pool pool
    pool.first = pair[0]
    pool.second = pair[1]
    return pool


def new_pool():
    """The handle of a memory pool that nobody has yet."""
    cdef vt_cuda_pool pool = vt_cuda_new_pool()
    return pool.first, pool.second


def release_pool(int device, pool):
    vt_cuda_release_pool(device, pool_of(pool))


def capture_begin(int device, pool, int mode):
    check(vt_cuda_capture_begin(device, pool_of(pool), mode))


def capture_end(int device, stream, pool):
    """The handle of the captured graph. If it raises, the capture is over too."""
    cdef void* graph = NULL
    check(vt_cuda_capture_end(device, handle(stream), pool_of(pool), &graph))
    return <uintptr_t>graph


def instantiate(int device, graph):
    cdef void* exec = NULL
    cdef void* g = handle(graph)
    cdef vt_status status
    with nogil:
        status = vt_cuda_graph_instantiate(device, g, &exec)
    check(status)
    return <uintptr_t>exec


def launch(int device, exec_, stream):
    check(vt_cuda_graph_launch(device, handle(exec_), handle(stream)))


def num_nodes(graph):
    cdef size_t n = 0
    check(vt_cuda_graph_num_nodes(handle(graph), &n))
    return n


def print_dot(graph, str path):
    cdef bytes text = path.encode()
    check(vt_cuda_graph_print(handle(graph), text))


def destroy(int device, graph, exec_):
    vt_cuda_graph_destroy(device, handle(graph), handle(exec_))


def write(int device, stream, data, bytes content):
    """Bytes to an address of the device, in the stream's order."""
    cdef const char* source = content
    check(vt_cuda_write(device, handle(stream), handle(data), source, len(content)))
