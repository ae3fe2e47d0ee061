"""Tensors that are the parts of one: how the gradients of a split reach it without a copy."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor


# Uninitialised tensors of the shapes of `tensors`. Where these interleave to one dense tensor without
# gaps, as query, key and value of one projection do, the new ones do so too.
cdef tuple packed_empty_like(tuple tensors)
# The tensor that `pieces` are the consecutive parts of along `dim`, or None.
cdef Tensor joined(tuple pieces, int dim)
# The same for pieces without that dimension.
cdef Tensor stacked(tuple pieces, int dim)
