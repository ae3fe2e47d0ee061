"""Geometry of the view operators (see views.pxd)."""
from libc.string cimport memcpy

from vibetensor.core.errors cimport wrong_dim
from vibetensor.core.geometry cimport extent, product, view_strides
from vibetensor.core.tensor cimport (
    F_CONTIGUOUS, fill_sizes, itemsize, tensor_alias, tensor_alias_dims, tensor_shape,
    tensor_update,
)
from vibetensor.core.types cimport *


cdef int wrap_dim(int64_t dim, int ndim) except -1:
    cdef int64_t limit = ndim if ndim > 0 else 1
    if dim < -limit or dim >= limit:
        wrong_dim(dim, limit)
    return <int>(dim + limit if dim < 0 else dim)


cdef int wrap_new_dim(int64_t dim, int ndim) except -1:
    return wrap_dim(dim, ndim + 1)


cdef int sizes_from(tuple size, int64_t* out) except -1:
    cdef Py_ssize_t n = len(size), i
    if n > VT_MAX_DIMS:
        raise RuntimeError(f"a tensor has at most {VT_MAX_DIMS} dimensions, got {n}")
    for i in range(n):
        out[i] = size[i]
    return <int>n


cdef Tensor as_strided_view(Tensor input, tuple size, tuple stride, object storage_offset):
    cdef int64_t sizes[VT_MAX_DIMS]
    cdef int64_t steps[VT_MAX_DIMS]
    cdef int64_t low, high, offset, width = itemsize(input.dtype)
    cdef int n, i
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    n = sizes_from(size, sizes)
    sizes_from(stride, steps)
    if storage_offset is None:
        offset = (input.data - input.storage.data) // width
    else:
        offset = storage_offset
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    for i in range(n):
        if sizes[i] < 0:
            raise RuntimeError(
                f"as_strided(): size must be non-negative, got {sizes[i]} at dimension {i}"
            )
    if product(n, sizes) != 0:
        if not extent(n, sizes, steps, &low, &high):
            raise RuntimeError(
                f"as_strided(): sizes {list(size)} and strides {list(stride)} overflow"
            )
        if (
            offset + low < 0 or offset > <int64_t>(input.storage.nbytes // width)
            or high >= <int64_t>(input.storage.nbytes // width) - offset
        ):
            raise RuntimeError(
                f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, "
                f"and itemsize {width} requiring a storage size of "
                f"{(int(offset) + int(high) + 1) * width} are out of bounds for storage of size "
                f"{input.storage.nbytes}"
            )
    cdef Tensor out = tensor_alias_dims(input, n)
    memcpy(out.sizes, sizes, n * sizeof(int64_t))
    memcpy(out.strides, steps, n * sizeof(int64_t))
    out.data = input.storage.data + offset * width
    tensor_update(out)
    return out


cdef int resolve_size(Tensor input, int n, int64_t* out) except -1:
    """Replaces the one -1 in `out`, the sizes asked for; raises where the elements do not fit."""
    cdef int i, unknown = -1
    cdef int64_t known = 1
    for i in range(n):
        if out[i] == -1:
            if unknown >= 0:
                raise RuntimeError("only one dimension can be inferred")
            unknown = i
        elif out[i] < 0:
            raise RuntimeError(f"invalid shape dimension {out[i]}")
        else:
            known *= out[i]
    if unknown >= 0:
        if known == 0:
            if input.numel == 0:
                raise RuntimeError(
                    f"cannot reshape tensor of 0 elements into shape {list(fill_sizes(n, out))} "
                    f"because the unspecified dimension size -1 can be any value and is ambiguous"
                )
        elif input.numel % known == 0:
            out[unknown] = input.numel // known
            return 0
    elif known == input.numel:
        return 0
    raise RuntimeError(
        f"shape '{list(fill_sizes(n, out))}' is invalid for input of size {input.numel}"
    )


cdef tuple infer_size(Tensor input, tuple size):
    cdef int64_t sizes[VT_MAX_DIMS]
    cdef int n = sizes_from(size, sizes)
    resolve_size(input, n, sizes)
    return fill_sizes(n, sizes)


cdef bint can_view(Tensor input, tuple size) except -1:
    cdef int64_t sizes[VT_MAX_DIMS]
    cdef int64_t steps[VT_MAX_DIMS]
    cdef int n = sizes_from(size, sizes)
    resolve_size(input, n, sizes)
    return input.flags & F_CONTIGUOUS or view_strides(
        input.ndim, input.sizes, input.strides, input.numel, n, sizes, steps
    )


cdef Tensor view_view(Tensor input, tuple size):
    cdef int64_t sizes[VT_MAX_DIMS]
    return view_by_sizes(input, sizes_from(size, sizes), sizes)


cdef Tensor view_by_sizes(Tensor input, int n, int64_t* sizes):
    cdef int64_t step = 1
    cdef int i
    cdef Tensor out
    resolve_size(input, n, sizes)
    out = tensor_alias_dims(input, n)
    if rows_in_order(input):
        for i in range(n - 1, -1, -1):
            out.sizes[i] = sizes[i]
            out.strides[i] = step
            step *= sizes[i]
        out.flags |= F_CONTIGUOUS
        return out
    memcpy(out.sizes, sizes, n * sizeof(int64_t))
    if not view_strides(input.ndim, input.sizes, input.strides, input.numel, n, sizes, out.strides):
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension "
            "spans across two contiguous subspaces). Use .reshape(...) instead."
        )
    tensor_update(out)
    return out


cdef inline bint rows_in_order(Tensor t) noexcept:
    """Whether any view of `t` has the usual strides; those of unit dimensions may be odd."""
    return (
        t.flags & F_CONTIGUOUS and t.numel > 0 and t.ndim > 0 and t.strides[t.ndim - 1] == 1
    )


cdef Tensor view_dtype_view(Tensor input, int dtype):
    cdef int64_t old = itemsize(input.dtype), new = itemsize(dtype)
    cdef int last = input.ndim - 1, i
    cdef int64_t offset
    cdef Tensor out
    if old != new:
        if input.ndim == 0:
            raise RuntimeError(
                f"self.dim() cannot be 0 to view {input.dtype} as another width (different element sizes)"
            )
        if input.strides[last] != 1:
            raise RuntimeError(
                f"self.stride(-1) must be 1 to view a tensor as a dtype of another width, but got "
                f"{input.strides[last]}"
            )
        offset = (input.data - input.storage.data) // old
        for i in range(last):
            if input.strides[i] * old % new != 0:
                raise RuntimeError(
                    f"self.stride({i}) must be divisible by {new // old} to view a tensor as a wider dtype"
                )
        if input.sizes[last] * old % new != 0 or offset * old % new != 0:
            raise RuntimeError(
                f"self.size(-1) and the storage offset must be divisible by {new // old} to view a tensor "
                f"as a wider dtype, but got size {input.sizes[last]}"
            )
    out = tensor_alias(input)
    out.dtype = <uint8_t>dtype
    if old != new:
        for i in range(last):
            out.strides[i] = input.strides[i] * old // new
        out.sizes[last] = input.sizes[last] * old // new
        tensor_update(out)
    return out


cdef Tensor permute_view(Tensor input, tuple dims):
    cdef int n = input.ndim, i, d
    cdef uint64_t seen = 0
    cdef Tensor out
    if len(dims) != n:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the "
            f"length of the desired ordering of dimensions i.e. input.dim() = {n} is not equal to "
            f"len(dims) = {len(dims)}"
        )
    out = tensor_alias(input)
    for i in range(n):
        d = wrap_dim(dims[i], n)
        if seen >> d & 1:
            raise RuntimeError("permute(): duplicate dims are not allowed.")
        seen |= <uint64_t>1 << d
        out.sizes[i] = input.sizes[d]
        out.strides[i] = input.strides[d]
    tensor_update(out)
    return out


