"""Runs the hooks that users registered (see hooks.pyx)."""
from cpython.ref cimport PyObject

from vibetensor.autograd.node cimport Node, NodeHooks
from vibetensor.core.tensor cimport Tensor


# Hooks on the tensors that a node made, then retain_grad; they may replace grads[].
cdef int run_tensor_hooks(Node node, PyObject** grads) except -1
# Node.register_prehook.
cdef int run_pre_hooks(object hooks, PyObject** grads, int n) except -1
# Node.register_hook; may replace out[].
cdef int run_post_hooks(object hooks, PyObject** out, int n, tuple grad_outputs) except -1
# The hooks in `hooks`, one after the other, on one gradient (a Tensor or None).
cdef object run_gradient_hooks(object hooks, object grad)
# Tensor.register_post_accumulate_grad_hook.
cdef int run_accumulated_hooks(object hooks, Tensor leaf) except -1
# The first `n` of an array as a tuple of Tensors or None.
cdef tuple gradient_tuple(PyObject** grads, int n)
