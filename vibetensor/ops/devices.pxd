"""Page-locked host memory (see devices.pyx)."""
from vibetensor.core.tensor cimport Tensor


# An uninitialised contiguous CPU tensor like another, in page-locked memory.
cdef Tensor pinned_like(Tensor like)
