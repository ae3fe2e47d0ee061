"""``x[index]`` and ``x[index] = value``, with autograd."""
from vibetensor.core.tensor cimport Tensor


cdef object getitem(Tensor self, object index)
cdef int setitem(Tensor self, object index, object value) except -1
