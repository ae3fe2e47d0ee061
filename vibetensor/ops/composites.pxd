"""Bodies of composite operators that branch on the shapes of their inputs."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor


cdef Tensor clone_contiguous(Tensor t)
cdef bint wants_contiguous(object memory_format) except -1
cdef Tensor fill_any(Tensor input, Tensor value)
cdef Tensor float_input(Tensor input, int dtype)
cdef Tensor reduced(object t, object reduction)
# --- arithmetic ---
cdef Tensor pow_composite(Tensor input, Tensor exponent)
cdef Tensor clamp_composite(Tensor input, object low, object high)
cdef Tensor clamp_inplace(Tensor input, object low, object high)
cdef Tensor fill_value(Tensor input, Tensor mask, Tensor value)
cdef Tensor var_composite(Tensor input, object dim, object unbiased, bint keepdim, object correction)
cdef Tensor sum_to_size_composite(Tensor input, tuple size)
cdef Tensor flip_composite(Tensor input, object dims)
cdef tuple moved_dims(Tensor input, object source, object destination)
# --- joining and indexing ---
cdef Tensor cat_composite(tuple tensors, int64_t dim)
cdef Tensor stack_composite(tuple tensors, int64_t dim)
cdef tuple split_sizes(Tensor input, object sizes, int64_t dim)
cdef tuple chunk_sizes(Tensor input, int64_t chunks, int64_t dim)
cdef Tensor masked_select_composite(Tensor input, Tensor mask)
cdef Tensor scatter_source(Tensor input, Tensor index, object src, object value)
# The dtype of the condition, and that numbers fit in the dtype of the result.
cdef int check_where(Tensor condition, Tensor input, Tensor other) except -1
cdef Tensor one_hot_composite(Tensor input, int64_t num_classes)
# --- products ---
# The leading dimensions of a product, broadcast.
cdef tuple broadcast_lead(Tensor a, Tensor b)
cdef Tensor matmul_composite(Tensor a, Tensor b)
cdef Tensor linear_composite(Tensor input, Tensor weight, Tensor bias)
cdef Tensor conv1d_composite(Tensor input, Tensor weight, Tensor bias, object stride, object padding,
                             object dilation, int64_t groups)
# --- networks ---
cdef Tensor cross_entropy_composite(Tensor input, Tensor target, Tensor weight, int64_t ignore_index,
                                    object reduction, double label_smoothing)
cdef Tensor class_probabilities(Tensor input, Tensor target, Tensor weight, int64_t reduction,
                                double label_smoothing)
cdef Tensor nll_composite(Tensor input, Tensor target, Tensor weight, int64_t ignore_index,
                          object reduction)
cdef Tensor rms_norm_composite(Tensor input, tuple normalized_shape, Tensor weight, object eps)
cdef Tensor embedding_composite(Tensor input, Tensor weight, object padding_idx, object max_norm,
                                double norm_type, bint scale_grad_by_freq, bint sparse)
cdef Tensor dropout_composite(Tensor input, double p, bint training, bint inplace)
cdef Tensor new_int64(Tensor like, tuple shape)
