"""Operators that fold dimensions."""
from __future__ import annotations

from . import Tensor, dtype, reduction

FLOAT_ONLY = {"promote": "float"}


@reduction(result="sum")
def sum(
    input: Tensor, dim: int | list[int] | None = None, keepdim: bool = False, *,
    dtype: dtype | None = None,
) -> Tensor:
    """The sum over `dim`, or over all elements; of bool and integers in int64.

    >>> vt.ones(2, 3).sum(dim=1)
    tensor([3., 3.])
    """


@sum.grad
def _(grad, input_shape, dim, keepdim):
    return expand_reduced(grad, input_shape, dim, keepdim)


@reduction(promote="float")
def mean(
    input: Tensor, dim: int | list[int] | None = None, keepdim: bool = False, *,
    dtype: dtype | None = None,
) -> Tensor:
    """The mean over `dim`, or over all elements; floating point or complex only."""


@mean.grad
def _(grad, input_shape, dim, keepdim):
    return expand_reduced(grad / reduced_count(input_shape, dim), input_shape, dim, keepdim)


@reduction(result="sum", flags=("single_dim",))
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: dtype | None = None
) -> Tensor:
    """The product over `dim`, or over all elements."""


@prod.grad
def _(grad, input, dim, keepdim):
    return prod_backward(grad, input, dim, keepdim)


@reduction(flags=("no_empty",))
def amax(input: Tensor, dim: int | list[int] = (), keepdim: bool = False) -> Tensor:
    """The largest element over `dim`; NaN wins. Equal largest elements share the gradient."""


@amax.grad
def _(grad, input, result, dim, keepdim):
    return extremum_backward(grad, input, result, dim, keepdim)


@reduction(flags=("no_empty",))
def amin(input: Tensor, dim: int | list[int] = (), keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`; NaN wins. Equal smallest elements share the gradient."""


@amin.grad
def _(grad, input, result, dim, keepdim):
    return extremum_backward(grad, input, result, dim, keepdim)


@reduction(result="index", flags=("no_empty", "single_dim"))
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest element over `dim`, or in the flattened tensor; NaN wins, the first of
    equals counts."""


@reduction(result="index", flags=("no_empty", "single_dim"))
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest element over `dim`, or in the flattened tensor; NaN wins, the first of
    equals counts."""


@reduction(result="logical")
def any(input: Tensor, dim: int | list[int] | None = None, keepdim: bool = False) -> Tensor:
    """Whether any element over `dim` is non-zero; bool, but uint8 for uint8."""


@reduction(result="logical")
def all(input: Tensor, dim: int | list[int] | None = None, keepdim: bool = False) -> Tensor:
    """Whether all elements over `dim` are non-zero; bool, but uint8 for uint8."""


@reduction("var", result="real", promote="float", values=("float correction",), surfaces=(), node="Var")
def _var(
    input: Tensor, dim: int | list[int] | None = None, correction: float = 1.0, keepdim: bool = False
) -> Tensor:
    """The variance over `dim` with ``n - correction`` degrees of freedom."""


@_var.grad
def _(grad, input, dim, correction, keepdim):
    return var_backward(grad, input, dim, correction, keepdim)
