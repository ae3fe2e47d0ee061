"""Geometry of basic indexing.

A step may be negative, as in numpy: the view then has a negative stride. The same functions serve
the backward, which applies the saved index to a tensor of zeros.
"""
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.slice cimport PySlice_Check
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE

from vibetensor.core.errors cimport index_out_of_bounds
from vibetensor.core.tensor cimport itemsize, tensor_alias, tensor_alias_dims, tensor_update
from vibetensor.core.types cimport VT_MAX_DIMS, int64_t

cdef extern from "Python.h":
    int PySlice_Unpack(object s, Py_ssize_t* start, Py_ssize_t* stop, Py_ssize_t* step) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t n, Py_ssize_t* start, Py_ssize_t* stop,
                                     Py_ssize_t step) noexcept
    int64_t PyLong_AsLongLongAndOverflow(object i, int* overflow) except? -1
    ctypedef struct PySliceObject:
        PyObject* start
        PyObject* stop
        PyObject* step
    PyObject* Py_Ellipsis
    PyObject* Py_None


cdef struct Cursor:
    # What has been applied so far: the next input dimension, and the sizes, strides and start (in
    # elements) of the result.
    int dim
    int ndim
    int64_t offset
    int64_t sizes[64]
    int64_t strides[64]


cdef int too_many(Tensor input) except -1:
    raise IndexError(f"too many indices for tensor of dimension {input.ndim}")


cdef inline int64_t wrap_index(object item, int dim, int64_t size) except -1:
    """The place of an exact int in a dimension."""
    cdef int overflow = 0
    cdef int64_t i = PyLong_AsLongLongAndOverflow(item, &overflow)
    cdef int64_t k = i + size if i < 0 else i
    if overflow != 0:
        raise ValueError("Overflow when unpacking long long")
    if k < 0 or k >= size:
        index_out_of_bounds(i, dim, size)
    return k


cdef inline int apply_slice(object item, int64_t size, int64_t stride, int64_t* offset,
                            int64_t* new_size, int64_t* new_stride) except -1:
    cdef Py_ssize_t start = 0, stop = 0, step = 1, n
    PySlice_Unpack(item, &start, &stop, &step)
    n = PySlice_AdjustIndices(size, &start, &stop, step)
    # An empty slice that counts down may start at -1: the address must stay in the storage.
    offset[0] += (start if start > 0 else 0) * stride
    new_size[0] = n
    # Of one element or none the stride means nothing, and a huge step would overflow.
    new_stride[0] = stride * step if n > 1 or -65536 < step < 65536 else stride
    return 0


cdef Tensor select_first(Tensor input, object item):
    cdef int i
    cdef Tensor out
    cdef int64_t k
    if input.ndim == 0:
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` to convert a 0-dim "
                         "tensor to a number")
    k = wrap_index(item, 0, input.sizes[0])
    out = tensor_alias_dims(input, input.ndim - 1)
    out.data += k * input.strides[0] * itemsize(input.dtype)
    for i in range(out.ndim):
        out.sizes[i] = input.sizes[i + 1]
        out.strides[i] = input.strides[i + 1]
    tensor_update(out)
    return out


cdef Tensor slice_first(Tensor input, object item):
    cdef Tensor out
    cdef int64_t offset = 0
    if input.ndim == 0:
        raise IndexError("slice() cannot be applied to a 0-dim tensor.")
    out = tensor_alias(input)
    apply_slice(item, input.sizes[0], input.strides[0], &offset, &out.sizes[0], &out.strides[0])
    out.data += offset * itemsize(input.dtype)
    tensor_update(out)
    return out


cdef int is_basic(tuple index) noexcept:
    """The number of dimensions that a basic index consumes; -1 for any other index."""
    cdef Py_ssize_t i
    cdef int consumed = 0
    cdef PyObject* item
    for i in range(PyTuple_GET_SIZE(index)):
        item = <PyObject*>PyTuple_GET_ITEM(index, i)
        if PyLong_CheckExact(<object>item) or PySlice_Check(<object>item):
            consumed += 1
        elif item is not Py_None and item is not Py_Ellipsis:
            return -1
    return consumed


cdef inline int push(Cursor* c, int64_t size, int64_t stride) except -1:
    if c.ndim >= VT_MAX_DIMS:
        raise RuntimeError(f"a tensor has at most {VT_MAX_DIMS} dimensions")
    c.sizes[c.ndim] = size
    c.strides[c.ndim] = stride
    c.ndim += 1
    return 0


cdef inline int keep(Cursor* c, Tensor input, int count) except -1:
    """Passes `count` dimensions on as they are."""
    cdef int end = c.dim + count
    while c.dim < end:
        push(c, input.sizes[c.dim], input.strides[c.dim])
        c.dim += 1
    return 0


cdef Tensor tuple_view(Tensor input, tuple index):
    cdef Cursor c
    cdef Py_ssize_t i
    cdef PyObject* item
    cdef int64_t size = 0, stride = 0
    cdef int consumed = is_basic(index)
    cdef bint expanded = False
    cdef Tensor out
    if consumed < 0:
        return None
    if consumed > input.ndim:
        too_many(input)
    c.dim = c.ndim = 0
    c.offset = 0
    for i in range(PyTuple_GET_SIZE(index)):
        item = <PyObject*>PyTuple_GET_ITEM(index, i)
        if PySlice_Check(<object>item):
            apply_slice(<object>item, input.sizes[c.dim], input.strides[c.dim], &c.offset, &size,
                        &stride)
            push(&c, size, stride)
            c.dim += 1
        elif PyLong_CheckExact(<object>item):
            c.offset += wrap_index(<object>item, c.dim, input.sizes[c.dim]) * input.strides[c.dim]
            c.dim += 1
        elif item is Py_None:
            # The stride of a dimension of size one is free; this one keeps the view contiguous.
            push(&c, 1, input.sizes[c.dim] * input.strides[c.dim] if c.dim < input.ndim else 1)
        elif not expanded:
            expanded = True
            keep(&c, input, input.ndim - consumed)
    keep(&c, input, input.ndim - c.dim)
    out = tensor_alias_dims(input, c.ndim)
    out.data += c.offset * itemsize(input.dtype)
    for i in range(c.ndim):
        out.sizes[i] = c.sizes[i]
        out.strides[i] = c.strides[i]
    tensor_update(out)
    return out


cdef Tensor basic_view(Tensor input, object index):
    if PyLong_CheckExact(index):
        return select_first(input, index)
    if PySlice_Check(index):
        return slice_first(input, index)
    if PyTuple_CheckExact(index):
        return tuple_view(input, <tuple>index)
    if index is None or index is Ellipsis:
        return tuple_view(input, (index,))
    return None


cdef inline bint is_plain(PyObject* bound) noexcept:
    return bound is Py_None or PyLong_CheckExact(<object>bound)


cdef inline bint is_frozen(object index) noexcept:
    cdef PySliceObject* s = <PySliceObject*><PyObject*>index
    return not PySlice_Check(index) or (
        is_plain(s.start) and is_plain(s.stop) and is_plain(s.step))


cdef object freeze_index(object index):
    cdef Py_ssize_t start = 0, stop = 0, step = 1
    if PyTuple_CheckExact(index):
        for item in <tuple>index:
            if not is_frozen(item):
                return tuple([freeze_index(item) for item in <tuple>index])
        return index
    if is_frozen(index):
        return index
    PySlice_Unpack(index, &start, &stop, &step)
    return slice(start, stop, step)
