"""Tensor.backward, for the module that installs it."""
from vibetensor.core.tensor cimport Tensor


cdef int tensor_backward(Tensor t, object gradient, object retain_graph, bint create_graph,
                         object inputs) except -1
