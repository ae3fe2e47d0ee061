"""Tensors from Python data."""
from vibetensor.core.tensor cimport Tensor


# A new tensor from a number, a (nested) sequence, an array or a tensor; on the CPU, except that the
# copy of a tensor stays on its device. `dtype` is a code, or -1 to take it from the data.
cdef Tensor tensor_from_data(object data, int dtype)
