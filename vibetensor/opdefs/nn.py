"""Operators of neural networks: normalisation, losses, embedding, dropout."""
from __future__ import annotations

from . import Tensor, composite, dtype, kernel

FUNCTIONAL = ("nn.functional",)


# --- softmax -----------------------------------------------------------------------------------------

@kernel("softmax", surfaces=(), values=("int dim",), node="Softmax")
def _softmax(input: Tensor, dim: int) -> Tensor:
    """The softmax of a floating point tensor along `dim`."""


@_softmax.prepare
def _(input, dim):
    dim = wrap_dim(dim, input.ndim)
    check_floating("softmax", input)
    return tensor_empty_like(input, input.dtype)


@_softmax.grad
def _(grad, result, dim):
    return softmax_backward(grad, result, dim)


@kernel("softmax_backward", surfaces=(), values=("int dim",))
def softmax_backward(grad_output: Tensor, output: Tensor, dim: int) -> Tensor:
    """``output * (grad_output - sum(grad_output * output, dim))``."""


@softmax_backward.prepare
def _(grad_output, output, dim):
    dim = wrap_dim(dim, output.ndim)
    return tensor_empty_like(output, output.dtype)


@softmax_backward.grad
def _(grad, grad_output, output, dim):
    return softmax_backward(grad, output, dim), (
        grad * grad_output - grad_output * sum(grad * output, dim, True)
        - grad * sum(grad_output * output, dim, True)
    )


@composite(surfaces=("vt", "Tensor", "nn.functional"))
def softmax(input: Tensor, dim: int, dtype: dtype | None = None) -> Tensor:
    """``exp(input) / sum(exp(input))`` along `dim`, computed without overflow, in `dtype` if given."""
    return _softmax(float_input(input, dtype), dim)


@kernel("log_softmax", surfaces=(), values=("int dim",), node="LogSoftmax")
def _log_softmax(input: Tensor, dim: int) -> Tensor:
    """The logarithm of the softmax of a floating point tensor along `dim`."""


@_log_softmax.prepare
def _(input, dim):
    dim = wrap_dim(dim, input.ndim)
    check_floating("log_softmax", input)
    return tensor_empty_like(input, input.dtype)


@_log_softmax.grad
def _(grad, result, dim):
    return log_softmax_backward(grad, result, dim)


@kernel("log_softmax_backward", surfaces=(), values=("int dim",))
def log_softmax_backward(grad_output: Tensor, output: Tensor, dim: int) -> Tensor:
    """``grad_output - exp(output) * sum(grad_output, dim)``."""


@log_softmax_backward.prepare
def _(grad_output, output, dim):
    dim = wrap_dim(dim, output.ndim)
    return tensor_empty_like(output, output.dtype)


@log_softmax_backward.grad
def _(grad, grad_output, output, dim):
    return grad - sum(grad * exp(output), dim, True), (
        -grad * exp(output) * sum(grad_output, dim, True)
    )


@composite(surfaces=("vt", "Tensor", "nn.functional"))
def log_softmax(input: Tensor, dim: int, dtype: dtype | None = None) -> Tensor:
    """The logarithm of :func:`softmax`, computed without loss of accuracy."""
    return _log_softmax(float_input(input, dtype), dim)


# --- normalisation -------------------------------------------------------------------------------------

