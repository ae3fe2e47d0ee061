"""Indices with tensors, lists, numpy arrays, masks and bools, mixed with basic ones.

The rules are numpy's with PyTorch's one difference: an int beside an index tensor is applied first,
as part of the basic index, and takes no part in broadcasting. A list is one index tensor, never a
tuple of indices.
"""
import warnings

from cpython.long cimport PyLong_CheckExact
from cpython.slice cimport PySlice_Check

from vibetensor.core.basic_index cimport basic_view
from vibetensor.core.factory cimport tensor_from_data
from vibetensor.core.interop cimport is_numpy_array, is_numpy_bool, tensor_from_numpy
from vibetensor.core.iterator cimport cast
from vibetensor.core.scalar cimport item_of
from vibetensor.core.tensor cimport Tensor, tensor_new, tensor_shape
from vibetensor.core.types cimport VT_BOOL, VT_CPU, VT_I32, VT_I64, VT_U8, int64_t
from vibetensor.ops.entries cimport op_find

cdef object _all = slice(None)


cdef class AdvancedIndex:
    cdef int expand_masks(self, Tensor view) except -1:
        cdef list tensors
        cdef Tensor mask, places
        cdef int j, dim
        if self.indices is None:
            return 0
        for dim, item in self.masks:
            mask = <Tensor>item
            check_mask(mask, dim, view)
            places = op_find(mask)
            for j in range(mask.ndim):
                self.indices.append((dim + j, basic_view(places, (_all, j))))
        self.masks = []
        last = max([place for place, _ in self.indices])
        tensors = [None] * (last + 1)
        for place, index in self.indices:
            tensors[place] = index
        self.tensors = tuple(tensors)
        return 0

    cdef bint is_one_mask(self):
        return len(self.masks) == 1 and not self.indices

    cdef Tensor broadcast_mask(self, Tensor view):
        cdef int dim = self.masks[0][0]
        cdef Tensor mask = <Tensor>self.masks[0][1]
        check_mask(mask, dim, view)
        return basic_view(mask, (Ellipsis,) + (None,) * (view.ndim - dim - mask.ndim))


cdef int check_mask(Tensor mask, int dim, Tensor view) except -1:
    cdef int j
    for j in range(mask.ndim):
        if mask.sizes[j] != view.sizes[dim + j]:
            raise IndexError(
                f"The shape of the mask {list(tensor_shape(mask))} at index {j} does not match the "
                f"shape of the indexed tensor {list(tensor_shape(view))} at index {dim + j}")
    return 0


cdef Tensor bool_index(bint value):
    """True takes the one element of a new dimension, False none."""
    cdef int64_t n = value
    cdef Tensor t = tensor_new(1, &n, VT_I64, VT_CPU, -1)
    if value:
        (<int64_t*>t.data)[0] = 0
    return t


cdef object normal_item(object item):
    """One part of an index as None, Ellipsis, slice, int, bool, int64 tensor or mask."""
    if PyLong_CheckExact(item) or item is None or item is Ellipsis:
        return item
    if isinstance(item, (bool, slice)):
        return item
    if isinstance(item, Tensor):
        return normal_tensor(<Tensor>item)
    if is_numpy_bool(item):
        return bool(item)
    if is_numpy_array(item):
        return normal_tensor(tensor_from_numpy(item))
    if hasattr(item, "__index__"):
        # int() of a subclass of int may be an instance of that subclass again.
        return int.__index__(item) if isinstance(item, int) else int(item.__index__())
    if isinstance(item, str):
        raise TypeError("new(): invalid data type 'str'")
    if isinstance(item, dict) or not (
            hasattr(item, "__getitem__") and hasattr(item, "__len__")):
        raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte "
                         f"Variables are valid indices (got {type(item).__name__})")
    t = tensor_from_data(item, -1)
    if (<Tensor>t).numel == 0:
        t = cast(<Tensor>t, VT_I64)  # an empty list is read as floats
    return normal_tensor(<Tensor>t)


cdef object normal_tensor(Tensor t):
    if t.dtype == VT_BOOL or t.dtype == VT_U8:
        if t.dtype == VT_U8:
            warnings.warn("indexing with dtype vibetensor.uint8 is now deprecated, please use a "
                          "dtype vibetensor.bool instead.", stacklevel=2)
        return bool(item_of(t)) if t.ndim == 0 else cast(t, VT_BOOL)
    if t.ndim == 0 and not t.is_floating_point() and not t.is_complex():
        return item_of(t)
    if t.dtype != VT_I64 and t.dtype != VT_I32:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return cast(t, VT_I64)


cdef int dims_of(object item) except -1:
    """How many dimensions of the input a normal item uses up."""
    if isinstance(item, Tensor):
        return (<Tensor>item).ndim if (<Tensor>item).dtype == VT_BOOL else 1
    return 1 if PySlice_Check(item) or PyLong_CheckExact(item) else 0


cdef AdvancedIndex parse_advanced(Tensor self, object index):
    cdef AdvancedIndex a = AdvancedIndex.__new__(AdvancedIndex)
    cdef list items, basic = []
    cdef int consumed = 0, dim = 0, used
    cdef bint expanded = False
    items = [normal_item(i) for i in (index if isinstance(index, tuple) else (index,))]
    for item in items:
        consumed += dims_of(item)
    if consumed > self.ndim:
        raise IndexError(f"too many indices for tensor of dimension {self.ndim}")
    a.indices = []
    a.masks = []
    for item in items:
        used = dims_of(item)
        if isinstance(item, Tensor):
            (a.masks if (<Tensor>item).dtype == VT_BOOL else a.indices).append((dim, item))
            basic.extend([_all] * used)
            dim += used
        elif isinstance(item, bool):
            if item is False or len(items) > 1:
                a.indices.append((dim, bool_index(item)))
            basic.append(None)
            dim += 1
        elif item is Ellipsis:
            if not expanded:
                basic.extend([_all] * (self.ndim - consumed))
                dim += self.ndim - consumed
                expanded = True
        else:
            basic.append(item)
            dim += not PyLong_CheckExact(item)
    a.basic = None if all([b is _all for b in basic]) else tuple(basic)
    if not a.indices and not a.masks:
        a.indices = a.masks = None
    return a