cdef Tensor transpose_view(Tensor input, int64_t dim0, int64_t dim1):
    cdef int a = wrap_dim(dim0, input.ndim), b = wrap_dim(dim1, input.ndim)
    cdef Tensor out = tensor_alias(input)
    if a == b:
        return out
    out.sizes[a] = input.sizes[b]
    out.sizes[b] = input.sizes[a]
    out.strides[a] = input.strides[b]
    out.strides[b] = input.strides[a]
    tensor_update(out)
    return out


cdef Tensor t_view(Tensor input):
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose_view(input, 0, 1) if input.ndim == 2 else tensor_alias(input)


cdef Tensor expand_view(Tensor input, tuple size):
    cdef int64_t sizes[VT_MAX_DIMS]
    cdef int n = sizes_from(size, sizes), lead = n - input.ndim, i
    cdef Tensor out
    if lead < 0:
        raise RuntimeError(
            f"expand({list(size)}, size={list(tensor_shape(input))}): the number of sizes provided "
            f"({n}) must be greater or equal to the number of dimensions in the tensor "
            f"({input.ndim})"
        )
    for i in range(n):
        if i < lead:
            if sizes[i] < 0:
                raise RuntimeError(
                    f"The expanded size of the tensor ({sizes[i]}) isn't allowed in a leading, "
                    f"non-existing dimension {i}"
                )
        elif sizes[i] == -1:
            sizes[i] = input.sizes[i - lead]
        elif sizes[i] != input.sizes[i - lead] and input.sizes[i - lead] != 1 or sizes[i] < 0:
            raise RuntimeError(
                f"The expanded size of the tensor ({sizes[i]}) must match the existing size "
                f"({input.sizes[i - lead]}) at non-singleton dimension {i}.  Target sizes: "
                f"{list(size)}.  Tensor sizes: {list(tensor_shape(input))}"
            )
    out = tensor_alias_dims(input, n)
    for i in range(n):
        out.sizes[i] = sizes[i]
        if i < lead or (input.sizes[i - lead] == 1 and sizes[i] != 1):
            out.strides[i] = 0
        else:
            out.strides[i] = input.strides[i - lead]
    tensor_update(out)
    return out