@kernel(
    "layer_norm", surfaces=(), outputs=("result", "mean", "rstd"),
    values=("int n", "float eps"), node="NativeLayerNorm",
)
def _layer_norm(
    input: Tensor, normalized_shape: list[int], weight: Tensor | None, bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised tensor; mean and inverse standard deviation of each row."""


@_layer_norm.prepare
def _(input, normalized_shape, weight, bias, eps):
    n = check_normalized("layer_norm", input, normalized_shape, weight, bias)
    return (
        tensor_new_like(input, input.dtype), row_statistics(input, normalized_shape),
        row_statistics(input, normalized_shape),
    )


@_layer_norm.grad
def _(grad, input, normalized_shape, weight, mean, rstd, wanted):
    return layer_norm_backward(grad, input, weight, mean, rstd, normalized_shape, wanted)


@_layer_norm.reference
def _(input, normalized_shape, weight, bias, eps):
    dims = trailing_dims(input, len(normalized_shape))
    centred = input - mean(input, dims, True)
    return affine(
        centred * rsqrt(mean(square(centred), dims, True) + eps), weight, bias
    ), None, None


@kernel(
    "layer_norm_backward", surfaces=(), values=("int n",),
    outputs=("grad_input", "grad_weight", "grad_bias"),
)
def layer_norm_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor,
    normalized_shape: list[int], wanted: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of layer_norm by input, weight and bias; None where not wanted."""


@layer_norm_backward.prepare
def _(grad_output, input, weight, mean, rstd, normalized_shape, wanted):
    n = element_count(normalized_shape)
    return (
        tensor_new_like(input, input.dtype) if wanted[0] else None,
        new_empty(input, normalized_shape) if wanted[1] else None,
        new_empty(input, normalized_shape) if wanted[2] else None,
    )


@composite(surfaces=FUNCTIONAL)
def layer_norm(
    input: Tensor, normalized_shape: list[int], weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the trailing dimensions `normalized_shape`.

    Ba, Kiros and Hinton, arXiv 1607.06450.
    """
    return _layer_norm(input, normalized_shape, weight, bias, eps)[0]


@kernel(
    "rms_norm", surfaces=(), outputs=("result", "rstd"), values=("int n", "float eps"),
    node="FusedRmsNorm",
)
def _rms_norm(
    input: Tensor, normalized_shape: list[int], weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """The scaled tensor and the inverse root mean square of each row."""


@_rms_norm.prepare
def _(input, normalized_shape, weight, eps):
    n = check_normalized("rms_norm", input, normalized_shape, weight, None)
    return tensor_new_like(input, input.dtype), row_statistics(input, normalized_shape)


@_rms_norm.grad
def _(grad, input, normalized_shape, weight, rstd, wanted):
    return rms_norm_backward(grad, input, weight, rstd, normalized_shape, wanted)


@_rms_norm.reference
def _(input, normalized_shape, weight, eps):
    dims = trailing_dims(input, len(normalized_shape))
    return affine(
        input * rsqrt(mean(square(input), dims, True) + eps), weight, None
    ), None


@kernel(
    "rms_norm_backward", surfaces=(), values=("int n",), outputs=("grad_input", "grad_weight")
)
def rms_norm_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor | None, rstd: Tensor,
    normalized_shape: list[int], wanted: list[int],
) -> tuple[Tensor, Tensor]:
    """The gradients of rms_norm by input and weight; None where not wanted."""


@rms_norm_backward.prepare
def _(grad_output, input, weight, rstd, normalized_shape, wanted):
    n = element_count(normalized_shape)
    return (
        tensor_new_like(input, input.dtype) if wanted[0] else None,
        new_empty(input, normalized_shape) if wanted[1] else None,
    )


@composite(surfaces=("vt", "nn.functional"))
def rms_norm(
    input: Tensor, normalized_shape: list[int], weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """``x / sqrt(mean(x**2) + eps) * weight`` over the trailing dimensions `normalized_shape`.

    `eps` is the machine epsilon of the dtype by default. Zhang and Sennrich, arXiv 1910.07467.
    """
    return rms_norm_composite(input, normalized_shape, weight, eps)


# --- losses ----------------------------------------------------------------------------------------------

@kernel(
    "cross_entropy", surfaces=(), outputs=("result", "statistics", "total"), node="CrossEntropy",
    differentiable=("input",),
    values=("int reduction", "int ignore_index", "float label_smoothing"),
)
def _cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore_index: int,
    label_smoothing: float, dtype: dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, of the dtype of `input` or of `dtype`, which may be float32 for half types; of each sample the largest logit, then of each the sum of ``exp(logit - largest)``; and the
    weight of all counted samples. (The logarithm of that sum, rounded beside a large logit, would cost
    the gradient digits.)"""


@_cross_entropy.prepare
def _(input, target, weight, reduction, ignore_index, label_smoothing, dtype):
    check_cross_entropy(input, target, weight)
    return (
        tensor_empty(
            tensor_shape(target) if reduction == 0 else (), input.dtype if dtype < 0 else dtype,
            input.device_type, input.device_index,
        ),
        new_statistic(input, (2,) + tensor_shape(target)), new_statistic(input, ()),
    )


@_cross_entropy.grad
def _(grad, input, target, weight, reduction, ignore_index, label_smoothing, statistics, total):
    return cross_entropy_backward(
        grad, input, target, weight, statistics, total, reduction, ignore_index, label_smoothing
    )


@_cross_entropy.reference
def _(input, target, weight, reduction, ignore_index, label_smoothing, dtype):
    return cross_entropy_reference(
        float_input(input, dtype), target, weight, reduction, ignore_index, label_smoothing
    ), None, None


@kernel(
    "cross_entropy_backward", surfaces=(),
    values=("int reduction", "int ignore_index", "float label_smoothing"),
)
def cross_entropy_backward(
    grad_output: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, statistics: Tensor,
    total: Tensor, reduction: int, ignore_index: int, label_smoothing: float,
) -> Tensor:
    """The gradient of cross_entropy by its input."""


@cross_entropy_backward.prepare
def _(
    grad_output, input, target, weight, statistics, total, reduction, ignore_index, label_smoothing
):
    return tensor_new_like(input, input.dtype)


@composite(surfaces=())
def _cross_entropy_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: int, label_smoothing: float
) -> Tensor:
    """The cross entropy of logits against class probabilities."""
    return class_probabilities(input, target, weight, reduction, label_smoothing)


@composite(surfaces=FUNCTIONAL)
def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: object = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The cross entropy of logits (N, C, ...) or (C) against class indices (N, ...) or () in int64, or
    against class probabilities of the shape of `input`.

    `weight` (C) scales classes; samples with target `ignore_index` do not count; `reduction` is
    "none", "mean" or "sum".

    >>> F.cross_entropy(vt.zeros(1, 2), vt.tensor([0]))
    tensor(0.6931)
    """
    return cross_entropy_composite(
        input, target, weight, ignore_index, reduction, label_smoothing
    )


@composite(surfaces=FUNCTIONAL)
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: object = "mean",
) -> Tensor:
    """The negative log likelihood of log-probabilities (N, C, ...) under class indices (N, ...)."""
    return nll_composite(input, target, weight, ignore_index, reduction)


@composite(surfaces=FUNCTIONAL)
def mse_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: object = "mean",
) -> Tensor:
    """The squared difference, reduced by "none", "mean" or "sum"."""
    return reduced(square(input - target), reduction)


# --- embedding -------------------------------------------------------------------------------------------

@kernel(
    "embedding", surfaces=(), values=(), differentiable=("weight",), node="Embedding"
)
def _embedding(
    weight: Tensor, indices: Tensor, padding_idx: int, scale_grad_by_freq: bool
) -> Tensor:
    """The rows of `weight` that `indices` name."""


@_embedding.prepare
def _(weight, indices, padding_idx, scale_grad_by_freq):
    check_embedding(weight, indices)
    return new_empty(weight, tensor_shape(indices) + (weight.sizes[1],))


@_embedding.grad
def _(grad, indices, padding_idx, scale_grad_by_freq, rows="weight.sizes[0]"):
    return embedding_backward(grad, indices, rows, padding_idx, scale_grad_by_freq)


@kernel(
    "embedding_backward", surfaces=(), differentiable=("grad_output",),
    values=("int padding_idx", "int scale_grad_by_freq"),
)
def embedding_backward(
    grad_output: Tensor, indices: Tensor, rows: int, padding_idx: int, scale_grad_by_freq: bool
) -> Tensor:
    """The sum of the gradients of each row, in a fixed order."""


@embedding_backward.prepare
def _(grad_output, indices, rows, padding_idx, scale_grad_by_freq):
    indices = contiguous(indices)
    return new_empty(grad_output, (rows, grad_output.sizes[grad_output.ndim - 1]))


@embedding_backward.grad
def _(grad, indices, padding_idx, scale_grad_by_freq):
    return embedding_double_backward(grad, indices, padding_idx, scale_grad_by_freq)


@composite(surfaces=FUNCTIONAL)
def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:
    """The rows of `weight` (V, D) that `input` (int32 or int64, any shape) names: shape (..., D).

    Row `padding_idx` gets no gradient.
    """
    return embedding_composite(
        input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
    )


# --- rotary position embedding ---------------------------------------------------------------------------

@kernel("rotary", surfaces=(), values=("int interleaved", "int inverse"), differentiable=("input",))
def _rotary(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, inverse: bool) -> Tensor:
    """rotary_embedding by the angle or by its negative."""


@_rotary.prepare
def _(input, cos, sin, interleaved, inverse):
    check_rotary(input, cos, sin)
    if cos.strides[1] != 1:
        cos = contiguous(cos)
    if sin.strides[1] != 1:
        sin = contiguous(sin)
    return tensor_empty_like(input, input.dtype)


@_rotary.grad
def _(grad, cos, sin, interleaved, inverse):
    return _rotary(grad, cos, sin, interleaved, not inverse)


@composite(surfaces=FUNCTIONAL)
def rotary_embedding(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Turns pairs of features by an angle per position. Su et al., arXiv 2104.09864.

    `input` is (batch, time, heads, features) with any strides. `cos` and `sin` are (time, pairs), of one
    floating point dtype, and receive no gradient. Feature i forms a pair with ``i + pairs``, or with
    `interleaved` feature 2i with 2i + 1; ``(a, b)`` becomes ``(a cos - b sin, b cos + a sin)``, in
    float32 for half types. Features from ``2 * pairs`` on stay.

    >>> F.rotary_embedding(vt.tensor([[[[1.0, 2.0]]]]), vt.zeros(1, 1), vt.ones(1, 1))
    tensor([[[[-2.,  1.]]]])
    """
    return _rotary(input, cos, sin, interleaved, False)


# --- the rest --------------------------------------------------------------------------------------------

@composite(surfaces=FUNCTIONAL)
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes elements with probability `p` and scales the others by ``1 / (1 - p)`` in training."""
    return dropout_composite(input, p, training, inplace)


@composite(surfaces=FUNCTIONAL, public="relu")
def functional_relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(input, 0)``; NaN stays."""
    return relu_(input) if inplace else relu(input)


@composite(surfaces=FUNCTIONAL)
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * sigmoid(input)``."""
    return copy_(input, _silu(input)) if inplace else _silu(input)


@composite(surfaces=FUNCTIONAL)
def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Int64 (..., num_classes) with a one at the place that `input` (int64) names.

    >>> F.one_hot(vt.tensor([1]), 3)
    tensor([[0, 1, 0]])
    """
    return one_hot_composite(input, num_classes)
