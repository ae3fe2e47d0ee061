"""Runs the hooks that users registered, and checks what they return with PyTorch's texts."""
from vibetensor.autograd.basics cimport *
from vibetensor.core.dtype cimport dtype_scalar_name
from vibetensor.core.tensor cimport *

cdef extern from "Python.h":
    void incref "Py_INCREF"(PyObject*) noexcept
    void decref "Py_DECREF"(PyObject*) noexcept


cdef str hook_name(object hook):
    return getattr(hook, "__name__", type(hook).__name__)


cdef int check_replacement(object old, object new, object hook) except -1:
    if old is None:
        raise RuntimeError("can't replace a None gradient with a non-None value")
    if not isinstance(new, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(new).__name__}'")
    cdef Tensor a = <Tensor>old, b = <Tensor>new
    if a.dtype != b.dtype or a.device_type != b.device_type:
        raise RuntimeError(
            f"hook '{hook_name(hook)}' has changed the type of value (was "
            f"vibetensor.{dtype_scalar_name(a.dtype)}Tensor got "
            f"vibetensor.{dtype_scalar_name(b.dtype)}Tensor)"
        )
    if not tensor_same_shape(a, b):
        raise RuntimeError(f"hook '{hook_name(hook)}' has changed the size of value")
    return 0


cdef inline object as_object(PyObject* p):
    return None if p is NULL else <object>p


cdef inline void put(PyObject** field, object value) noexcept:
    """field = value, with None as NULL."""
    cdef PyObject* old = field[0]
    field[0] = NULL
    if value is not None:
        incref(<PyObject*>value)
        field[0] = <PyObject*>value
    if old is not NULL:
        decref(old)


cdef tuple gradient_tuple(PyObject** grads, int n):
    return tuple([as_object(grads[i]) for i in range(n)])


cdef object run_gradient_hooks(object hooks, object grad):
    # A copy, because a hook may remove itself.
    for hook in list(hooks.values()):
        result = hook(grad)
        if result is not None:
            check_replacement(grad, result, hook)
            grad = result
    return grad


cdef int retain(Tensor t, PyObject* g) except -1:
    cdef Tensor total
    cdef PyObject* old
    if g is NULL:
        return 0
    total = clone(<Tensor>g) if t.grad is NULL else add(<Tensor>t.grad, <Tensor>g)
    incref(<PyObject*>total)
    old = t.grad
    t.grad = <PyObject*>total
    if old is not NULL:
        decref(old)
    return 0


cdef int run_tensor_hooks(Node node, PyObject** grads) except -1:
    cdef NodeHooks h = <NodeHooks>node.hooks
    cdef int i
    if h.tensor is not None:
        for number, hooks in list(h.tensor.items()):
            i = number
            put(&grads[i], run_gradient_hooks(hooks, as_object(grads[i])))
    if h.retained is not None:
        for number, reference in list(h.retained.items()):
            t = reference()
            if t is not None:
                i = number
                retain(<Tensor>t, grads[i])
    return 0


cdef int replace_all(object hook, object result, PyObject** values, int n) except -1:
    """values[] = result, the tuple that a node's hook returned."""
    cdef int i
    if not isinstance(result, tuple):
        raise TypeError(f"expected tuple, but hook returned '{type(result).__name__}'")
    if len(result) != n:
        raise RuntimeError(
            f"hook '{hook_name(hook)}' has returned an incorrect number of values (got "
            f"{len(result)}, but expected {n})"
        )
    for i in range(n):
        if result[i] is not None:
            check_replacement(as_object(values[i]), result[i], hook)
    for i in range(n):
        if result[i] is not None:
            put(&values[i], result[i])
    return 0


cdef int run_pre_hooks(object hooks, PyObject** grads, int n) except -1:
    for hook in list(hooks.values()):
        result = hook(gradient_tuple(grads, n))
        if result is not None:
            replace_all(hook, result, grads, n)
    return 0


cdef int run_post_hooks(object hooks, PyObject** out, int n, tuple grad_outputs) except -1:
    for hook in list(hooks.values()):
        result = hook(gradient_tuple(out, n), grad_outputs)
        if result is not None:
            replace_all(hook, result, out, n)
    return 0


cdef int run_accumulated_hooks(object hooks, Tensor leaf) except -1:
    for hook in list(hooks.values()):
        result = hook(leaf)
        if result is not None:
            raise RuntimeError("Tensor post accumulate grad hooks should return None.")
    return 0
