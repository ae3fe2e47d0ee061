"""The autograd attributes of Tensor; importing this module installs them."""
import warnings
import weakref

from vibetensor.autograd.api cimport tensor_backward
from vibetensor.autograd.node cimport *
from vibetensor.core.dtype cimport dtype_name, is_complex_code, is_floating_code
from vibetensor.core.tensor cimport *

from vibetensor.core.tensor import install

cdef extern from "Python.h":
    void incref "Py_INCREF"(PyObject*) noexcept
    void decref "Py_DECREF"(PyObject*) noexcept


cdef inline void put(PyObject** field, PyObject* value) noexcept:
    """field = value (a new reference, or NULL)."""
    cdef PyObject* old = field[0]
    field[0] = value
    if old is not NULL:
        decref(old)


# --- methods --------------------------------------------------------------------------------------

def backward(Tensor self not None, gradient=None, retain_graph=None, bint create_graph=False,
             inputs=None):
    """Adds the gradient of this tensor to ``.grad`` of the leaves it was computed from.

    `gradient` is the gradient that the tensor receives, of its shape; a scalar needs none. See
    :func:`vibetensor.autograd.backward` for the rest.

    >>> import vibetensor as vt
    >>> x = vt.ones(2, requires_grad=True)
    >>> (3 * x).sum().backward()
    >>> x.grad
    tensor([3., 3.])
    """
    tensor_backward(self, gradient, retain_graph, create_graph, inputs)


cdef int set_requires_grad(Tensor t, bint on) except -1:
    if gradient_fn(t) is not NULL:
        if on:
            return 0
        raise RuntimeError(
            "you can only change requires_grad flags of leaf variables. If you want to use a "
            "computed "
            "variable in a subgraph that doesn't require differentiation use var_no_grad = "
            "var.detach()."
        )
    if not on:
        t.flags &= ~F_REQUIRES_GRAD
        if t.base is NULL:
            t.keyset &= ~<uint32_t>KEYS_AUTOGRAD
        return 0
    if not is_floating_code(t.dtype) and not is_complex_code(t.dtype):
        raise RuntimeError("only Tensors of floating point and complex dtype can require gradients")
    if t.flags & F_INFERENCE and not vt_tls.inference:
        raise RuntimeError(
            "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed."
        )
    t.flags |= F_REQUIRES_GRAD
    t.keyset |= KEYS_AUTOGRAD
    return 0


def requires_grad_(Tensor self not None, bint requires_grad=True):
    """Sets ``requires_grad`` in place and returns the tensor. Only leaves can be switched off."""
    set_requires_grad(self, requires_grad)
    return self


def retain_grad(Tensor self not None):
    """Lets backward fill ``.grad`` although the tensor is no leaf."""
    cdef PyObject* fn
    cdef NodeHooks h
    if not needs_grad(self):
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    fn = gradient_fn(self)
    if fn is NULL or self.flags & F_RETAINS_GRAD:
        return
    h = node_hooks(<Node>fn)
    if h.retained is None:
        h.retained = {}
    h.retained[<int>self.output_nr] = weakref.ref(self)
    self.flags |= F_RETAINS_GRAD


def register_hook(Tensor self not None, hook):
    """Calls ``hook(grad)`` whenever the gradient of this tensor has been computed.

    A tensor that `hook` returns takes the gradient's place. Returns a handle with ``remove()``.

    >>> import vibetensor as vt
    >>> x = vt.ones(2, requires_grad=True)
    >>> handle = x.register_hook(lambda grad: 2 * grad)
    >>> x.sum().backward()
    >>> x.grad
    tensor([2., 2.])
    """
    cdef PyObject* fn
    cdef NodeHooks h
    if not needs_grad(self):
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    fn = gradient_fn(self)
    vt_track(<PyObject*>self)
    if fn is NULL:
        if self.hooks is NULL:
            hooks = new_hook_dict()
            incref(<PyObject*>hooks)
            self.hooks = <PyObject*>hooks
        return add_hook(<object>self.hooks, hook)
    h = node_hooks(<Node>fn)
    if h.tensor is None:
        h.tensor = {}
    return add_hook(h.tensor.setdefault(<int>self.output_nr, new_hook_dict()), hook)


def register_post_accumulate_grad_hook(Tensor self not None, hook):
    """Calls ``hook(tensor)`` after backward has accumulated into ``.grad`` of this leaf.

    Returns a handle with ``remove()``.
    """
    cdef NodeHooks h
    if not needs_grad(self):
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if gradient_fn(self) is not NULL:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    h = leaf_hooks(self)
    if h.accumulated is None:
        h.accumulated = new_hook_dict()
    return add_hook(h.accumulated, hook)


def detach_(Tensor self not None):
    """Cuts this tensor off from its history, in place: it becomes a leaf without grad."""
    if self.base is not NULL:
        raise RuntimeError("Can't detach views in-place. Use detach() instead.")
    put(&self.grad_fn, NULL)
    self.output_nr = 0
    self.flags &= ~(F_REQUIRES_GRAD | F_RETAINS_GRAD)
    self.keyset &= ~<uint32_t>KEYS_AUTOGRAD
    return self


def is_inference(Tensor self not None):
    """Whether the tensor was made inside ``inference_mode``."""
    return self.flags & F_INFERENCE != 0


# --- attributes -----------------------------------------------------------------------------------

cdef object get_requires_grad(PyObject* self, void* closure):
    return needs_grad(<Tensor>self)


