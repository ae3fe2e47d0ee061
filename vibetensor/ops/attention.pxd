"""Attention: checks, outputs, and the choice of the way to compute it."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor

# The parameter `options` of sdpa.
cdef enum:
    ATTENTION_DETERMINISTIC = 1  # the same bits at every run
    ATTENTION_COMPOSED = 2       # on CUDA: products and a softmax of their own, no fused kernel


# (B, H, T, E), laid out as (B, T, H, E): merging the heads afterwards is a view then.
cdef Tensor attention_output(Tensor query, Tensor value, bint packed)
# The log-sum-exp (B, H, T), float32 (of float64, float64).
cdef Tensor attention_lse(Tensor query, bint packed)
# Of query, key and value, None where not wanted; parts of one tensor if the three are that.
cdef tuple attention_gradients(Tensor query, Tensor key, Tensor value, bint packed, tuple wanted)
cdef Tensor attention_mask_gradient(Tensor query, Tensor key, Tensor mask, int64_t options)
cdef Tensor sdpa_composite(Tensor query, Tensor key, Tensor value, Tensor mask, double dropout_p,
                           bint is_causal, object scale, bint enable_gqa)
