"""What all operators of a kind share: promotion, broadcasting, allocation of the output, overlap
rules, the plan for the kernel. Entries of pointwise and reduction operators end here."""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from vibetensor.core.tensor cimport Tensor
from vibetensor.core.types cimport *


cdef enum:
    # How a pointwise operator finds the dtype it computes in.
    PROMOTE_DEFAULT = 0     # the promoted dtype of the operands
    PROMOTE_FLOAT = 1       # the same; integers and bool become the default float dtype
    PROMOTE_INTEGER = 2     # the same; bool becomes int64
    # What the output holds.
    RESULT_SAME = 0         # the compute dtype
    RESULT_BOOL = 1
    RESULT_REAL = 2         # the real counterpart of a complex compute dtype
    RESULT_SUM = 3          # reductions: int64 for bool and integers
    RESULT_INDEX = 4        # reductions: int64
    RESULT_LOGICAL = 5      # reductions: bool, but uint8 stays
    # Flags.
    CHECK_ZERO_DIVISOR = 1  # integer division by zero raises
    NO_EMPTY = 2            # reductions: no identity, an empty dimension raises
    SINGLE_DIM = 4          # reductions: `dim` is one int


ctypedef struct vt_pointwise:
    const char* name
    int functor             # row of the loop tables
    int ninputs
    int promote
    int result
    uint32_t bool_mask      # bit k: input k is always bool, outside of promotion
    uint32_t dtypes         # bit d: it computes in the dtype of code d
    uint32_t direct         # of these, the ones whose operands need neither a cast nor a check
    int flags


ctypedef struct vt_reduction:
    const char* name
    int op                  # row of the kernel table
    int promote
    int result
    int flags


# The operator applied to `inputs`. `out` is None, or the tensor to write: in place when it is
# inputs[0], else an out= argument, which is resized to fit.
cdef Tensor pointwise(const vt_pointwise* op, PyObject** inputs, const vt_value* params, Tensor out)

# The reduction of `input` over `dim` (None, an int or a tuple). Under SINGLE_DIM values[0] is set to
# the reduced dimension, or -1 for all; other values are the caller's. dtype: the result's, or -1.
cdef Tensor reduction(const vt_reduction* op, Tensor input, object dim, bint keepdim, int dtype,
                      vt_value* values, Tensor out)

# Calls the kernel of `op` on the device of arrays[0], without the GIL for large arrays.
cdef int run_kernel(const char* name, int op, vt_array* arrays, int n, vt_value* values) except -1

cdef int result_type(PyObject** inputs, int n, uint32_t skip) noexcept
# All on one device; 0-d CPU tensors may join.
cdef int check_devices(const char* name, PyObject** inputs, int n) except -1
# Makes an out= argument fit (it is resized when the shape differs); checks its dtype and device.
cdef int prepare_out(const char* name, Tensor out, int ndim, const int64_t* sizes, int dtype, int device_type) except -1
# Copies src into dst of the same shape, casting, from any device to any other.
cdef int copy_into(Tensor dst, Tensor src) except -1
# The same; under non_blocking a copy to or from pinned memory is only enqueued.
cdef int copy_between(Tensor dst, Tensor src, bint non_blocking) except -1
# Reads the only element of a tensor on a device into `p`, which has room for 16 bytes.
cdef int read_element(Tensor t, char* p) except -1
cdef Tensor cast(Tensor t, int dtype)
cdef Tensor as_contiguous(Tensor t)
# The set of dimensions that `dim` names, as bits.
cdef uint64_t dim_mask(object dim, int ndim) except? 0xFFFFFFFFFFFFFFFF
cdef int check_no_internal_overlap(Tensor t) except -1
cdef int check_no_partial_overlap(Tensor out, Tensor input) except -1

# Fill a kernel value from ...
cdef int any_scalar_value(object number, vt_value* v) except -1
cdef inline int scalar_value(object number, vt_value* v) except -1:
    if number is 1:  # the default of alpha and beta
        int_value(1, v)
        return 0
    return any_scalar_value(number, v)
cdef inline void int_value(int64_t i, vt_value* v) noexcept:
    v.kind = VT_VALUE_INT
    v.i = i
    v.re = <double>i
    v.im = 0
cdef inline void float_value(double d, vt_value* v) noexcept:
    v.kind = VT_VALUE_FLOAT
    v.re = d
    v.im = 0
# `storage` needs room for len(t); it must outlive the kernel call.
cdef int ints_value(tuple t, int64_t* storage, vt_value* v) except -1
