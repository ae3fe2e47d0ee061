"""Bodies of fused operators: checks, composites, and gradients that choose between one kernel and
operators that can be differentiated again."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor


# --- residual and dropout ---
# The shape of `residual`; a half type may be added to float32.
cdef int check_addend(str op, Tensor input, Tensor residual) except -1
cdef int norm_dtype(Tensor input, Tensor residual) noexcept
cdef Tensor dropout_output(Tensor input, Tensor residual)
cdef Tensor dropout_add_composite(Tensor input, Tensor residual, double p, bint training)
cdef tuple add_layer_norm_composite(Tensor input, Tensor residual, tuple normalized_shape, Tensor weight,
                                    Tensor bias, double eps, double p, bint training)
cdef tuple add_rms_norm_composite(Tensor input, Tensor residual, tuple normalized_shape, Tensor weight,
                                  object eps, double p, bint training)
# By input, residual, weight and, where there is a mean, bias. `kind` is the dtype of the input.
cdef tuple add_norm_gradients(tuple grads, Tensor total, Tensor weight, Tensor mean, Tensor rstd,
                              tuple normalized_shape, double eps, double p, int64_t seed,
                              int64_t offset, tuple wanted, int64_t kind)
# --- activations ---
cdef int check_swiglu(Tensor gate, Tensor up) except -1
cdef Tensor half_rows(Tensor packed)
cdef Tensor swiglu_reference(Tensor gate, Tensor up)
cdef Tensor swiglu_composite(Tensor gate, Tensor up)
# --- linear layers ---
cdef Tensor linear_gelu_composite(Tensor input, Tensor weight, Tensor bias)
cdef tuple manual__gelu_mlp(Tensor input, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2)
cdef tuple gelu_mlp_gradients(Tensor grad, Tensor input, Tensor weight1, Tensor weight2, Tensor linear,
                              Tensor hidden, tuple wanted, int weight1_dtype, int weight2_dtype)
cdef Tensor gelu_mlp_composite(Tensor input, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2)
# --- embedding ---
cdef Tensor embedding_with_position_composite(Tensor input, Tensor weight, Tensor position,
                                              object padding_idx)
# --- linear and cross entropy ---
cdef tuple manual__linear_cross_entropy(Tensor input, Tensor weight, Tensor bias, Tensor target,
                                        bint mean, int64_t ignore_index, double label_smoothing,
                                        tuple needs, int64_t chunk, int64_t dtype,
                                        int64_t weight_dtype)
cdef tuple scaled_gradients(Tensor grad, Tensor grad_input, Tensor grad_weight, Tensor grad_bias,
                            int dtype)
cdef Tensor linear_cross_entropy_composite(Tensor input, Tensor linear_weight, Tensor target,
                                           Tensor linear_bias, Tensor weight, object reduction,
                                           object ignore_index, double label_smoothing)
