"""Tensors that are the parts of one (see packed.pxd).

One projection often makes query, key and value, and a split gives the parts out. In the backward pass
their gradients must become the gradient of the whole: if an operator writes them to one buffer in the
first place, joining them is a view.
"""
from libc.string cimport memcpy

from vibetensor.core.tensor cimport (
    itemsize, tensor_alias, tensor_alias_dims, tensor_empty, tensor_update,
)


cdef int64_t reach(Tensor t, int64_t stride) noexcept:
    """The stride behind the dimensions that follow one another densely from `stride` on."""
    cdef int i
    for _ in range(t.ndim):
        for i in range(t.ndim):
            if t.sizes[i] > 1 and t.strides[i] == stride:
                stride *= t.sizes[i]
                break
        else:
            break
    return stride


cdef bint interleaved(tuple tensors) noexcept:
    """Whether the tensors lie in one dense block: rows, in each of which the parts follow one another,
    every part dense."""
    cdef Tensor first = <Tensor>tensors[0], t
    cdef int64_t row = 0, length, total = 0
    cdef char* at = first.data
    for part in tensors:
        t = <Tensor>part
        if (
            t.storage != first.storage or t.dtype != first.dtype or t.ndim != first.ndim
            or t.numel == 0 or t.data != at
        ):
            return False
        length = reach(t, 1)  # of this part in a row
        if t.numel % length != 0 or length >= t.numel:
            return False
        at += length * itemsize(t.dtype)
        row += length
        total += t.numel
    # The other dimensions step over whole rows, and the rows follow one another.
    for part in tensors:
        if reach(<Tensor>part, row) != total:
            return False
    return True


cdef tuple packed_empty_like(tuple tensors):
    cdef Tensor first = <Tensor>tensors[0], t, like, whole
    cdef int64_t total = 0
    if not interleaved(tensors):
        return None
    for part in tensors:
        total += (<Tensor>part).numel
    whole = tensor_empty((total,), first.dtype, first.device_type, first.device_index)
    made = []
    for part in tensors:
        like = <Tensor>part
        t = tensor_alias_dims(whole, like.ndim)
        t.data = whole.data + (like.data - first.data)
        memcpy(t.sizes, like.sizes, like.ndim * sizeof(int64_t))
        memcpy(t.strides, like.strides, like.ndim * sizeof(int64_t))
        tensor_update(t)
        made.append(t)
    return tuple(made)


cdef bint alike(Tensor a, Tensor b, int but) noexcept:
    """One storage and dtype, the same strides, and the same sizes except for dimension `but`."""
    cdef int i
    if a.storage != b.storage or a.dtype != b.dtype or a.ndim != b.ndim:
        return False
    if a.grad_fn is not NULL or b.grad_fn is not NULL:
        return False
    for i in range(a.ndim):
        if a.strides[i] != b.strides[i] or (i != but and a.sizes[i] != b.sizes[i]):
            return False
    return True


cdef Tensor joined(tuple pieces, int dim):
    cdef Tensor first = <Tensor>pieces[0], t, whole
    cdef int64_t length = 0
    for piece in pieces:
        t = <Tensor>piece
        if not alike(first, t, dim):
            return None
        if t.data != first.data + length * first.strides[dim] * itemsize(first.dtype):
            return None
        length += t.sizes[dim]
    whole = tensor_alias(first)
    whole.sizes[dim] = length
    tensor_update(whole)
    return whole


cdef Tensor stacked(tuple pieces, int dim):
    cdef Tensor first = <Tensor>pieces[0], t, whole
    cdef int64_t step
    cdef int i, n = first.ndim, count = <int>len(pieces), number = 0
    if count < 2:
        return None
    step = (<Tensor>pieces[1]).data - first.data
    if step <= 0 or step % itemsize(first.dtype) != 0:
        return None
    for piece in pieces:
        t = <Tensor>piece
        if not alike(first, t, -1) or t.data != first.data + number * step:
            return None
        number += 1
    whole = tensor_alias_dims(first, n + 1)
    for i in range(n):
        whole.sizes[i + (i >= dim)] = first.sizes[i]
        whole.strides[i + (i >= dim)] = first.strides[i]
    whole.sizes[dim] = count
    whole.strides[dim] = step // itemsize(first.dtype)
    tensor_update(whole)
    return whole
