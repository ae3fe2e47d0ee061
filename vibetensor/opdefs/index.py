"""Indexing, gathering, joining, sorting."""
from __future__ import annotations

from . import Scalar, Tensor, composite, handwritten, kernel, manual


@kernel(surfaces=("vt", "Tensor", "out"), values=("int dim",), differentiable=("input",))
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim=0``; `index` is int64 with the rank of `input`."""


@gather.prepare
def _(input, dim, index):
    dim = wrap_dim(dim, input.ndim)
    index = long_index("gather", index)
    check_gather("gather", input, dim, index)
    return tensor_new_like(index, input.dtype)


@gather.grad
def _(grad, input_shape, dim, index):
    return scatter_add(new_zeros(grad, input_shape), dim, index, grad)


@kernel(
    surfaces=("vt", "Tensor", "inplace", "out"), values=("int dim",), mutates=True,
    differentiable=("input", "src"),
)
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with the elements of `src` added at the places that `index` names along `dim`."""


@scatter_add.prepare
def _(input, dim, index, src):
    dim = wrap_dim(dim, input.ndim)
    index = long_index("scatter_add", index)
    check_scatter("scatter_add", input, dim, index, src)


@scatter_add.grad
def _(grad, dim, index):
    return grad, gather(grad, dim, index)


@kernel(
    "scatter", surfaces=("inplace",), values=("int dim",), mutates=True, differentiable=("input", "src"),
    node="Scatter",
)
def _scatter(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with the elements of `src` written at the places that `index` names along `dim`."""


@_scatter.prepare
def _(input, dim, index, src):
    dim = wrap_dim(dim, input.ndim)
    index = long_index("scatter", index)
    check_scatter("scatter", input, dim, index, src)


@_scatter.grad
def _(grad, dim, index):
    return _scatter(grad, dim, index, new_zeros(grad, tensor_shape(index))), gather(grad, dim, index)


@composite(surfaces=("vt", "Tensor"))
def scatter(
    input: Tensor, dim: int, index: Tensor, src: object = None, *, value: object = None
) -> Tensor:
    """`input` with `src` (a tensor or a number; or `value`, a number) written at the places that `index`
    names along `dim`."""
    return _scatter(input, dim, index, scatter_source(input, index, src, value))


@composite(surfaces=("Tensor",))
def scatter_(
    input: Tensor, dim: int, index: Tensor, src: object = None, *, value: object = None
) -> Tensor:
    """The same in place."""
    return _scatter_(input, dim, index, scatter_source(input, index, src, value))


@kernel(surfaces=("vt", "Tensor", "out"), values=("int dim",), differentiable=("input",))
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of `input` along `dim` that the 1-d `index` (int32 or int64) names."""


@index_select.prepare
def _(input, dim, index):
    dim = wrap_dim(dim, input.ndim)
    check_index_vector("index_select", index)
    return index_select_output(input, dim, index)


@index_select.grad
def _(grad, input_shape, dim, index):
    return index_add(new_zeros(grad, input_shape), dim, index, grad)


@kernel(
    surfaces=("vt", "Tensor", "inplace", "out"), values=("int dim", "scalar alpha"), mutates=True,
    differentiable=("input", "source"),
)
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Scalar = 1) -> Tensor:
    """`input` with ``alpha * source`` added to the slices along `dim` that `index` names."""


@index_add.prepare
def _(input, dim, index, source, alpha):
    dim = wrap_dim(dim, input.ndim)
    check_index_vector("index_add", index)
    check_index_add(input, dim, index, source)
    check_fill(alpha, input.dtype)


@index_add.grad
def _(grad, dim, index, alpha):
    return grad, index_select(grad, dim, index) * alpha


@manual(surfaces=(), differentiable=("input",))
def index(input: Tensor, indices: list[Tensor | None]) -> Tensor:
    """``input[indices]`` for int64 index tensors, None for a full slice; numpy's rules."""


@index.grad
def _(grad, input_shape, indices):
    return index_put_(new_zeros(grad, input_shape), indices, grad, True)


