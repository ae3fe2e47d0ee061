"""Handwritten entries: operators that fit no kind."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor


cdef Tensor manual_copy_(Tensor input, Tensor src, bint non_blocking)
cdef Tensor manual__copy_(Tensor input, Tensor src, bint non_blocking)
cdef Tensor manual__clone(Tensor input, bint contiguous)
cdef Tensor manual__to_copy(Tensor input, int dtype)
cdef Tensor manual__to_device(Tensor input, int dtype, int64_t device_type, int64_t device_index,
                              bint non_blocking)
# A tensor's device as an object, and a tensor moved there.
cdef object place_of(Tensor t)
cdef Tensor to_place(Tensor t, object place)
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
cdef tuple manual__adamw_(tuple params, tuple grads, tuple exp_avgs, tuple exp_avg_sqs, double lr,
                          double beta1, double beta2, double eps, double weight_decay, int64_t step,
                          bint maximize, bint decoupled, tuple numbers, Tensor found_inf,
                          Tensor skipped)
cdef tuple manual__sgd_(tuple params, tuple grads, tuple momentum_buffers, double lr, double momentum,
                        double dampening, double weight_decay, bint nesterov, bint maximize,
                        bint first, tuple numbers, Tensor found_inf)
cdef tuple manual__muon_(tuple grads, tuple momentum_buffers, tuple updates, double momentum,
                         bint nesterov)
cdef Tensor manual__grad_norm(tuple grads, double norm_type)
cdef tuple manual__cast_tensors_(tuple results, tuple tensors)
cdef tuple manual__scale_(tuple tensors, Tensor scale)
cdef tuple manual__amp_foreach_non_finite_check_and_unscale_(tuple tensors, Tensor found_inf,
                                                             Tensor inv_scale)
cdef int check_flag(str op, str name, Tensor t, int dtype) except -1
# The output of the advanced read, seen with the index dimensions first; order None: it is so.
cdef Tensor index_output(Tensor input, tuple shape, tuple order)
