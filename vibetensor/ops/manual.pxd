"""Handwritten entries: operators that fit no kind."""
from vibetensor.core.tensor cimport Tensor


cdef Tensor manual_copy_(Tensor input, Tensor src, bint non_blocking)
cdef Tensor manual__copy_(Tensor input, Tensor src)
cdef Tensor manual__clone(Tensor input, bint contiguous)
cdef Tensor manual__to_copy(Tensor input, int dtype)
cdef Tensor manual_detach(Tensor input)
cdef Tensor manual_zeros_like(Tensor input, int dtype, bint requires_grad)
cdef Tensor manual_ones_like(Tensor input, int dtype, bint requires_grad)
cdef Tensor manual_empty_like(Tensor input, int dtype, bint requires_grad)
cdef Tensor manual_full_like(Tensor input, object fill_value, int dtype, bint requires_grad)
cdef Tensor manual_rand_like(Tensor input, int dtype, bint requires_grad)
cdef Tensor manual_randn_like(Tensor input, int dtype, bint requires_grad)
cdef Tensor manual_index(Tensor input, tuple indices)
cdef Tensor manual_index_put_(Tensor input, tuple indices, Tensor values, bint accumulate)
cdef Tensor manual_index_put(Tensor input, tuple indices, Tensor values, bint accumulate)
cdef Tensor manual_find(Tensor input)
cdef Tensor manual_conj(Tensor input)
cdef Tensor manual_real(Tensor input)
# The output of the advanced read, seen with the index dimensions first.
cdef Tensor index_output(Tensor input, tuple shape, tuple order)
