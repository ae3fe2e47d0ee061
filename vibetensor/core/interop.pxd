"""numpy arrays and buffers, without a copy and without numpy's headers."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor


cdef bint is_numpy_array(object o) noexcept
cdef bint is_numpy_scalar(object o) noexcept
cdef bint is_numpy_bool(object o) noexcept
# A tensor over the memory of a numpy array (or holding a numpy scalar).
cdef Tensor tensor_from_numpy(object array)
# A tensor over foreign memory (of the CPU by default) that `owner` keeps alive; strides in elements.
cdef Tensor tensor_over_memory(char* data, int ndim, const int64_t* sizes, const int64_t* strides,
                               int dtype, bint readonly, object owner, int device_type=*,
                               int device_index=*)
# The bytes that a geometry touches, as a range around its first element; ValueError on overflow.
cdef int byte_range(int ndim, const int64_t* sizes, const int64_t* strides, int size, int64_t* low,
                    int64_t* nbytes) except -1