@manual(
    surfaces=("vt", "Tensor", "inplace", "vt_"), differentiable=("input", "values"), mutates=True
)
def index_put(
    input: Tensor, indices: list[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    """`input` with `values` written to (or added to) ``input[indices]``; deterministic."""


@index_put.grad
def _(grad, indices, accumulate):
    return (
        grad if accumulate else index_put(grad, indices, new_zeros(grad, ()), False),
        index(grad, indices),
    )


@handwritten(surfaces=("vt", "Tensor"))
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Tensor:
    """The indices of the non-zero elements: int64 of shape (count, rank), or one vector per
    dimension."""


@manual(surfaces=())
def find(input: Tensor) -> Tensor:
    """The indices of the non-zero elements, (count, rank)."""


@composite(surfaces=("vt", "Tensor"))
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where `mask`, as a vector."""
    return masked_select_composite(input, mask)


@kernel(values=("tensors tensors", "int dim"), surfaces=(), node="Cat")
def _cat(tensors: list[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one dtype joined along `dim`."""


@_cat.prepare
def _(tensors, dim):
    return cat_output(tensors, dim)


@_cat.grad
def _(grad, dim, lengths="cat_lengths(tensors, dim)"):
    return _split(grad, lengths, dim)


@composite(surfaces=("vt", "out"), aliases=("concat", "concatenate"))
def cat(tensors: list[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along `dim`; dtypes are promoted, empty vectors skipped.

    >>> vt.cat([vt.zeros(1), vt.ones(2)])
    tensor([0., 1., 1.])
    """
    return cat_composite(tensors, dim)


@composite(surfaces=("vt", "out"))
def stack(tensors: list[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension `dim`."""
    return stack_composite(tensors, dim)


@composite(surfaces=("vt", "Tensor"))
def split(input: Tensor, split_size_or_sections: int | list[int], dim: int = 0) -> list[Tensor]:
    """Views of consecutive pieces along `dim`: all of one size but the last, or of given sizes."""
    return _split(input, split_sizes(input, split_size_or_sections, dim), dim)


@composite(surfaces=("vt", "Tensor"))
def chunk(input: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    """At most `chunks` views of consecutive pieces of equal size along `dim`."""
    return _split(input, chunk_sizes(input, chunks, dim), dim)


@kernel(
    surfaces=(), outputs=("values", "indices"), values=("int dim", "int descending", "int stable"),
    node="Sort",
)
def _sort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> tuple[Tensor, Tensor]:
    """Sorted values and their indices along `dim`; NaN counts as largest."""


@_sort.prepare
def _(input, dim, descending, stable):
    dim = wrap_dim(dim, input.ndim)
    check_sort(input)
    return tensor_empty_like(input, input.dtype), tensor_empty_like(input, VT_I64)


@_sort.grad
def _(grad, input_shape, indices, dim):
    return scatter_add(new_zeros(grad, input_shape), dim, indices, grad)


@handwritten(surfaces=("vt", "Tensor"))
def sort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> tuple[Tensor, Tensor]:
    """Named tuple (values, indices): `input` sorted along `dim`; NaN counts as largest."""


@handwritten(surfaces=("vt", "Tensor"))
def max(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The largest element, or the named tuple (values, indices) along `dim`; NaN wins."""


@handwritten(surfaces=("vt", "Tensor"))
def min(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The smallest element, or the named tuple (values, indices) along `dim`; NaN wins."""


@handwritten(surfaces=("vt", "Tensor"))
def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Tensor, Tensor]:
    """Named tuple (values, indices): the `k` largest (or smallest) elements along `dim`."""


@composite(surfaces=("vt", "Tensor"))
def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> Tensor:
    """The indices that sort `input` along `dim`."""
    return _sort(input, dim, descending, stable)[1]


@kernel(
    surfaces=(), outputs=("values", "indices"), node="Topk",
    values=("int k", "int dim", "int largest", "int sorted"),
)
def _topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Tensor, Tensor]:
    """The `k` largest (or smallest) values along `dim`, and their indices."""


@_topk.prepare
def _(input, k, dim, largest, sorted):
    dim = wrap_dim(dim, input.ndim)
    check_topk(input, k, dim)
    return resized(input, dim, k, input.dtype), resized(input, dim, k, VT_I64)


@_topk.grad
def _(grad, input_shape, indices, dim):
    return scatter_add(new_zeros(grad, input_shape), dim, indices, grad)


@kernel(surfaces=(), values=("int dim",), node="Cumsum")
def _cumsum(input: Tensor, dim: int) -> Tensor:
    """The running sum along `dim`."""


@_cumsum.prepare
def _(input, dim):
    dim = wrap_dim(dim, input.ndim)
    return tensor_empty_like(input, VT_I64 if input.dtype < VT_F16 else input.dtype)


@_cumsum.grad
def _(grad, dim):
    return flip_along(cumsum(flip_along(grad, dim), dim), dim)


@kernel("one_hot", surfaces=(), values=("int num_classes",))
def _one_hot(input: Tensor, num_classes: int) -> Tensor:
    """Rows of zeros with a one at the place that `input` names."""


@_one_hot.prepare
def _(input, num_classes):
    return tensor_empty(
        tensor_shape(input) + (num_classes,), VT_I64, input.device_type, input.device_index
    )


@kernel("count_nonzero", surfaces=(), values=())
def _count_nonzero(input: Tensor) -> Tensor:
    """The number of non-zero elements, int64."""


@_count_nonzero.prepare
def _(input):
    return tensor_empty((), VT_I64, input.device_type, input.device_index)


@kernel("nonzero", surfaces=(), values=())
def _nonzero(input: Tensor, count: int) -> Tensor:
    """The indices of the `count` non-zero elements, (count, rank)."""


@_nonzero.prepare
def _(input, count):
    return tensor_empty((count, input.ndim), VT_I64, input.device_type, input.device_index)


@kernel("index", surfaces=(), values=("tensors indices",))
def _index(
    input: Tensor, indices: list[Tensor | None], shape: list[int], order: list[int]
) -> Tensor:
    """The canonical advanced read (ops/manual.pyx); `shape` is the result's, `order` where each
    canonical dimension stands in it (None: in order)."""


@_index.prepare
def _(input, indices, shape, order):
    return index_output(input, shape, order)


@kernel("index_put", surfaces=(), values=("tensors indices", "int accumulate"), mutates=True)
def _index_put_(
    input: Tensor, values: Tensor, indices: list[Tensor | None], accumulate: bool
) -> Tensor:
    """The canonical advanced write."""
