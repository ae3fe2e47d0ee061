"""The `device` objects and the reading of `device=` arguments."""
from libc.stdint cimport int8_t


ctypedef int (*current_device)() except -1


cdef class device:
    cdef readonly str type
    cdef int code         # VT_CPU, VT_CUDA or VT_META
    cdef int number       # -1 where no index was given


# The object for a place that a tensor lives in; the CPU and meta have no index.
cdef object device_object(int device_type, int index)
# Reads a `device=` argument: None (the default device), a device, a string or an index. Without a
# CUDA backend a CUDA device is an error. `index` is -1 for the CPU and meta.
cdef int parse_device(object d, int* device_type, int8_t* index) except -1
# Called once by the CUDA backend; `current` gives the calling thread's device.
cdef void register_cuda(current_device current) noexcept
