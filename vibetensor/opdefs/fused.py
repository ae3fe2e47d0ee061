"""Fusions: several operators in one pass over memory, or in one product. Each computes what the composite
named in its documentation does; the gradients are fused as well. (Fused pointwise operators: pointwise.py.)"""
from __future__ import annotations

from . import Scalar, Tensor, composite, kernel, manual

FUNCTIONAL = ("nn.functional",)
DROPOUT = ("float p", "int seed", "int offset")


# --- dropout -------------------------------------------------------------------------------------------

@kernel("dropout", surfaces=(), values=DROPOUT, exact=True)
def _dropout(
    input: Tensor, residual: Tensor | None, p: float, seed: int, offset: int
) -> Tensor:
    """`residual`, if given, plus `input` with elements zeroed with probability `p` and the others scaled
    by ``1 / (1 - p)``. Which ones is drawn from Philox blocks and not stored: the gradient draws again."""


@_dropout.prepare
def _(input, residual, p, seed, offset):
    check_floating("dropout", input)
    return dropout_output(input, residual)


@_dropout.grad
def _(grad, p, seed, offset):
    return _dropout(grad, None, p, seed, offset), grad


@composite(surfaces=FUNCTIONAL)
def dropout_add(
    input: Tensor, residual: Tensor, p: float = 0.5, training: bool = True
) -> Tensor:
    """``residual + dropout(input, p, training)``, with the random numbers that :func:`dropout` would draw.

    Both have one shape; `input` may be of a half type where `residual` is float32.

    >>> F.dropout_add(vt.ones(2), vt.ones(2), p=0.5, training=False)
    tensor([2., 2.])
    """
    return dropout_add_composite(input, residual, p, training)


# --- residual and norm -----------------------------------------------------------------------------------

