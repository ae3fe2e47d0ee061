"""Arithmetic of shapes and strides: nogil functions that know no device, memory or Python object."""
from libc.stdint cimport int64_t


cdef enum:
    OVERLAP_NO = 0
    OVERLAP_FULL = 1      # the same elements at the same indices
    OVERLAP_PARTIAL = 2
    OVERLAP_UNKNOWN = 3   # the byte ranges meet, but deciding would be NP-hard

# out[0:n] = the shape that a and b broadcast to; returns n, or -1 - d where dimension d (counted
# in the result) does not fit. `out` may be a or b's array only if it is large enough.
cdef int broadcast_shapes(int na, const int64_t* a, int nb, const int64_t* b, int64_t* out) noexcept nogil
# Strides under which `sizes` (old geometry) can be seen as `new_sizes` without a copy; False if none.
cdef bint view_strides(int n, const int64_t* sizes, const int64_t* strides, int64_t numel,
                       int new_n, const int64_t* new_sizes, int64_t* new_strides) noexcept nogil
# The lowest and highest element offset that a non-empty geometry touches, relative to its first
# element; False on overflow.
cdef bint extent(int n, const int64_t* sizes, const int64_t* strides, int64_t* low, int64_t* high) noexcept nogil
# Whether two indices can name the same element: 0 no, 1 yes, 2 too hard to tell.
cdef int internal_overlap(int n, const int64_t* sizes, const int64_t* strides) noexcept nogil
# Product of sizes, or -1 on overflow.
cdef int64_t product(int n, const int64_t* sizes) noexcept nogil
# Row-major strides of `sizes`.
cdef void contiguous_strides(int n, const int64_t* sizes, int64_t* strides) noexcept nogil
