"""The CUDA array interface (see cuda_array.pyx)."""
from vibetensor.core.tensor cimport Tensor


# A tensor over the memory of an object with __cuda_array_interface__, on the current stream.
cdef Tensor tensor_from_cuda_array(object array)
