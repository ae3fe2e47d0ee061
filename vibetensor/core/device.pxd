"""The `device` objects and the reading of `device=` arguments."""
from libc.stdint cimport int8_t


cdef class device:
    cdef readonly str type
    cdef int code         # VT_CPU, VT_CUDA or VT_META
    cdef int number       # -1 where no index was given


# The object for a place that a tensor lives in; the CPU and meta have no index.
cdef object device_object(int device_type, int index)
# Reads a `device=` argument: None (the default device), a device, a string or an index. A CUDA device
# loads its runtime at first use, and is an error, with the reason, where there is none. `index` is -1
# for the CPU and meta.
cdef int parse_device(object d, int* device_type, int8_t* index) except -1
