"""Reading and writing ``x[index]``.

A basic index (ints, slices, None, Ellipsis) gives one view with one autograd node, whatever the
number of its parts. Any other index goes through `advanced_index`: the basic part first, then the
operators `index` and `index_put_`.
"""
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.slice cimport PySlice_Check

from vibetensor.autograd.node cimport (
    Node, needs_grad, node_edge, node_new, node_save_object, node_saved_object, set_history,
    set_view,
)
from vibetensor.core.advanced_index cimport AdvancedIndex, parse_advanced
from vibetensor.core.basic_index cimport basic_view, freeze_index
from vibetensor.core.dtype cimport dtype_scalar_name
from vibetensor.core.scalar cimport check_fits, item_of
from vibetensor.core.tensor cimport (
    Tensor, tensor_new, tensor_shape, tensor_wrap_number,
)
from vibetensor.core.types cimport VT_I64, int64_t, vt_grad_enabled
from vibetensor.ops.entries cimport (
    op__fill_, op_copy_, op_index, op_index_put_, op_masked_fill_, op_view, op_zero_,
)

cdef enum:
    INLINE_RANK = 7  # input sizes that fit in the words of the node, beside the rank itself


cdef int index_backward(Node node, PyObject** grads, PyObject** out) except -1:
    """The gradient lies in zeros of the input's shape, at the same index."""
    cdef Tensor grad, zeros, place
    cdef object index = node_saved_object(node, 0)
    if grads[0] is NULL:
        return 0
    grad = <Tensor>grads[0]
    zeros = zeros_of_input(node, grad)
    place = basic_view(zeros, index)
    if vt_grad_enabled() and needs_grad(grad):
        record(zeros, place, index)
    op_copy_(place, grad, False)
    Py_INCREF(zeros)
    out[0] = <PyObject*>zeros
    return 0


cdef Tensor zeros_of_input(Node node, Tensor grad):
    cdef int64_t sizes[64]
    cdef int i, ndim
    cdef object shape = node_saved_object(node, 1)
    if shape is None:
        ndim = <int>node.words[INLINE_RANK].i
        for i in range(ndim):
            sizes[i] = node.words[i].i
    else:
        ndim = <int>len(<tuple>shape)
        for i in range(ndim):
            sizes[i] = (<tuple>shape)[i]
    return op_zero_(tensor_new(ndim, sizes, grad.dtype, grad.device_type, grad.device_index))


cdef const char* node_name(object index) noexcept:
    """Named after the last of the operations that PyTorch would apply."""
    cdef object last = index
    if isinstance(index, tuple):
        last = (<tuple>index)[len(<tuple>index) - 1] if len(<tuple>index) > 0 else None
        if last is Ellipsis:
            return b"AliasBackward0"
    if PyLong_CheckExact(last):
        return b"SelectBackward0"
    if PySlice_Check(last):
        return b"SliceBackward0"
    return b"UnsqueezeBackward0" if last is None else b"AliasBackward0"


cdef int record(Tensor self, Tensor view, object index) except -1:
    """Makes `view` a view of self, with the node whose backward `index` describes."""
    cdef Node node
    cdef int i
    set_view(view, self)
    if not (vt_grad_enabled() and needs_grad(self)):
        return 0
    node = node_new(index_backward, node_name(index), 1, 2, 1)
    node_edge(node, 0, self)
    node_save_object(node, 0, freeze_index(index))
    if self.ndim <= INLINE_RANK:
        for i in range(self.ndim):
            node.words[i].i = self.sizes[i]
        node.words[INLINE_RANK].i = self.ndim
        node_save_object(node, 1, None)
    else:
        node_save_object(node, 1, tensor_shape(self))
    return set_history(view, node, 0)


cdef object getitem(Tensor self, object index):
    cdef Tensor view = basic_view(self, index)
    cdef AdvancedIndex a
    if view is not None:
        record(self, view, index)
        return view
    if isinstance(index, Tensor) and (<Tensor>index).dtype == VT_I64 and (<Tensor>index).ndim > 0:
        return op_index(self, (index,))
    a = parse_advanced(self, index)
    view = recorded_view(self, a)
    a.expand_masks(view)
    return view if a.tensors is None else op_index(view, a.tensors)


cdef Tensor recorded_view(Tensor self, AdvancedIndex a):
    """What the basic part of an advanced index leaves."""
    cdef Tensor view
    if a.basic is None:
        if a.indices is not None:
            return self
        a.basic = (Ellipsis,)
    view = basic_view(self, a.basic)
    record(self, view, a.basic)
    return view


# --- writing --------------------------------------------------------------------------------------

cdef int setitem(Tensor self, object index, object value) except -1:
    cdef Tensor view = basic_view(self, index)
    cdef AdvancedIndex a
    if view is not None:
        record(self, view, index)
        assign(view, value)
        return 0
    a = parse_advanced(self, index)
    view = recorded_view(self, a)
    if a.indices is None:
        assign(view, value)
        return 0
    if a.is_one_mask() and is_scalar(value):
        if isinstance(value, Tensor):
            value = op_view(<Tensor>value, ())
        op_masked_fill_(view, a.broadcast_mask(view), as_scalar(view, value))
        return 0
    a.expand_masks(view)
    if not isinstance(value, Tensor):
        value = number_of_dtype(view, value)
    op_index_put_(view, a.tensors, drop_leading_ones(<Tensor>value), False)
    return 0


cdef inline bint is_scalar(object value) noexcept:
    """A number, or a tensor of one element, which a mask writes with conversion as a number."""
    return (<Tensor>value).numel == 1 if isinstance(value, Tensor) else True


cdef int assign(Tensor view, object value) except -1:
    """Broadcasts a tensor or a number into a view."""
    cdef Tensor t
    if isinstance(value, Tensor):
        t = <Tensor>value
        if t.ndim > view.ndim:
            t = drop_leading_ones(t)
        op_copy_(view, t, False)
    else:
        op__fill_(view, checked_number(view, value))
    return 0


cdef object checked_number(Tensor self, object value):
    """`value` as a Python number that the dtype of `self` can hold."""
    cdef Tensor number
    if PyFloat_CheckExact(value) or PyLong_CheckExact(value):
        if PyLong_CheckExact(value) and not -9223372036854775808 <= value <= 9223372036854775807:
            raise ValueError("Overflow when unpacking long long")
        check_fits(value, self.dtype)
        return value
    number = tensor_wrap_number(value)
    if number is None:
        raise TypeError(f"can't assign a {type(value).__name__} to a "
                        f"vibetensor.{dtype_scalar_name(self.dtype)}Tensor")
    value = item_of(number)
    check_fits(value, self.dtype)
    return value


cdef Tensor as_scalar(Tensor self, object value):
    """A number as a 0-d tensor that yields in promotion; a tensor itself."""
    return value if isinstance(value, Tensor) else tensor_wrap_number(checked_number(self, value))


cdef Tensor number_of_dtype(Tensor self, object value):
    """A 0-d tensor like `self` that holds a Python number."""
    return op__fill_(tensor_new(0, NULL, self.dtype, self.device_type, self.device_index),
                     checked_number(self, value))


cdef Tensor drop_leading_ones(Tensor value):
    """`value` without its leading dimensions of size one, which broadcasting would add."""
    cdef int skip = 0
    while skip < value.ndim and value.sizes[skip] == 1:
        skip += 1
    if skip == 0:
        return value
    index = (0,) * skip
    cdef Tensor view = basic_view(value, index)
    record(value, view, index)
    return view
