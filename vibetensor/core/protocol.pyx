"""Python's own protocols on Tensor: indexing, length, iteration, truth, conversion to numbers."""
from vibetensor.core.dispatch cimport set_slot
from vibetensor.core.indexing cimport getitem, setitem
from vibetensor.core.scalar cimport item_of
from vibetensor.core.tensor cimport Tensor
from vibetensor.core.tensor import install
from vibetensor.ops.entries cimport op_unbind
from vibetensor.core.types cimport VT_C64, VT_I64, VT_META


cdef object only_number(Tensor t):
    """The only element; ValueError for any other number of them."""
    if t.numel != 1:
        raise ValueError("only one element tensors can be converted to Python scalars")
    return item_of(t)


cdef object real_number(Tensor t, str kind):
    value = only_number(t)
    if t.dtype >= VT_C64:
        if value.imag != 0:
            raise RuntimeError(f"value cannot be converted to type {kind} without overflow")
        return value.real
    return value


# --- slots: C functions of the signatures that the interpreter expects ----------------------------

cdef object slot_getitem(object self, object index):
    return getitem(<Tensor>self, index)


cdef int slot_setitem(object self, object index, object value) except -1:
    return setitem(<Tensor>self, index, value)


cdef Py_ssize_t slot_len(object self) except -1:
    if (<Tensor>self).ndim == 0:
        raise TypeError("len() of a 0-d tensor")
    return (<Tensor>self).sizes[0]


cdef object slot_iter(object self):
    cdef Tensor t = <Tensor>self
    if t.ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter(op_unbind(t, 0))


cdef int slot_bool(object self) except -1:
    cdef Tensor t = <Tensor>self
    if t.numel == 1:
        return bool(item_of(t))
    raise RuntimeError("Boolean value of Tensor with no values is ambiguous" if t.numel == 0 else
                       "Boolean value of Tensor with more than one value is ambiguous")


cdef object slot_int(object self):
    return int(real_number(<Tensor>self, "int64_t"))


cdef object slot_float(object self):
    return float(real_number(<Tensor>self, "double"))


cdef object slot_index(object self):
    if (<Tensor>self).numel != 1 or (<Tensor>self).dtype > VT_I64:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(item_of(<Tensor>self))


cdef object slot_repr(object self):
    # Loaded when first used: most programs print late, if at all.
    from vibetensor.core.printing import tensor_repr
    return tensor_repr(self)


set_slot(b"__repr__", <void*>slot_repr)
set_slot(b"__getitem__", <void*>slot_getitem)
set_slot(b"__setitem__", <void*>slot_setitem)
set_slot(b"__len__", <void*>slot_len)
set_slot(b"__iter__", <void*>slot_iter)
set_slot(b"__bool__", <void*>slot_bool)
set_slot(b"__int__", <void*>slot_int)
set_slot(b"__float__", <void*>slot_float)
set_slot(b"__index__", <void*>slot_index)


# --- methods --------------------------------------------------------------------------------------

def complex_method(Tensor self not None):
    """The only element as a Python complex."""
    return complex(only_number(self))


def reversed_method(Tensor self not None):
    """A view with the first dimension in reverse order; a 0-d tensor itself."""
    return self if self.ndim == 0 else getitem(self, slice(None, None, -1))


def format_method(Tensor self not None, str spec):
    """Formats a 0-d tensor as the number in it; any other tensor takes no format."""
    if self.ndim == 0 and self.device_type != VT_META:
        return format(item_of(self), spec)
    return object.__format__(self, spec)


cdef install_special(str name, object function):
    function.__name__ = name
    function.__qualname__ = "Tensor." + name
    install(name, function)


install_special("__complex__", complex_method)
install_special("__reversed__", reversed_method)
install_special("__format__", format_method)
