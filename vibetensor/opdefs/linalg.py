"""Matrix products and convolution."""
from __future__ import annotations

from . import Scalar, Tensor, composite, kernel


@kernel(surfaces=("vt", "Tensor", "out"), values=())
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices, (n, k) and (k, m)."""


@mm.prepare
def _(input, mat2):
    check_mm("mm", input, mat2)
    return matrix_output(input, mat2)


@mm.grad
def _(grad, input, mat2):
    return mm(grad, adjoint(mat2)), mm(adjoint(input), grad)


@kernel(surfaces=("vt", "Tensor", "out"), values=())
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (b, n, k) and (b, k, m)."""


@bmm.prepare
def _(input, mat2):
    check_bmm("bmm", input, mat2)
    return matrix_output(input, mat2)


@bmm.grad
def _(grad, input, mat2):
    return bmm(grad, adjoint(mat2)), bmm(adjoint(input), grad)


@kernel("addmm", surfaces=(), values=("scalar beta", "scalar alpha"), node="Addmm")
def _addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Scalar = 1, alpha: Scalar = 1
) -> Tensor:
    """``beta * input + alpha * mat1 @ mat2`` for `input` of the product's shape."""


@_addmm.prepare
def _(input, mat1, mat2, beta, alpha):
    return matrix_output(mat1, mat2)


@_addmm.grad
def _(grad, mat1, mat2, beta, alpha):
    return (
        scaled(grad, beta),
        scaled(mm(grad, adjoint(mat2)), alpha),
        scaled(mm(adjoint(mat1), grad), alpha),
    )


@composite(surfaces=("vt", "Tensor", "out"))
def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Scalar = 1, alpha: Scalar = 1
) -> Tensor:
    """``beta * input + alpha * mat1 @ mat2``; `input` broadcasts, and is ignored for ``beta=0``."""
    check_addmm(input, mat1, mat2)
    return _addmm(
        expand(input, (mat1.sizes[0], mat2.sizes[1])), mat1, mat2, beta=beta, alpha=alpha
    )


@kernel("addmm", surfaces=(), values=("scalar beta", "scalar alpha"), node="Baddbmm")
def _baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Scalar = 1, alpha: Scalar = 1
) -> Tensor:
    """``beta * input + alpha * batch1 @ batch2`` for `input` of the product's shape."""


@_baddbmm.prepare
def _(input, batch1, batch2, beta, alpha):
    return matrix_output(batch1, batch2)


@_baddbmm.grad
def _(grad, batch1, batch2, beta, alpha):
    return (
        scaled(grad, beta),
        scaled(bmm(grad, adjoint(batch2)), alpha),
        scaled(bmm(adjoint(batch1), grad), alpha),
    )


@composite(surfaces=("vt", "Tensor", "out"))
def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Scalar = 1, alpha: Scalar = 1
) -> Tensor:
    """``beta * input + alpha * batch1 @ batch2`` for batches of matrices, (b, n, k) and (b, k, m); `input`
    broadcasts, and is ignored for ``beta=0``."""
    check_baddbmm(input, batch1, batch2)
    return _baddbmm(
        expand(input, (batch1.sizes[0], batch1.sizes[1], batch2.sizes[2])), batch1, batch2,
        beta=beta, alpha=alpha,
    )


@composite(surfaces=("vt", "Tensor", "out"), operators=("__matmul__",))
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product; vectors are rows or columns, leading dimensions broadcast.

    >>> vt.matmul(vt.ones(2, 3), vt.ones(3))
    tensor([3., 3.])
    """
    return matmul_composite(input, other)


@kernel("linear", surfaces=(), values=(), node="Addmm")
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias`` over the last dimension of `input`."""


@_linear.prepare
def _(input, weight, bias):
    check_linear(input, weight, bias)
    input = flat_rows(input)
    return tensor_empty(
        (input.sizes[0], weight.sizes[0]), input.dtype, input.device_type, input.device_index
    )


@_linear.grad
def _(grad, input, weight, wanted, weight_dtype):
    return linear_backward(grad, input, weight, wanted, weight_dtype)


