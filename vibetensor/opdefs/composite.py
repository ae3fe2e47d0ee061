"""Operators written in terms of others."""
from __future__ import annotations

from . import Number, Tensor, composite, dtype, handwritten, manual

# --- arithmetic ----------------------------------------------------------------------------------------

@composite(surfaces=("vt", "Tensor", "out"), aliases=("divide",))
def div(
    input: Tensor | Number, other: Tensor | Number, *, rounding_mode: object = None
) -> Tensor:
    """``input / other``; `rounding_mode` is None (true division), "floor" or "trunc"."""
    if rounding_mode is None:
        return true_divide(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return _trunc_divide(input, other)
    bad_rounding_mode(rounding_mode)


@composite(surfaces=("Tensor",), aliases=("divide_",))
def div_(input: Tensor, other: Tensor | Number, *, rounding_mode: object = None) -> Tensor:
    """The same in place."""
    if rounding_mode is None:
        return true_divide_(input, other)
    if rounding_mode == "floor":
        return floor_divide_(input, other)
    if rounding_mode == "trunc":
        return _trunc_divide_(input, other)
    bad_rounding_mode(rounding_mode)


@composite(surfaces=("vt", "Tensor", "out"), operators=("__pow__",))
def pow(input: Tensor | Number, exponent: Tensor | Number) -> Tensor:
    """``input ** exponent``, broadcast and promoted. An integer tensor to a negative integer number
    raises RuntimeError.

    >>> vt.tensor([3.0]) ** 2
    tensor([9.])
    """
    return pow_composite(input, exponent)


@composite(surfaces=("Tensor",))
def pow_(input: Tensor, exponent: Tensor | Number) -> Tensor:
    """``input ** exponent`` in place."""
    check_integer_power(input, exponent)
    return _pow_(input, exponent)


@manual(surfaces=("vt", "Tensor"))
def conj(input: Tensor) -> Tensor:
    """The complex conjugate: a copy, or `input` itself if it is real."""


@manual(surfaces=("vt",))
def real(input: Tensor) -> Tensor:
    """The real part: a copy, or `input` itself if it is real."""


@composite(surfaces=("vt", "Tensor", "out"), aliases=("clip",))
def clamp(
    input: Tensor, min: object = None, max: object = None
) -> Tensor:
    """`input` limited to [min, max]; bounds are numbers, tensors or None, not both None. NaN stays."""
    return clamp_composite(input, min, max)


@composite(surfaces=("Tensor",), aliases=("clip_",))
def clamp_(input: Tensor, min: object = None, max: object = None) -> Tensor:
    """The same in place."""
    return clamp_inplace(input, min, max)


@composite(surfaces=("vt", "Tensor"))
def clamp_min(input: Tensor, min: Tensor | Number) -> Tensor:
    """`input` limited from below."""
    return clamp_composite(input, min, None)


@composite(surfaces=("vt", "Tensor"))
def clamp_max(input: Tensor, max: Tensor | Number) -> Tensor:
    """`input` limited from above."""
    return clamp_composite(input, None, max)


@handwritten(surfaces=("vt", "Tensor", "out"))
def where(
    condition: Tensor, input: Tensor | Number | None = None, other: Tensor | Number | None = None
) -> Tensor:
    """`input` where `condition` (bool), else `other`. Of `condition` alone: the indices of its non-zero
    elements, one vector per dimension."""


@composite(surfaces=("vt", "Tensor"))
def masked_fill(input: Tensor, mask: Tensor, value: Tensor | Number) -> Tensor:
    """`input` with `value` (a number or a 0-d tensor) where `mask` (bool)."""
    return _masked_fill(input, mask, fill_value(input, mask, value))


@composite(surfaces=("Tensor",))
def masked_fill_(input: Tensor, mask: Tensor, value: Tensor | Number) -> Tensor:
    """The same in place."""
    return _masked_fill_(input, mask, fill_value(input, mask, value))


# --- reductions ----------------------------------------------------------------------------------------

@composite(surfaces=("vt", "Tensor", "out"))
def cumsum(input: Tensor, dim: int, *, dtype: dtype | None = None) -> Tensor:
    """The running sum along `dim`; of bool and integers in int64."""
    return _cumsum(input if dtype < 0 else to_dtype(input, dtype), dim)


@composite(surfaces=("vt", "Tensor", "out"))
def var(
    input: Tensor, dim: object = None, unbiased: object = None, keepdim: bool = False, *,
    correction: object = None,
) -> Tensor:
    """The variance over `dim` with ``n - correction`` degrees of freedom; `correction` is 1 unless
    given, or 0 with ``unbiased=False``."""
    return var_composite(input, dim, unbiased, keepdim, correction)


@composite(surfaces=("vt", "Tensor", "out"))
def std(
    input: Tensor, dim: object = None, unbiased: object = None, keepdim: bool = False, *,
    correction: object = None,
) -> Tensor:
    """The square root of :func:`var`."""
    return sqrt(var_composite(input, dim, unbiased, keepdim, correction))


# --- shape ---------------------------------------------------------------------------------------------

@composite(varargs="shape")
def reshape(input: Tensor, shape: list[int]) -> Tensor:
    """The same elements in another shape, one size may be -1: a view where possible, else a copy."""
    return view(input if can_view(input, shape) else clone_contiguous(input), shape)


@composite()
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim` merged into one."""
    if input.ndim > 0 and wrap_dim(start_dim, input.ndim) == wrap_dim(end_dim, input.ndim):
        return input
    return reshape(input, flatten_size(input, start_dim, end_dim))


@composite(surfaces=("Tensor",))
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`input` expanded to the shape of `other`."""
    return expand(input, tensor_shape(other))


@composite(surfaces=("Tensor",))
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """`input` viewed in the shape of `other`."""
    return view(input, tensor_shape(other))


@composite(surfaces=("Tensor",), varargs="size")
def sum_to_size(input: Tensor, size: list[int]) -> Tensor:
    """The sum over the dimensions along which `size` was broadcast to the shape of `input`."""
    return sum_to_size_composite(input, size)


@composite(surfaces=("vt", "Tensor"))
def flip(input: Tensor, dims: int | list[int]) -> Tensor:
    """A copy with the order of the elements reversed along `dims`."""
    return flip_composite(input, dims)


@composite(surfaces=("vt", "Tensor"))
def movedim(input: Tensor, source: int | list[int], destination: int | list[int]) -> Tensor:
    """Dimensions `source` moved to the places `destination`, as a view."""
    return permute(input, moved_dims(input, source, destination))


@composite(surfaces=("vt",), varargs="size")
def broadcast_to(input: Tensor, size: list[int]) -> Tensor:
    """`input` expanded to `size`."""
    return expand(input, size)