cdef Tensor squeeze_view(Tensor input, object dim):
    cdef uint64_t mask = 0
    cdef int i, j = 0
    if dim is None:
        mask = ~<uint64_t>0
    else:
        for d in (dim if isinstance(dim, (tuple, list)) else (dim,)):
            i = wrap_dim(d, input.ndim)
            if mask >> i & 1:
                raise RuntimeError(f"dim {i} appears multiple times in the list of dims")
            mask |= <uint64_t>1 << i
    cdef Tensor out = tensor_alias(input)
    for i in range(input.ndim):
        if mask >> i & 1 and input.sizes[i] == 1:
            continue
        out.sizes[j] = input.sizes[i]
        out.strides[j] = input.strides[i]
        j += 1
    out.ndim = <uint8_t>j
    return out


cdef Tensor unsqueeze_view(Tensor input, int64_t dim):
    cdef int n = input.ndim, d = wrap_new_dim(dim, n), i
    cdef Tensor out = tensor_alias_dims(input, n + 1)
    for i in range(d):
        out.sizes[i] = input.sizes[i]
        out.strides[i] = input.strides[i]
    out.sizes[d] = 1
    out.strides[d] = input.sizes[d] * input.strides[d] if d < n else 1
    for i in range(d, n):
        out.sizes[i + 1] = input.sizes[i]
        out.strides[i + 1] = input.strides[i]
    out.flags |= input.flags & F_CONTIGUOUS
    return out


cdef void drop_dim(Tensor out, int d) noexcept:
    cdef int i
    for i in range(d, out.ndim - 1):
        out.sizes[i] = out.sizes[i + 1]
        out.strides[i] = out.strides[i + 1]
    out.ndim -= 1
    tensor_update(out)


cdef Tensor select_view(Tensor input, int64_t dim, int64_t index):
    cdef int d
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input.ndim)
    if index < -input.sizes[d] or index >= input.sizes[d]:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size "
            f"{list(tensor_shape(input))} at dimension {d}"
        )
    if index < 0:
        index += input.sizes[d]
    cdef Tensor out = tensor_alias(input)
    out.data += index * input.strides[d] * itemsize(input.dtype)
    drop_dim(out, d)
    return out