@kernel(
    "linear_gelu", surfaces=(), outputs=("result", "linear"), values=(), node="LinearGelu",
)
def _linear_gelu(
    input: Tensor, weight: Tensor, bias: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    """``gelu(input @ weight.T + bias)`` in the tanh form over rows, and, with `keep`, what gelu is
    taken of: the gradient needs it, and makes it again otherwise."""


@_linear_gelu.prepare
def _(input, weight, bias, keep):
    check_linear(input, weight, bias)
    check_floating("linear_gelu", input)
    input = flat_rows(input)
    return (
        new_empty(input, (input.sizes[0], weight.sizes[0])),
        new_empty(input, (input.sizes[0], weight.sizes[0])) if keep else None,
    )


@_linear_gelu.grad
def _(grad, input, weight, bias, keep, linear, wanted, weight_dtype):
    return linear_backward(
        gelu_backward(grad, linear if keep else _linear(input, weight, bias), "tanh"),
        input, weight, wanted, weight_dtype,
    )


@_linear_gelu.reference
def _(input, weight, bias, keep):
    return gelu(_linear(input, weight, bias), approximate="tanh"), None


@composite(surfaces=("nn.functional",))
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``: input (..., in), weight (out, in) or (in), bias (out) or ().

    >>> F.linear(vt.ones(1, 2), vt.ones(3, 2)).shape
    vibetensor.Size([1, 3])
    """
    return linear_composite(input, weight, bias)


@kernel("conv1d", surfaces=(), node="Convolution")
def _conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int,
    groups: int,
) -> Tensor:
    """The cross-correlation of (N, C_in, L) with (C_out, C_in / groups, K)."""


@_conv1d.prepare
def _(input, weight, bias, stride, padding, dilation, groups):
    return conv1d_output(input, weight, bias, stride, padding, dilation, groups)


@_conv1d.grad
def _(grad, input, weight, input_shape, weight_shape, stride, padding, dilation, groups):
    return (
        conv1d_backward_input(
            grad, conj(weight), input_shape, stride, padding, dilation, groups
        ),
        conv1d_backward_weight(
            grad, conj(input), weight_shape, stride, padding, dilation, groups
        ),
        sum(grad, (0, 2)),
    )


CONV_VALUES = ("int stride", "int padding", "int dilation", "int groups")


@kernel("conv1d_backward_input", surfaces=(), values=CONV_VALUES)
def conv1d_backward_input(
    grad_output: Tensor, weight: Tensor, size: list[int], stride: int, padding: int, dilation: int,
    groups: int,
) -> Tensor:
    """The gradient of conv1d by its input, whose shape is `size`."""


@conv1d_backward_input.prepare
def _(grad_output, weight, size, stride, padding, dilation, groups):
    return tensor_empty(size, weight.dtype, weight.device_type, weight.device_index)


@conv1d_backward_input.grad
def _(grad, grad_output, weight, weight_shape, stride, padding, dilation, groups):
    return (
        _conv1d(grad, conj(weight), None, stride, padding, dilation, groups),
        conv1d_backward_weight(
            conj(grad_output), grad, weight_shape, stride, padding, dilation, groups
        ),
    )


@kernel("conv1d_backward_weight", surfaces=(), values=CONV_VALUES)
def conv1d_backward_weight(
    grad_output: Tensor, input: Tensor, size: list[int], stride: int, padding: int, dilation: int,
    groups: int,
) -> Tensor:
    """The gradient of conv1d by its weight, whose shape is `size`."""


@conv1d_backward_weight.prepare
def _(grad_output, input, size, stride, padding, dilation, groups):
    return tensor_empty(size, input.dtype, input.device_type, input.device_index)


@conv1d_backward_weight.grad
def _(grad, grad_output, input, input_shape, stride, padding, dilation, groups):
    return (
        _conv1d(conj(input), grad, None, stride, padding, dilation, groups),
        conv1d_backward_input(
            conj(grad_output), grad, input_shape, stride, padding, dilation, groups
        ),
    )


@composite(surfaces=("vt", "nn.functional"))
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | list[int] = 1,
    padding: object = 0, dilation: int | list[int] = 1, groups: int = 1,
) -> Tensor:
    """The cross-correlation of input (N, C_in, L) or (C_in, L) with weight (C_out, C_in / groups, K).

    `padding` is the number of zeros at both ends, "valid" for none, or "same" for as many as keep the
    length (`stride` must be 1 then).
    """
    return conv1d_composite(input, weight, bias, stride, padding, dilation, groups)


