"""Backward formulas that are longer than a line. All are written over operators, so that they can be
differentiated again."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor


# --- pointwise ---
cdef object sgn_backward(Tensor grad, Tensor input, Tensor result)
cdef object pow_backward_base(Tensor grad, Tensor input, Tensor exponent)
cdef object pow_backward_exponent(Tensor grad, Tensor input, Tensor exponent, Tensor result)
cdef object gelu_second_derivative(Tensor input, int approximate)
cdef object silu_second_derivative(Tensor input)
cdef object scaled(object t, object factor)
# --- reductions ---
cdef object expand_reduced(object grad, tuple shape, object dim, bint keepdim)
cdef int64_t reduced_count(tuple shape, object dim) except? -1
cdef object prod_backward(Tensor grad, Tensor input, object dim, bint keepdim)
cdef object extremum_backward(Tensor grad, Tensor input, Tensor result, object dim, bint keepdim)
cdef object var_backward(Tensor grad, Tensor input, object dim, double correction, bint keepdim)
cdef object flip_along(Tensor t, int64_t dim)
# --- views ---
# (sizes, strides, offset of the input in its storage), and the offset of the view in the storage.
cdef tuple storage_geometry(Tensor input, object storage_offset)
cdef object as_strided_backward(Tensor grad, tuple size, tuple stride, tuple geometry)
cdef tuple inverse_permutation(tuple dims)
cdef object select_backward(Tensor grad, tuple shape, int64_t dim, int64_t index)
cdef object narrow_backward(Tensor grad, tuple shape, int64_t dim, int64_t start, int64_t length)
cdef object slice_backward(Tensor grad, tuple shape, int64_t dim, object start, object end, int64_t step)
cdef object diagonal_backward(Tensor grad, tuple shape, int64_t offset, int64_t dim1, int64_t dim2)
cdef object view_as_complex_copy(Tensor t)
cdef object split_backward(tuple grads, tuple shape, int dtype, tuple sizes, int64_t dim)
cdef object unbind_backward(tuple grads, tuple shape, int dtype, int64_t dim)
# --- matrix products ---
cdef object adjoint(Tensor t)
cdef tuple linear_backward(Tensor grad, Tensor input, Tensor weight, tuple wanted, int weight_dtype)
cdef tuple parameter_gradients(Tensor grad, Tensor rows, bint weight, bint bias, int weight_dtype)
# --- networks ---
cdef tuple trailing_dims(Tensor t, int64_t n)
cdef object affine(object t, Tensor weight, Tensor bias)
cdef object cross_entropy_reference(Tensor input, Tensor target, Tensor weight, int64_t reduction,
                                    int64_t ignore_index, double label_smoothing)
cdef object embedding_double_backward(Tensor grad, Tensor indices, int64_t padding_idx,
                                      bint scale_grad_by_freq)