cdef Tensor slice_view(Tensor input, int64_t dim, object start, object end, int64_t step):
    cdef int d = wrap_dim(dim, input.ndim)
    cdef int64_t size, lo, hi
    if input.ndim == 0:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    if step == 0:
        raise RuntimeError("slice step cannot be zero")
    size = input.sizes[d]
    lo, hi, _ = slice(start, end, step).indices(size)
    cdef Tensor out = tensor_alias(input)
    out.sizes[d] = max(0, (hi - lo + step - 1) // step if step > 0 else (lo - hi - step - 1) // -step)
    if out.sizes[d] > 0:
        out.data += lo * input.strides[d] * itemsize(input.dtype)
    out.strides[d] = input.strides[d] * step
    tensor_update(out)
    return out


cdef Tensor narrow_view(Tensor input, int64_t dim, int64_t start, int64_t length):
    cdef int d
    cdef int64_t size
    if input.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input.ndim)
    size = input.sizes[d]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if start < -size or start > size:
        raise IndexError(
            f"start out of range (expected to be in range of [{-size}, {size}], but got {start})"
        )
    if start < 0:
        start += size
    if start + length > size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    cdef Tensor out = tensor_alias(input)
    out.data += start * input.strides[d] * itemsize(input.dtype)
    out.sizes[d] = length
    tensor_update(out)
    return out


cdef tuple flatten_size(Tensor input, int64_t start_dim, int64_t end_dim):
    cdef int a = wrap_dim(start_dim, input.ndim), b = wrap_dim(end_dim, input.ndim), i
    cdef int64_t merged = 1
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if input.ndim == 0:
        return (1,)
    for i in range(a, b + 1):
        merged *= input.sizes[i]
    shape = tensor_shape(input)
    return shape[:a] + (merged,) + shape[b + 1:]


cdef Tensor flatten_view(Tensor input, int64_t start_dim, int64_t end_dim):
    return view_view(input, flatten_size(input, start_dim, end_dim))


cdef Tensor diagonal_view(Tensor input, int64_t offset, int64_t dim1, int64_t dim2):
    cdef int a = wrap_dim(dim1, input.ndim), b = wrap_dim(dim2, input.ndim)
    cdef int64_t rows, cols, length, step
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    rows = input.sizes[a]
    cols = input.sizes[b]
    length = min(rows, cols - offset) if offset >= 0 else min(rows + offset, cols)
    step = input.strides[a] + input.strides[b]
    cdef Tensor out = tensor_alias(input)
    if length > 0:
        out.data += (
            offset * input.strides[b] if offset >= 0 else -offset * input.strides[a]
        ) * itemsize(input.dtype)
    drop_dim(out, max(a, b))
    drop_dim(out, min(a, b))
    cdef Tensor result = tensor_alias_dims(out, out.ndim + 1)
    memcpy(result.sizes, out.sizes, out.ndim * sizeof(int64_t))
    memcpy(result.strides, out.strides, out.ndim * sizeof(int64_t))
    result.sizes[out.ndim] = max(length, 0)
    result.strides[out.ndim] = step
    tensor_update(result)
    return result


cdef Tensor view_as_real_view(Tensor input):
    if input.dtype < VT_C64:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    cdef Tensor out = tensor_alias_dims(input, input.ndim + 1)
    cdef int i
    for i in range(input.ndim):
        out.sizes[i] = input.sizes[i]
        out.strides[i] = 2 * input.strides[i]
    out.sizes[input.ndim] = 2
    out.strides[input.ndim] = 1
    out.dtype = VT_F32 if input.dtype == VT_C64 else VT_F64
    tensor_update(out)
    return out


cdef Tensor alias_view(Tensor input):
    return tensor_alias(input)


cdef tuple split_view(Tensor input, tuple sizes, int64_t dim):
    cdef int64_t start = 0
    pieces = []
    for n in sizes:
        pieces.append(narrow_view(input, dim, start, n))
        start += n
    return tuple(pieces)


cdef tuple unbind_view(Tensor input, int64_t dim):
    cdef int d
    if input.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    d = wrap_dim(dim, input.ndim)
    return tuple([select_view(input, d, i) for i in range(input.sizes[d])])
