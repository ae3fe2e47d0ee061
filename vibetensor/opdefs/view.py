"""Operators whose output shares the memory of the input."""
from __future__ import annotations

from . import Tensor, dtype
from . import view as view_op


@view_op(surfaces=("vt", "Tensor"))
def as_strided(
    input: Tensor, size: list[int], stride: list[int], storage_offset: int | None = None
) -> Tensor:
    """A view of the storage with any sizes, strides and offset (in elements) that stay inside it.

    Raises RuntimeError where they do not. Negative strides are legal.
    """


@as_strided.grad
def _(
    grad, size, stride, geometry="storage_geometry(input, storage_offset)"
):
    return as_strided_backward(grad, size, stride, geometry)


@view_op(surfaces=(), node="View")
def view(input: Tensor, size: list[int]) -> Tensor:
    """The same elements in another shape, one size may be -1. Raises RuntimeError where that needs a
    copy; ``reshape`` makes one then."""


@view.grad
def _(grad, input_shape):
    return reshape(grad, input_shape)


@view_op(surfaces=())
def view_dtype(input: Tensor, dtype: dtype) -> Tensor:
    """The same memory read as another dtype; the last dimension grows or shrinks with its width."""


@view_op(varargs="dims")
def permute(input: Tensor, dims: list[int]) -> Tensor:
    """The dimensions in the order `dims`."""


@permute.grad
def _(grad, dims):
    return permute(grad, inverse_permutation(dims))


@view_op(aliases=("swapaxes", "swapdims"))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions swapped."""


@transpose.grad
def _(grad, dim0, dim1):
    return transpose(grad, dim0, dim1)


@view_op()
def t(input: Tensor) -> Tensor:
    """The transpose of a tensor with at most two dimensions."""


@t.grad
def _(grad):
    return t(grad)


@view_op(surfaces=("Tensor",), varargs="size")
def expand(input: Tensor, size: list[int]) -> Tensor:
    """Dimensions of size 1 repeated without a copy; -1 keeps a size; new dimensions go in front."""


@expand.grad
def _(grad, input_shape):
    return sum_to_size(grad, input_shape)


@view_op()
def squeeze(input: Tensor, dim: int | list[int] | None = None) -> Tensor:
    """Without the dimensions of size 1: all, or those named that have size 1."""


@squeeze.grad
def _(grad, input_shape):
    return reshape(grad, input_shape)


@view_op()
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at `dim`."""


@unsqueeze.grad
def _(grad, dim):
    return squeeze(grad, dim)


@view_op()
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice at `index` along `dim`; that dimension goes."""


@select.grad
def _(grad, input_shape, dim, index):
    return select_backward(grad, input_shape, dim, index)


@view_op(surfaces=("vt", "Tensor"))
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` elements from `start` along `dim`."""


@narrow.grad
def _(grad, input_shape, dim, start, length):
    return narrow_backward(grad, input_shape, dim, start, length)


@view_op(surfaces=(), node="Slice")
def _slice(
    input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """``input[start:end:step]`` along `dim`; negative steps are legal."""


@_slice.grad
def _(grad, input_shape, dim, start, end, step):
    return slice_backward(grad, input_shape, dim, start, end, step)


@view_op()
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of the planes of `dim1` and `dim2`, as a new last dimension."""


@diagonal.grad
def _(grad, input_shape, offset, dim1, dim2):
    return diagonal_backward(grad, input_shape, offset, dim1, dim2)


@view_op(surfaces=("vt",))
def view_as_real(input: Tensor) -> Tensor:
    """A complex tensor as a real one with a last dimension of size 2."""


@view_as_real.grad
def _(grad):
    return view_as_complex_copy(grad)


@view_op(surfaces=("Tensor",))
def alias(input: Tensor) -> Tensor:
    """The tensor itself, as a view."""


@alias.grad
def _(grad):
    return grad


@view_op(surfaces=(), node="Split")
def _split(input: Tensor, sizes: list[int], dim: int = 0) -> list[Tensor]:
    """Views of consecutive pieces along `dim`."""


@_split.grad
def _(grads, input_shape, input_dtype, sizes, dim):
    return split_backward(grads, input_shape, input_dtype, sizes, dim)


@view_op(surfaces=("vt", "Tensor"))
def unbind(input: Tensor, dim: int = 0) -> list[Tensor]:
    """The slices along `dim`, as views without it."""


@unbind.grad
def _(grads, input_shape, input_dtype, dim):
    return unbind_backward(grads, input_shape, input_dtype, dim)