cdef int put_requires_grad(PyObject* self, PyObject* value, void* closure) except -1:
    if value is NULL:
        raise AttributeError("can't delete attribute 'requires_grad'")
    if not isinstance(<object>value, bool):
        raise RuntimeError("requires_grad must be a bool")
    return set_requires_grad(<Tensor>self, <object>value is True)


cdef object get_is_leaf(PyObject* self, void* closure):
    return gradient_fn(<Tensor>self) is NULL


cdef object get_grad_fn(PyObject* self, void* closure):
    cdef PyObject* fn = gradient_fn(<Tensor>self)
    return None if fn is NULL else <object>fn


cdef object get_grad(PyObject* self, void* closure):
    cdef Tensor t = <Tensor>self
    if t.grad is not NULL:
        return <object>t.grad
    if t.flags & F_REQUIRES_GRAD and not t.flags & F_RETAINS_GRAD and gradient_fn(t) is not NULL:
        warnings.warn(
            "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its "
            ".grad "
            "attribute won't be populated during autograd.backward(). If you indeed want the .grad "
            "field to be populated for a non-leaf Tensor, use .retain_grad() on the non-leaf "
            "Tensor. "
            "If you access the non-leaf Tensor by mistake, make sure you access the leaf Tensor "
            "instead.",
            UserWarning,
            stacklevel=2,
        )
    return None


cdef int put_grad(PyObject* self, PyObject* value, void* closure) except -1:
    cdef Tensor t = <Tensor>self, g
    if value is NULL or <object>value is None:
        put(&t.grad, NULL)
        return 0
    if not isinstance(<object>value, Tensor):
        raise TypeError(
            "assigned grad expected to be a Tensor or None but got grad of type "
            f"{type(<object>value).__name__}"
        )
    g = <Tensor>value
    if g is t:
        raise RuntimeError("can't assign Variable as its own grad")
    if g.dtype != t.dtype:
        raise RuntimeError(
            f"attempting to assign a gradient with dtype '{dtype_name(g.dtype)}' to a tensor with "
            f"dtype '{dtype_name(t.dtype)}'. The gradient must match the tensor's dtype."
        )
    if g.device_type != t.device_type or g.device_index != t.device_index:
        raise RuntimeError(
            f"attempting to assign a gradient with device type '{g.device}' to a tensor with "
            "device "
            f"type '{t.device}'. Please ensure that the gradient and the tensor are on the same "
            "device"
        )
    if not tensor_same_shape(g, t):
        raise RuntimeError(
            f"attempting to assign a gradient of size '{list(tensor_shape(g))}' to a tensor of "
            "size "
            f"'{list(tensor_shape(t))}'. Please ensure that the gradient and the tensor are the "
            "same "
            "size"
        )
    incref(value)
    put(&t.grad, value)
    return 0


cdef object get_retains_grad(PyObject* self, void* closure):
    return (<Tensor>self).flags & F_RETAINS_GRAD != 0


cdef object get_output_nr(PyObject* self, void* closure):
    gradient_fn(<Tensor>self)
    return (<Tensor>self).output_nr


cdef object get_version(PyObject* self, void* closure):
    cdef Tensor t = <Tensor>self
    if t.flags & F_INFERENCE:
        raise RuntimeError("Inference tensors do not track version counter.")
    return 0 if t.flags & F_UNTRACKED else t.storage.version


cdef object get_base(PyObject* self, void* closure):
    cdef PyObject* base = (<Tensor>self).base
    return None if base is NULL else <object>base


cdef object get_data(PyObject* self, void* closure):
    cdef Tensor t = tensor_alias(<Tensor>self)
    t.flags |= F_UNTRACKED
    return t


cdef int put_data(PyObject* self, PyObject* value, void* closure) except -1:
    cdef Tensor t = <Tensor>self
    if value is NULL:
        raise RuntimeError("can't delete attribute 'data'")
    if not isinstance(<object>value, Tensor):
        raise TypeError(f"Variable data has to be a tensor, but got {type(<object>value).__name__}")
    if t.flags & F_REQUIRES_GRAD and not (
        is_floating_code((<Tensor>value).dtype) or is_complex_code((<Tensor>value).dtype)
    ):
        raise RuntimeError(
            "data set to a tensor that requires gradients must be floating point or complex dtype"
        )
    return tensor_rebind(t, <Tensor>value)


install("backward", backward)
install("requires_grad_", requires_grad_)
install("retain_grad", retain_grad)
install("register_hook", register_hook)
install("register_post_accumulate_grad_hook", register_post_accumulate_grad_hook)
install("detach_", detach_)
install("is_inference", is_inference)
install_property(
    b"requires_grad", get_requires_grad, put_requires_grad,
    b"Whether backward computes a gradient for this tensor. Can be set on leaves of a floating "
    b"point "
    b"or complex dtype.",
)
install_property(
    b"is_leaf", get_is_leaf, NULL, b"Whether the tensor was not made by a recorded operator."
)
install_property(
    b"grad_fn", get_grad_fn, NULL, b"The node that made this tensor, or None for a leaf."
)
install_property(
    b"grad", get_grad, put_grad, b"The gradient that backward accumulated, or None."
)
install_property(
    b"retains_grad", get_retains_grad, NULL, b"Whether retain_grad() was called on a non-leaf."
)
install_property(b"output_nr", get_output_nr, NULL, b"Which output of grad_fn this tensor is.")
install_property(
    b"_version", get_version, NULL, b"How often the memory was written in place."
)
install_property(b"_base", get_base, NULL, b"The tensor this is a view of, or None.")
install_property(
    b"data", get_data, put_data,
    b"The same memory without history; writes to it are not noticed by autograd.",
)
