"""What generated code calls: gradients in and out of a node, copies, lists of arrays."""
from cpython.ref cimport Py_INCREF, PyObject, PyTypeObject

from vibetensor.autograd.node cimport Node
from vibetensor.core.tensor cimport Tensor
from vibetensor.core.types cimport *


cdef extern from "Python.h":
    bint PyObject_TypeCheck(PyObject* o, PyTypeObject* type) noexcept
    Py_ssize_t PyVectorcall_NARGS(size_t n) noexcept

# Shortcuts of functions.
cdef extern from "core/fast_call.h":
    ctypedef object (*vt_fast_call)(PyObject* f, PyObject** args, size_t n, PyObject* names)
    void vt_set_fast_call(object f, vt_fast_call fast)
    object vt_plain_call(PyObject* f, PyObject** args, size_t n, PyObject* names)

cdef inline bint is_tensor(PyObject* o) noexcept:
    return PyObject_TypeCheck(o, <PyTypeObject*>Tensor)

cdef bint any_needs_grad(tuple tensors) except -1

cdef inline Tensor gradient_at(PyObject** grads, int i):
    return None if grads[i] is NULL else <Tensor>grads[i]
# All incoming gradients, None where undefined.
cdef tuple gradient_tuple(Node node, PyObject** grads)
# Which edges want a gradient.
cdef tuple wanted_edges(Node node)
cdef inline int put_gradient(PyObject** out, int i, object grad) except -1:
    if grad is not None:
        Py_INCREF(grad)
        out[i] = <PyObject*>grad
    return 0
# A tuple of gradients (or None) for the edges in order; only wanted ones are kept.
cdef int put_gradients(Node node, PyObject** out, object grads) except -1
# The shape of the tensor that an edge leads to; the edge must be wanted.
cdef tuple edge_shape(Node node, int i)
# The dtype that a gradient gets where an edge leads; -1 for an edge that leads nowhere.
cdef int edge_dtype(Node node, int i) noexcept
# The dtype that a gradient of `t` gets.
cdef int gradient_dtype(Tensor t) noexcept

# Raises where in-place writes are forbidden whatever autograd says.
cdef int begin_write(Tensor t) except -1
# A copy with the same layout, detached.
cdef Tensor copy_of(Tensor t)

# The arrays of a tuple of tensors, as a kernel value.
cdef class TensorArrays:
    cdef vt_array* arrays
    cdef tuple tensors
    # Raises where they lie on another device than `first`, an array of the same call.
    cdef int beside(self, const char* name, const vt_array* first, vt_value* v) except -1