@kernel(
    "add_layer_norm", surfaces=(), outputs=("result", "total", "mean", "rstd"),
    values=("int n", "float eps", *DROPOUT), node="AddLayerNorm",
)
def _add_layer_norm(
    input: Tensor, residual: Tensor, normalized_shape: list[int], weight: Tensor | None,
    bias: Tensor | None, eps: float, p: float, seed: int, offset: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The norm of ``total = residual + dropout(input)``, that sum, and its statistics."""


@_add_layer_norm.prepare
def _(input, residual, normalized_shape, weight, bias, eps, p, seed, offset):
    check_addend("add_layer_norm", input, residual)
    n = check_normalized("add_layer_norm", residual, normalized_shape, weight, bias)
    return (
        tensor_new_like(residual, norm_dtype(input, residual)),
        tensor_new_like(residual, residual.dtype),
        row_statistics(residual, normalized_shape), row_statistics(residual, normalized_shape),
    )


@_add_layer_norm.grad
def _(
    grads, total, weight, mean, rstd, normalized_shape, eps, p, seed, offset, wanted,
    kind="input.dtype",
):
    return add_norm_gradients(
        grads, total, weight, mean, rstd, normalized_shape, eps, p, seed, offset, wanted, kind
    )


@kernel(
    "add_layer_norm_backward", surfaces=(), values=("int n", *DROPOUT),
    outputs=("grad_residual", "grad_input", "grad_weight", "grad_bias"),
)
def add_layer_norm_backward(
    grad_output: Tensor, grad_total: Tensor | None, total: Tensor, weight: Tensor | None,
    mean: Tensor, rstd: Tensor, normalized_shape: list[int], p: float, seed: int, offset: int,
    wanted: list[int], kind: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of add_layer_norm by residual, input, weight and bias. That by the input, of dtype
    `kind`, is None where it is the residual's; the parameters' where they are not wanted."""


@add_layer_norm_backward.prepare
def _(
    grad_output, grad_total, total, weight, mean, rstd, normalized_shape, p, seed, offset, wanted,
    kind,
):
    n = element_count(normalized_shape)
    own = wanted[0] and (p > 0 or kind != total.dtype)
    return (
        tensor_new_like(total, total.dtype), tensor_new_like(total, kind) if own else None,
        new_empty(total, normalized_shape) if wanted[2] else None,
        new_empty(total, normalized_shape) if wanted[3] else None,
    )


@composite(surfaces=FUNCTIONAL)
def add_layer_norm(
    input: Tensor, residual: Tensor, normalized_shape: list[int], weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5, dropout_p: float = 0.0, training: bool = True,
) -> tuple[Tensor, Tensor]:
    """``total = residual + dropout(input, dropout_p, training)``; returns
    ``layer_norm(total, normalized_shape, weight, bias, eps)`` and ``total``.

    `input` and `residual` have one shape; `input` may be of a half type where `residual` is float32. On
    CUDA inside autocast the norm has the dtype of `input`, which a product takes without a cast.

    >>> F.add_layer_norm(vt.tensor([1.0, 2.0]), vt.tensor([0.0, 1.0]), (2,))[1]
    tensor([1., 3.])
    """
    return add_layer_norm_composite(
        input, residual, normalized_shape, weight, bias, eps, dropout_p, training
    )


@kernel(
    "add_rms_norm", surfaces=(), outputs=("result", "total", "rstd"),
    values=("int n", "float eps", *DROPOUT), node="AddRmsNorm",
)
def _add_rms_norm(
    input: Tensor, residual: Tensor, normalized_shape: list[int], weight: Tensor | None, eps: float,
    p: float, seed: int, offset: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of ``total = residual + dropout(input)``, that sum, and its inverse root mean square."""


@_add_rms_norm.prepare
def _(input, residual, normalized_shape, weight, eps, p, seed, offset):
    check_addend("add_rms_norm", input, residual)
    n = check_normalized("add_rms_norm", residual, normalized_shape, weight, None)
    return (
        tensor_new_like(residual, norm_dtype(input, residual)),
        tensor_new_like(residual, residual.dtype),
        row_statistics(residual, normalized_shape),
    )


@_add_rms_norm.grad
def _(
    grads, total, weight, rstd, normalized_shape, eps, p, seed, offset, wanted, kind="input.dtype"
):
    return add_norm_gradients(
        grads, total, weight, None, rstd, normalized_shape, eps, p, seed, offset, wanted, kind
    )


@kernel(
    "add_rms_norm_backward", surfaces=(), values=("int n", *DROPOUT),
    outputs=("grad_residual", "grad_input", "grad_weight"),
)
def add_rms_norm_backward(
    grad_output: Tensor, grad_total: Tensor | None, total: Tensor, weight: Tensor | None,
    rstd: Tensor, normalized_shape: list[int], p: float, seed: int, offset: int,
    wanted: list[int], kind: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of add_rms_norm by residual, input and weight, as those of add_layer_norm."""


@add_rms_norm_backward.prepare
def _(
    grad_output, grad_total, total, weight, rstd, normalized_shape, p, seed, offset, wanted, kind
):
    n = element_count(normalized_shape)
    own = wanted[0] and (p > 0 or kind != total.dtype)
    return (
        tensor_new_like(total, total.dtype), tensor_new_like(total, kind) if own else None,
        new_empty(total, normalized_shape) if wanted[2] else None,
    )


@composite(surfaces=FUNCTIONAL)
def add_rms_norm(
    input: Tensor, residual: Tensor, normalized_shape: list[int], weight: Tensor | None = None,
    eps: float | None = None, dropout_p: float = 0.0, training: bool = True,
) -> tuple[Tensor, Tensor]:
    """``total = residual + dropout(input, dropout_p, training)``; returns
    ``rms_norm(total, normalized_shape, weight, eps)`` and ``total``.

    `input` and `residual` have one shape; `input` may be of a half type where `residual` is float32. On
    CUDA inside autocast the norm has the dtype of `input`, which a product takes without a cast.

    >>> F.add_rms_norm(vt.tensor([3.0]), vt.tensor([1.0]), (1,))
    (tensor([1.]), tensor([4.]))
    """
    return add_rms_norm_composite(
        input, residual, normalized_shape, weight, eps, dropout_p, training
    )


# --- activations -----------------------------------------------------------------------------------------

@kernel("swiglu", surfaces=(), values=())
def _swiglu(gate: Tensor, up: Tensor | None) -> Tensor:
    """``silu(gate) * up``; without `up` the rows of `gate` hold both, one behind the other."""


@_swiglu.prepare
def _(gate, up):
    check_swiglu(gate, up)
    return tensor_new_like(gate, gate.dtype) if up is not None else half_rows(gate)


@_swiglu.grad
def _(grad, gate, up, wanted):
    return swiglu_backward(grad, gate, up, wanted)


@_swiglu.reference
def _(gate, up):
    return swiglu_reference(gate, up)


@kernel("swiglu_backward", surfaces=(), values=(), outputs=("grad_gate", "grad_up"))
def swiglu_backward(
    grad_output: Tensor, gate: Tensor, up: Tensor | None, wanted: list[int]
) -> tuple[Tensor, Tensor]:
    """The gradients of swiglu; None where not wanted."""


@swiglu_backward.prepare
def _(grad_output, gate, up, wanted):
    return (
        tensor_new_like(gate, gate.dtype) if wanted[0] else None,
        tensor_new_like(up, up.dtype) if up is not None and wanted[1] else None,
    )


@composite(surfaces=FUNCTIONAL)
def swiglu(input: Tensor, up: Tensor | None = None) -> Tensor:
    """``silu(input) * up`` for tensors of one shape; without `up`, ``silu(a) * b`` for the two halves `a`
    and `b` of `input` along the last dimension. Shazeer, arXiv 2002.05202.

    >>> F.swiglu(vt.tensor([0.0, 3.0]))
    tensor([0.])
    """
    return swiglu_composite(input, up)


# --- linear layers ---------------------------------------------------------------------------------------

@composite(surfaces=FUNCTIONAL)
def linear_gelu(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``gelu(linear(input, weight, bias), approximate="tanh")`` in one product: input (..., in), weight
    (out, in), bias (out).

    >>> F.linear_gelu(vt.ones(1, 2), vt.ones(1, 2))
    tensor([[1.9546]])
    """
    return linear_gelu_composite(input, weight, bias)


@kernel("linear_gelu_backward", surfaces=(), values=(), outputs=("grad_linear", "grad_bias"))
def linear_gelu_backward(
    grad_output: Tensor, weight: Tensor, linear: Tensor, sums: bool, kind: int
) -> tuple[Tensor, Tensor]:
    """``(grad_output @ weight)`` times the derivative of gelu at `linear`, and, with `sums`, its sum over
    the rows in dtype `kind`: what comes back through ``linear(gelu(linear), weight)``."""


@linear_gelu_backward.prepare
def _(grad_output, weight, linear, sums, kind):
    return (
        tensor_new_like(linear, linear.dtype),
        new_dtype(linear, (linear.sizes[1],), kind) if sums else None,
    )


@kernel(
    "linear_backward_parameters", surfaces=(), values=(), outputs=("grad_weight", "grad_bias")
)
def linear_backward_parameters(
    grad_output: Tensor, input: Tensor, sums: bool, kind: int
) -> tuple[Tensor, Tensor]:
    """``grad_output.T @ input`` and, with `sums`, the sum of `grad_output` over its rows; both of dtype
    `kind`: theirs, or float32."""


@linear_backward_parameters.prepare
def _(grad_output, input, sums, kind):
    return (
        new_dtype(grad_output, (grad_output.sizes[1], input.sizes[1]), kind),
        new_dtype(grad_output, (grad_output.sizes[1],), kind) if sums else None,
    )


@manual(surfaces=(), outputs=("result", "linear", "hidden"), node="GeluMlp")
def _gelu_mlp(
    input: Tensor, weight1: Tensor, bias1: Tensor | None, weight2: Tensor, bias2: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Two linear layers over rows with gelu in the tanh form between them, what gelu is taken of, and what
    it gives."""


@_gelu_mlp.grad
def _(grad, input, weight1, weight2, linear, hidden, wanted, weight1_dtype, weight2_dtype):
    return gelu_mlp_gradients(
        grad, input, weight1, weight2, linear, hidden, wanted, weight1_dtype, weight2_dtype
    )


@_gelu_mlp.reference
def _(input, weight1, bias1, weight2, bias2):
    return _linear(
        gelu(_linear(input, weight1, bias1), approximate="tanh"), weight2, bias2
    ), None, None


@composite(surfaces=FUNCTIONAL)
def gelu_mlp(
    input: Tensor, weight1: Tensor, bias1: Tensor | None, weight2: Tensor, bias2: Tensor | None
) -> Tensor:
    """``linear(gelu(linear(input, weight1, bias1), approximate="tanh"), weight2, bias2)`` with nothing
    between the products, forward or backward.

    input (..., in), weight1 (hidden, in), bias1 (hidden), weight2 (out, hidden), bias2 (out).

    >>> F.gelu_mlp(vt.ones(1, 2), vt.ones(1, 2), None, vt.ones(3, 1), None)
    tensor([[1.9546, 1.9546, 1.9546]])
    """
    return gelu_mlp_composite(input, weight1, bias1, weight2, bias2)


# --- embedding -------------------------------------------------------------------------------------------

@kernel(
    "embedding_add", surfaces=(), values=(), differentiable=("weight", "position"),
    node="EmbeddingAdd",
)
def _embedding_add(
    weight: Tensor, indices: Tensor, position: Tensor, padding_idx: int
) -> Tensor:
    """The rows of `weight` that `indices` (..., length) name, plus `position` (length, width)."""


@_embedding_add.prepare
def _(weight, indices, position, padding_idx):
    return new_empty(weight, tensor_shape(indices) + (weight.sizes[1],))


@_embedding_add.grad
def _(grad, indices, padding_idx, rows="weight.sizes[0]"):
    return embedding_backward(grad, indices, rows, padding_idx, False), grad


@composite(surfaces=FUNCTIONAL)
def embedding_with_position(
    input: Tensor, weight: Tensor, position_weight: Tensor, padding_idx: int | None = None
) -> Tensor:
    """``embedding(input, weight, padding_idx) + position_weight[:length]``.

    input (..., length) in int32 or int64, weight (rows, width), position_weight (at least length, width).

    >>> F.embedding_with_position(vt.tensor([1, 0]), vt.eye(2), vt.ones(4, 2))
    tensor([[1., 2.],
            [2., 1.]])
    """
    return embedding_with_position_composite(input, weight, position_weight, padding_idx)


# --- linear and cross entropy ----------------------------------------------------------------------------

@kernel(
    surfaces=(), mutates=True,
    values=("int gradient", "int ignore_index", "float label_smoothing", "float scale"),
)
def cross_entropy_gradient_(
    input: Tensor, target: Tensor, losses: Tensor, total: Tensor | None, gradient: bool,
    ignore_index: int, label_smoothing: float, scale: float,
) -> Tensor:
    """Writes the cross entropies of rows of logits to `losses`, in float64. With `gradient`, that of their
    sum by the logits takes the place of those, times `scale` and divided by `total`, if given."""


@cross_entropy_gradient_.prepare
def _(input, target, losses, total, gradient, ignore_index, label_smoothing, scale):
    pass


@kernel(surfaces=(), mutates=True, values=("scalar beta", "scalar alpha"))
def _addmm_into_(
    input: Tensor, mat1: Tensor, mat2: Tensor, beta: Scalar, alpha: Scalar
) -> Tensor:
    """``input = beta * input + alpha * mat1 @ mat2``; with ``beta=0`` nothing is read."""


@_addmm_into_.prepare
def _(input, mat1, mat2, beta, alpha):
    pass


@manual(
    surfaces=(), outputs=("result", "grad_input", "grad_weight", "grad_bias"),
    differentiable=("input", "weight", "bias"), node="LinearCrossEntropy",
)
def _linear_cross_entropy(
    input: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, mean: bool,
    ignore_index: int, label_smoothing: float, needs: list[int], chunk: int, dtype: int,
    weight_dtype: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, of `dtype`, and already its gradients by input, weight (of `weight_dtype`) and bias, formed
    for `chunk` rows at a time (None where not needed)."""


@_linear_cross_entropy.grad
def _(grad, grad_input, grad_weight, grad_bias, kind="input.dtype"):
    return scaled_gradients(grad, grad_input, grad_weight, grad_bias, kind)


@_linear_cross_entropy.reference
def _(
    input, weight, bias, target, mean, ignore_index, label_smoothing, needs, chunk, dtype,
    weight_dtype,
):
    logits = to_dtype(_linear(input, weight, bias), dtype)
    return _cross_entropy(
        logits, target, None, 1 if mean else 2, ignore_index, label_smoothing
    )[0], None, None, None


@composite(surfaces=FUNCTIONAL)
def linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None,
    weight: Tensor | None = None, reduction: object = "mean", ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """``cross_entropy(linear(input, linear_weight, linear_bias), target)`` without all logits in memory.

    input (N, in), linear_weight (C, in), target (N) in int64. The logits are made for some rows at a time;
    where a gradient will be needed it is formed at once, in their place, so that backward only scales it.
    With ``reduction="none"``, class weights or class probabilities it is the two operators. Inside
    autocast the products are in low precision and the loss is float32.

    >>> F.linear_cross_entropy(vt.zeros(1, 3), vt.ones(2, 3), vt.tensor([0]))
    tensor(0.6931)
    """
    return linear_cross_entropy_composite(
        input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing
    )
