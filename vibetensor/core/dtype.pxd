"""Element types: their codes, categories, names and promotion."""
from libc.stdint cimport uint8_t

# So that one cimport line brings both halves of "dtype and device".
from vibetensor.core.device cimport device_object, parse_device


cdef class dtype:
    cdef readonly int code
    cdef readonly int itemsize
    cdef str name
    cdef str scalar_name


# The dtype object of a code, or None for -1.
cdef object dtype_object(int code)
# The code of a dtype or of the Python types bool, int, float and complex; -1 for None.
cdef int dtype_code(object d) except -2
cdef int default_dtype_code() noexcept nogil
# The complex type that goes with the default dtype.
cdef int default_complex_code() noexcept nogil
# 'float32': the public name.
cdef str dtype_name(int code)
# 'Float': the name used in error texts.
cdef str dtype_scalar_name(int code)


cdef extern from *:
    """
    /* Rows and columns by dtype code. Signed and unsigned 8 bit meet in int16, the two halves in
     * float32; otherwise the higher category wins, and within one the wider type. */
    static const unsigned char vt_promote_[12][12] = {
      { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11},
      { 1,  1,  3,  3,  4,  5,  6,  7,  8,  9, 10, 11},
      { 2,  3,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11},
      { 3,  3,  3,  3,  4,  5,  6,  7,  8,  9, 10, 11},
      { 4,  4,  4,  4,  4,  5,  6,  7,  8,  9, 10, 11},
      { 5,  5,  5,  5,  5,  5,  6,  7,  8,  9, 10, 11},
      { 6,  6,  6,  6,  6,  6,  6,  8,  8,  9, 10, 11},
      { 7,  7,  7,  7,  7,  7,  8,  7,  8,  9, 10, 11},
      { 8,  8,  8,  8,  8,  8,  8,  8,  8,  9, 10, 11},
      { 9,  9,  9,  9,  9,  9,  9,  9,  9,  9, 11, 11},
      {10, 10, 10, 10, 10, 10, 10, 10, 10, 11, 10, 11},
      {11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11}};
    """
    const uint8_t PROMOTE "vt_promote_"[12][12]


cdef inline int promote_codes(int a, int b) noexcept nogil:
    """The smallest type that holds both, as torch.promote_types."""
    return PROMOTE[a][b]


cdef inline bint is_integral_code(int code) noexcept nogil:
    """Integers without bool."""
    return 1 <= code <= 5


cdef inline bint is_floating_code(int code) noexcept nogil:
    return 6 <= code <= 9


cdef inline bint is_complex_code(int code) noexcept nogil:
    return code >= 10


cdef inline bint is_signed_code(int code) noexcept nogil:
    return code >= 2


cdef inline int category_code(int code) noexcept nogil:
    """0 bool, 1 integer, 2 floating, 3 complex: the first criterion of promotion."""
    return (code > 0) + (code > 5) + (code > 9)


cdef inline int real_code(int code) noexcept nogil:
    """float32 of complex64, float64 of complex128, else the same."""
    return code - 2 if code >= 10 else code


cdef inline int complex_code(int code) noexcept nogil:
    """The complex type with parts as wide as `code`, and at least 32 bits."""
    return 11 if code == 9 or code == 11 else 10


cdef inline int compute_code(int code) noexcept nogil:
    """The type arithmetic happens in: float32 for the half types, else the same."""
    return 8 if code == 6 or code == 7 else code


cdef inline bint can_cast_codes(int source, int target) noexcept nogil:
    """No fall in category, as torch.can_cast."""
    return category_code(source) <= category_code(target)
