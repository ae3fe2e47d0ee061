"""Argument checks of the operators, with PyTorch's texts, and the shapes of kernel outputs."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor
from vibetensor.core.types cimport VT_BOOL


# Number `alpha` of an addition against the dtype of its result.
cdef int check_other_alpha(Tensor input, Tensor other, object alpha) except -1
cdef inline int check_alpha(Tensor input, Tensor other, object alpha) except -1:
    return 0 if alpha is 1 else check_other_alpha(input, other, alpha)
cdef int refuse_bool_subtraction(bint both) except -1
cdef inline int check_subtraction(Tensor input, Tensor other) except -1:
    if input.dtype == VT_BOOL or other.dtype == VT_BOOL:
        refuse_bool_subtraction(input.dtype == other.dtype)
    return 0
cdef inline int check_negation(Tensor input) except -1:
    if input.dtype == VT_BOOL:
        refuse_bool_negation()
    return 0
cdef int refuse_bool_negation() except -1
# An index in int64.
cdef Tensor long_index(str op, Tensor index)
cdef int check_matrices(str op, Tensor input) except -1
cdef int check_floating(str op, Tensor input) except -1
cdef int check_range(str op, double low, double high) except -1
cdef int check_std(str op, double std) except -1
cdef int check_probability(str op, double p) except -1
cdef int check_multinomial(Tensor input, int64_t num_samples, bint replacement) except -1
cdef int check_index_vector(str op, Tensor index) except -1
cdef int check_gather(str op, Tensor input, int dim, Tensor index) except -1
cdef int check_scatter(str op, Tensor input, int dim, Tensor index, Tensor src) except -1
cdef int check_index_add(Tensor input, int dim, Tensor index, Tensor source) except -1
cdef int check_sort(Tensor input) except -1
cdef int check_topk(Tensor input, int64_t k, int dim) except -1
cdef int check_same_dtype(str op, Tensor a, Tensor b) except -1
cdef int check_mm(str op, Tensor a, Tensor b) except -1
cdef int check_bmm(str op, Tensor a, Tensor b) except -1
cdef int check_addmm(Tensor input, Tensor a, Tensor b) except -1
cdef int check_baddbmm(Tensor input, Tensor a, Tensor b) except -1
cdef int check_linear(Tensor input, Tensor weight, Tensor bias) except -1
cdef int check_cross_entropy(Tensor input, Tensor target, Tensor weight) except -1
cdef int check_embedding(Tensor weight, Tensor indices) except -1
cdef int check_condition(Tensor condition) except -1
cdef int check_integer_power(Tensor input, Tensor exponent) except -1
cdef int bad_rounding_mode(object mode) except -1
# Checks the arguments of a norm; the number of elements per row.
cdef int check_rotary(Tensor input, Tensor cos, Tensor sin) except -1
cdef int check_normalized_shape(Tensor input, tuple shape, tuple parameters) except -1
cdef int64_t check_normalized(str op, Tensor input, tuple shape, Tensor weight, Tensor bias) except -1

# --- random numbers -------------------------------------------------------------------------------

cdef enum:
    PHILOX_UNIFORM = 0
    PHILOX_NORMAL = 1
    PHILOX_RANDINT = 2
    PHILOX_RANDPERM = 3

# (seed, offset) of the Philox blocks that filling `input` takes.
cdef tuple philox(Tensor input, object generator, int kind)
cdef tuple philox_blocks(object generator, int64_t blocks, Tensor input)
cdef int64_t multinomial_blocks(Tensor input, int64_t num_samples, bint replacement)

# --- outputs ----------------------------------------------------------------------------------------

cdef Tensor new_empty(Tensor like, tuple shape)
cdef Tensor new_dtype(Tensor like, tuple shape, int dtype)
cdef Tensor new_zeros(Tensor like, tuple shape)
# Statistics of half types are kept in float32.
cdef Tensor new_statistic(Tensor like, tuple shape)
cdef Tensor row_statistics(Tensor input, tuple normalized_shape)
cdef Tensor resized(Tensor input, int dim, int64_t size, int dtype)
cdef Tensor index_select_output(Tensor input, int dim, Tensor index)
cdef Tensor matrix_output(Tensor a, Tensor b)
cdef Tensor conv1d_output(Tensor input, Tensor weight, Tensor bias, int64_t stride, int64_t padding,
                          int64_t dilation, int64_t groups)
cdef Tensor cat_output(tuple tensors, int64_t dim)
cdef tuple cat_lengths(tuple tensors, int64_t dim)
cdef int64_t element_count(tuple shape) except -1
cdef Tensor flat_rows(Tensor input)
cdef double default_epsilon(Tensor input) except -1
