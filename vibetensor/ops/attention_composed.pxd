"""Attention made of other operators."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor

cdef enum:
    UNBOUNDED = 0x40000000  # a distance between query and key beyond every length


# The result and the log-sum-exp, differentiable any number of times.
cdef tuple attention_of_operators(
    Tensor query, Tensor key, Tensor value, Tensor mask, Tensor slopes, Tensor cu_queries,
    Tensor cu_keys, double scale, double dropout_p, int64_t seed, int64_t offset, int64_t low,
    int64_t high, tuple lengths)
