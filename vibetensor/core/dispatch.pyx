"""Dispatch (see dispatch.pxd)."""
from vibetensor.core.tensor cimport Tensor

cdef extern from "core/slots.h":
    int vt_set_slot(object type, const char* name, void* function) except -1
    int vt_set_comparison(object type, int code, void* function) except -1

KEY_NAMES = (
    "Meta", "CPU", "CUDA", "Fabric", "Autograd", "Functionalize", "ForwardAD", "Autocast", "Vmap",
    "Trace", "PythonMode",
)


cdef uint32_t list_keys(tuple tensors) except? 0xFFFFFFFF:
    cdef uint32_t keys = 0
    for t in tensors:
        if t is not None:
            keys |= (<Tensor?>t).keyset
    return keys


cdef int no_entry(const char* name, uint32_t keys) except -1:
    cdef int key = vt_top_key(keys)
    raise NotImplementedError(
        f"{name.decode()}(): no implementation for the {KEY_NAMES[key]} dispatch key"
    )


cdef int set_slot(const char* name, void* function) except -1:
    return vt_set_slot(Tensor, name, function)


cdef int set_comparison(int code, void* function) except -1:
    return vt_set_comparison(Tensor, code, function)


vt_cpu_register()


def cpu_capability():
    """The instruction set the CPU kernels were chosen for: "baseline", "x86-64-v3" or "x86-64-v4"."""
    return vt_cpu_capability().decode()


def set_num_threads(int n):
    """Sets how many threads CPU kernels use, this one included.

    Raises ``RuntimeError`` unless `n` is positive.
    """
    if n <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    vt_set_num_threads(n)


def get_num_threads():
    """The number of threads CPU kernels use."""
    return vt_get_num_threads()


def cpu_memory():
    """Counters of CPU memory: bytes allocated, their peak, bytes reserved, blocks handed out."""
    return {
        "allocated": vt_cpu_memory.allocated, "peak": vt_cpu_memory.peak_allocated,
        "reserved": vt_cpu_memory.reserved, "num_allocs": vt_cpu_memory.num_allocs,
    }


def reset_cpu_peak():
    """Starts the count of the peak anew from the bytes allocated now."""
    vt_cpu_memory.peak_allocated = vt_cpu_memory.allocated


def empty_cpu_cache():
    """Gives cached CPU blocks back to the system."""
    vt_cpu_empty_cache()
