"""Runs backward passes (see engine.pyx)."""
from cpython.ref cimport PyObject

from vibetensor.autograd.node cimport Node
from vibetensor.core.tensor cimport Tensor


# Runs backward from `roots`, tensors that need grad, which receive `gradients` (Tensors or None).
# With `inputs` None, every leaf accumulates. Else a tuple of tensors: the list of their gradients
# (Tensors or None) is returned, or, with `accumulate`, added to their .grad.
cdef list run_backward(tuple roots, tuple gradients, bint retain_graph, bint create_graph,
                       tuple inputs, bint accumulate)

# The backward of a fused operator while grad mode is on: differentiates `reference(*inputs)`, which
# computes the operator from others, and fills out[]. Edge j of the node belongs to
# inputs[positions[j]]. The results of `reference` are the outputs of the node, in order.
cdef int reference_backward(Node node, object reference, tuple inputs, tuple positions,
                            PyObject** grads, PyObject** out) except -1
