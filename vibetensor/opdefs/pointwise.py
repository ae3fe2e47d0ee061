"""Pointwise operators: arithmetic, elementary functions, activations, comparisons, selection."""
from __future__ import annotations

from . import (
    ALL,
    BOOL,
    COMPLEX,
    FLOATING,
    INTEGRAL,
    NUMERIC,
    REAL,
    Number,
    Scalar,
    Tensor,
    pointwise,
)

BOTH = ("vt", "Tensor", "inplace", "out")
UNARY = ("vt", "Tensor", "inplace", "vt_", "out")


# --- arithmetic --------------------------------------------------------------------------------------

@pointwise("add", dtypes=ALL, operators=("__add__", "__iadd__"))
def add(input: Tensor | Number, other: Tensor | Number, *, alpha: Scalar = 1) -> Tensor:
    """``input + alpha * other``, broadcast and promoted.

    >>> vt.add(vt.ones(2), 3)
    tensor([4., 4.])
    """


@add.prepare
def _(input, other, alpha):
    check_alpha(input, other, alpha)


@add.grad
def _(grad, alpha):
    return grad, grad if alpha == 1 else grad * alpha.conjugate()


@pointwise("sub", dtypes=NUMERIC, aliases=("subtract",), operators=("__sub__", "__isub__"))
def sub(input: Tensor | Number, other: Tensor | Number, *, alpha: Scalar = 1) -> Tensor:
    """``input - alpha * other``, broadcast and promoted; bool tensors are refused."""


@sub.prepare
def _(input, other, alpha):
    check_subtraction(input, other)
    check_alpha(input, other, alpha)


@sub.grad
def _(grad, alpha):
    return grad, -grad if alpha == 1 else grad * -alpha.conjugate()


@pointwise("mul", dtypes=ALL, aliases=("multiply",), operators=("__mul__", "__imul__"))
def mul(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """``input * other``, broadcast and promoted."""


@mul.grad
def _(grad, input, other):
    return grad * conj(other), grad * conj(input)


@pointwise(
    "div", dtypes=FLOATING + COMPLEX, promote="float", node="Div",
    operators=("__truediv__", "__itruediv__"),
)
def true_divide(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """``input / other`` in floating point, whatever the dtypes."""


@true_divide.grad
def _(grad, input, other):
    return grad / conj(other), -grad * conj(input / (other * other))


@pointwise(
    "div_floor", dtypes=REAL, flags=("check_zero_divisor",),
    operators=("__floordiv__", "__ifloordiv__"),
)
def floor_divide(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """The quotient rounded towards minus infinity. An integer division by zero raises RuntimeError."""


@floor_divide.grad
def _(grad):
    return zeros_like(grad), zeros_like(grad)


@pointwise("div_trunc", dtypes=REAL, flags=("check_zero_divisor",), surfaces=("inplace",))
def _trunc_divide(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """The quotient rounded towards zero."""


@_trunc_divide.grad
def _(grad):
    return zeros_like(grad), zeros_like(grad)


@pointwise(
    "remainder", dtypes=REAL, flags=("check_zero_divisor",), operators=("__mod__", "__imod__")
)
def remainder(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """The remainder of the floor division; it has the sign of `other`."""


@remainder.grad
def _(grad, input, other):
    return grad, -grad * div(input, other, rounding_mode="floor")


@pointwise("fmod", dtypes=REAL, flags=("check_zero_divisor",))
def fmod(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """The remainder of the truncated division; it has the sign of `input`."""


@fmod.grad
def _(grad, input, other):
    return grad, -grad * div(input, other, rounding_mode="trunc")


@pointwise("neg", dtypes=NUMERIC, surfaces=UNARY, aliases=("negative",), operators=("__neg__",))
def neg(input: Tensor) -> Tensor:
    """``-input``."""


@neg.prepare
def _(input):
    check_negation(input)


@neg.grad
def _(grad):
    return -grad


@pointwise(
    "abs", dtypes=NUMERIC, surfaces=UNARY, aliases=("absolute",), result="real",
    operators=("__abs__",),
)
def abs(input: Tensor) -> Tensor:
    """The absolute value; of complex numbers the real modulus."""


@abs.grad
def _(grad, input):
    return grad * sgn(input)


@pointwise("sign", dtypes=ALL, surfaces=BOTH)
def sgn(input: Tensor) -> Tensor:
    """The sign: -1, 0 or 1; of complex numbers ``z / |z|``, and 0 at 0."""


@sgn.grad
def _(grad, input, result):
    return sgn_backward(grad, input, result)


@pointwise("sign", dtypes=BOOL + REAL, surfaces=BOTH)
def sign(input: Tensor) -> Tensor:
    """The sign of real numbers: -1, 0 or 1."""


@sign.grad
def _(grad):
    return zeros_like(grad)


@pointwise("pow", dtypes=NUMERIC, surfaces=("inplace",), node="Pow")
def _pow(input: Tensor | Number, exponent: Tensor | Number) -> Tensor:
    """``input ** exponent``; integers wrap."""


@_pow.grad
def _(grad, input, exponent, result):
    return (
        pow_backward_base(grad, input, exponent),
        pow_backward_exponent(grad, input, exponent, result),
    )


@pointwise("square", dtypes=NUMERIC, promote="integer", surfaces=UNARY, node="Pow")
def square(input: Tensor) -> Tensor:
    """``input * input``."""


@square.grad
def _(grad, input):
    return grad * conj(input * 2)


@pointwise("reciprocal", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def reciprocal(input: Tensor) -> Tensor:
    """``1 / input``."""


@reciprocal.grad
def _(grad, result):
    return -grad * conj(result * result)


@pointwise("maximum", dtypes=BOOL + REAL, surfaces=("vt", "Tensor", "out"))
def maximum(input: Tensor, other: Tensor | Number) -> Tensor:
    """The larger element; NaN wins."""


@maximum.grad
def _(grad, input, other):
    return (
        masked_fill(grad / 2, input != other, 0) + masked_fill(grad, input <= other, 0),
        masked_fill(grad / 2, input != other, 0) + masked_fill(grad, input >= other, 0),
    )


@pointwise("minimum", dtypes=BOOL + REAL, surfaces=("vt", "Tensor", "out"))
def minimum(input: Tensor, other: Tensor | Number) -> Tensor:
    """The smaller element; NaN wins."""


@minimum.grad
def _(grad, input, other):
    return (
        masked_fill(grad / 2, input != other, 0) + masked_fill(grad, input >= other, 0),
        masked_fill(grad / 2, input != other, 0) + masked_fill(grad, input <= other, 0),
    )


# --- elementary functions ------------------------------------------------------------------------------

@pointwise("exp", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def exp(input: Tensor) -> Tensor:
    """The exponential."""


@exp.grad
def _(grad, result):
    return grad * conj(result)


@pointwise("expm1", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def expm1(input: Tensor) -> Tensor:
    """``exp(input) - 1``, accurate near 0."""


@expm1.grad
def _(grad, result):
    return grad * conj(result + 1)


@pointwise("log", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def log(input: Tensor) -> Tensor:
    """The natural logarithm."""


@log.grad
def _(grad, input):
    return grad / conj(input)


@pointwise("log1p", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def log1p(input: Tensor) -> Tensor:
    """``log(1 + input)``, accurate near 0."""


@log1p.grad
def _(grad, input):
    return grad / conj(input + 1)


@pointwise("log2", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def log2(input: Tensor) -> Tensor:
    """The logarithm to base 2."""


@log2.grad
def _(grad, input):
    return grad / conj(input * 0.6931471805599453)


@pointwise("sqrt", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def sqrt(input: Tensor) -> Tensor:
    """The square root."""


@sqrt.grad
def _(grad, result):
    return grad / conj(result * 2)


@pointwise("rsqrt", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def rsqrt(input: Tensor) -> Tensor:
    """``1 / sqrt(input)``."""


@rsqrt.grad
def _(grad, result):
    return grad * conj(result * result * result) * -0.5


@pointwise("sin", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def sin(input: Tensor) -> Tensor:
    """The sine, of radians."""


@sin.grad
def _(grad, input):
    return grad * conj(cos(input))


@pointwise("cos", dtypes=FLOATING + COMPLEX, promote="float", surfaces=UNARY)
def cos(input: Tensor) -> Tensor:
    """The cosine, of radians."""


@cos.grad
def _(grad, input):
    return grad * -conj(sin(input))


@pointwise("tanh", dtypes=FLOATING + COMPLEX, promote="float", surfaces=(*UNARY, "nn.functional"))
def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""


@tanh.grad
def _(grad, result):
    return tanh_backward(grad, result)


@pointwise("tanh_backward", dtypes=FLOATING + COMPLEX, surfaces=())
def tanh_backward(grad_output: Tensor, output: Tensor) -> Tensor:
    """``grad_output * conj(1 - output**2)``."""


@tanh_backward.grad
def _(grad, grad_output, output):
    return tanh_backward(grad, output), grad * conj(grad_output * output * -2)


@pointwise("sigmoid", dtypes=FLOATING + COMPLEX, promote="float", surfaces=(*UNARY, "nn.functional"))
def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + exp(-input))``."""


@sigmoid.grad
def _(grad, result):
    return sigmoid_backward(grad, result)


@pointwise("sigmoid_backward", dtypes=FLOATING + COMPLEX, surfaces=())
def sigmoid_backward(grad_output: Tensor, output: Tensor) -> Tensor:
    """``grad_output * conj(output * (1 - output))``."""


@sigmoid_backward.grad
def _(grad, grad_output, output):
    return sigmoid_backward(grad, output), grad * conj(grad_output * (1 - output * 2))


@pointwise("erf", dtypes=FLOATING, promote="float", surfaces=(*UNARY, "special"))
def erf(input: Tensor) -> Tensor:
    """The error function."""


@erf.grad
def _(grad, input):
    return grad * exp(-square(input)) * 1.1283791670955126


@pointwise("floor", dtypes=REAL, surfaces=UNARY)
def floor(input: Tensor) -> Tensor:
    """The next integer below."""


@floor.grad
def _(grad):
    return zeros_like(grad)


@pointwise("ceil", dtypes=REAL, surfaces=UNARY)
def ceil(input: Tensor) -> Tensor:
    """The next integer above."""


@ceil.grad
def _(grad):
    return zeros_like(grad)


@pointwise("trunc", dtypes=REAL, surfaces=UNARY)
def trunc(input: Tensor) -> Tensor:
    """The integer part."""


@trunc.grad
def _(grad):
    return zeros_like(grad)


@pointwise("round", dtypes=REAL, surfaces=UNARY)
def round(input: Tensor) -> Tensor:
    """The nearest integer, halves to even."""


@round.grad
def _(grad):
    return zeros_like(grad)


# --- activations ---------------------------------------------------------------------------------------

@pointwise("relu", dtypes=REAL, surfaces=("vt", "Tensor", "inplace", "vt_", "nn.functional_"))
def relu(input: Tensor) -> Tensor:
    """``max(input, 0)``; NaN stays."""


@relu.grad
def _(grad, result):
    return threshold_backward(grad, result, 0)


@pointwise("threshold_backward", dtypes=REAL, surfaces=())
def threshold_backward(grad_output: Tensor, input: Tensor, threshold: Scalar) -> Tensor:
    """`grad_output` where ``input > threshold``, else 0."""


@threshold_backward.grad
def _(grad, input, threshold):
    return threshold_backward(grad, input, threshold), zeros_like(grad)


@pointwise(
    {"none": "gelu_erf", "tanh": "gelu_tanh"}, dtypes=FLOATING, surfaces=("nn.functional",)
)
def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit: ``x * Phi(x)`` with the normal distribution function ``Phi``.

    ``approximate="tanh"`` is the tanh form. Hendrycks and Gimpel, arXiv 1606.08415.

    >>> F.gelu(vt.tensor([1.0]))
    tensor([0.8413])
    """


@gelu.grad
def _(grad, input, approximate):
    return gelu_backward(grad, input, approximate)


@pointwise(
    {"none": "gelu_erf_backward", "tanh": "gelu_tanh_backward"}, dtypes=FLOATING, surfaces=()
)
def gelu_backward(grad_output: Tensor, input: Tensor, approximate: str = "none") -> Tensor:
    """`grad_output` times the derivative of :func:`gelu` at `input`."""


@gelu_backward.grad
def _(grad, grad_output, input, approximate):
    return (
        gelu_backward(grad, input, approximate),
        grad * grad_output * gelu_second_derivative(input, approximate),
    )


@pointwise("silu", dtypes=FLOATING + COMPLEX, surfaces=())
def _silu(input: Tensor) -> Tensor:
    """``input * sigmoid(input)``."""


@_silu.grad
def _(grad, input):
    return silu_backward(grad, input)


@pointwise("silu_backward", dtypes=FLOATING + COMPLEX, surfaces=())
def silu_backward(grad_output: Tensor, input: Tensor) -> Tensor:
    """`grad_output` times the derivative of :func:`silu` at `input`."""


@silu_backward.grad
def _(grad, grad_output, input):
    return silu_backward(grad, input), grad * grad_output * silu_second_derivative(input)


@pointwise(
    {"none": "bias_gelu_erf", "tanh": "bias_gelu_tanh"}, dtypes=FLOATING, surfaces=("nn.functional",)
)
def bias_gelu(input: Tensor, bias: Tensor, *, approximate: str = "none") -> Tensor:
    """``gelu(input + bias, approximate)``; the two broadcast."""


@bias_gelu.grad
def _(grad, input, bias, approximate):
    slope = bias_gelu_backward(grad, input, bias, approximate)
    return slope, slope


@pointwise(
    {"none": "bias_gelu_erf_backward", "tanh": "bias_gelu_tanh_backward"}, dtypes=FLOATING,
    surfaces=(),
)
def bias_gelu_backward(
    grad_output: Tensor, input: Tensor, bias: Tensor, approximate: str = "none"
) -> Tensor:
    """`grad_output` times the derivative of gelu at ``input + bias``."""


@bias_gelu_backward.grad
def _(grad, grad_output, input, bias, approximate):
    curve = grad * grad_output * gelu_second_derivative(input + bias, approximate)
    return bias_gelu_backward(grad, input, bias, approximate), curve, curve


@pointwise("bias_silu", dtypes=FLOATING, surfaces=("nn.functional",))
def bias_silu(input: Tensor, bias: Tensor) -> Tensor:
    """``silu(input + bias)``; the two broadcast."""


@bias_silu.grad
def _(grad, input, bias):
    slope = bias_silu_backward(grad, input, bias)
    return slope, slope


@pointwise("bias_silu_backward", dtypes=FLOATING, surfaces=())
def bias_silu_backward(grad_output: Tensor, input: Tensor, bias: Tensor) -> Tensor:
    """`grad_output` times the derivative of silu at ``input + bias``."""


@bias_silu_backward.grad
def _(grad, grad_output, input, bias):
    curve = grad * grad_output * silu_second_derivative(input + bias)
    return bias_silu_backward(grad, input, bias), curve, curve


# --- comparisons -----------------------------------------------------------------------------------------

@pointwise("eq", dtypes=ALL, result="bool", operators=("__eq__",))
def eq(input: Tensor, other: Tensor | Number) -> Tensor:
    """``input == other``, elementwise."""


@pointwise("ne", dtypes=ALL, result="bool", aliases=("not_equal",), operators=("__ne__",))
def ne(input: Tensor, other: Tensor | Number) -> Tensor:
    """``input != other``, elementwise."""


@pointwise("lt", dtypes=BOOL + REAL, result="bool", aliases=("less",), operators=("__lt__",))
def lt(input: Tensor, other: Tensor | Number) -> Tensor:
    """``input < other``, elementwise."""


@pointwise("le", dtypes=BOOL + REAL, result="bool", aliases=("less_equal",), operators=("__le__",))
def le(input: Tensor, other: Tensor | Number) -> Tensor:
    """``input <= other``, elementwise."""


@pointwise("gt", dtypes=BOOL + REAL, result="bool", aliases=("greater",), operators=("__gt__",))
def gt(input: Tensor, other: Tensor | Number) -> Tensor:
    """``input > other``, elementwise."""


@pointwise(
    "ge", dtypes=BOOL + REAL, result="bool", aliases=("greater_equal",), operators=("__ge__",)
)
def ge(input: Tensor, other: Tensor | Number) -> Tensor:
    """``input >= other``, elementwise."""


@pointwise("isnan", dtypes=ALL, result="bool", surfaces=("vt", "Tensor"))
def isnan(input: Tensor) -> Tensor:
    """Where `input` is NaN."""


@pointwise("isinf", dtypes=ALL, result="bool", surfaces=("vt", "Tensor"))
def isinf(input: Tensor) -> Tensor:
    """Where `input` is plus or minus infinity."""


@pointwise("isfinite", dtypes=ALL, result="bool", surfaces=("vt", "Tensor"))
def isfinite(input: Tensor) -> Tensor:
    """Where `input` is neither infinite nor NaN."""


# --- logic ---------------------------------------------------------------------------------------------

@pointwise("logical_and", dtypes=ALL, result="bool")
def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Whether both are non-zero."""


@pointwise("logical_or", dtypes=ALL, result="bool")
def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Whether either is non-zero."""


@pointwise("logical_xor", dtypes=ALL, result="bool")
def logical_xor(input: Tensor, other: Tensor) -> Tensor:
    """Whether exactly one is non-zero."""


@pointwise("logical_not", dtypes=ALL, result="bool")
def logical_not(input: Tensor) -> Tensor:
    """Whether `input` is zero."""


@pointwise("bitwise_and", dtypes=BOOL + INTEGRAL, operators=("__and__", "__iand__"))
def bitwise_and(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """``input & other``."""


@pointwise("bitwise_or", dtypes=BOOL + INTEGRAL, operators=("__or__", "__ior__"))
def bitwise_or(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """``input | other``."""


@pointwise("bitwise_xor", dtypes=BOOL + INTEGRAL, operators=("__xor__", "__ixor__"))
def bitwise_xor(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """``input ^ other``."""


@pointwise("bitwise_not", dtypes=BOOL + INTEGRAL, operators=("__invert__",))
def bitwise_not(input: Tensor) -> Tensor:
    """``~input``: the complement; of bool the negation."""


# --- selection -------------------------------------------------------------------------------------------

@pointwise("where", dtypes=ALL, bools=("condition",), surfaces=("out",), node="Where")
def _where(condition: Tensor, input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """`input` where `condition`, else `other`."""


@_where.grad
def _(grad, condition):
    return None, _where(condition, grad, 0), _where(condition, 0, grad)


@pointwise("masked_fill", dtypes=ALL, bools=("mask",), surfaces=("inplace",), node="MaskedFill")
def _masked_fill(input: Tensor, mask: Tensor, value: Tensor | Number) -> Tensor:
    """`value` where `mask`, else `input`."""


@_masked_fill.grad
def _(grad, mask):
    return masked_fill(grad, mask, 0), None, _where(mask, grad, 0)


@pointwise("clamp", dtypes=REAL, surfaces=("inplace",), node="Clamp")
def _clamp(input: Tensor, min: Scalar, max: Scalar) -> Tensor:
    """`input` limited to [min, max]."""


@_clamp.grad
def _(grad, input, min, max):
    return _where(logical_and(input >= min, input <= max), grad, 0)


@pointwise("clamp_min", dtypes=REAL, surfaces=("inplace",), node="Clamp")
def _clamp_min(input: Tensor, min: Scalar) -> Tensor:
    """`input` limited from below."""


@_clamp_min.grad
def _(grad, input, min):
    return _where(input >= min, grad, 0)


@pointwise("clamp_max", dtypes=REAL, surfaces=("inplace",), node="Clamp")
def _clamp_max(input: Tensor, max: Scalar) -> Tensor:
    """`input` limited from above."""


@_clamp_max.grad
def _(grad, input, max):
    return _where(input <= max, grad, 0)


@pointwise("lerp", dtypes=FLOATING + COMPLEX, surfaces=("vt", "Tensor", "inplace", "out"))
def lerp(input: Tensor, end: Tensor, weight: Tensor | Number) -> Tensor:
    """``input + weight * (end - input)``."""


@lerp.grad
def _(grad, input, end, weight):
    return grad * conj(1 - weight), grad * conj(weight), grad * conj(end - input)


# --- complex numbers -------------------------------------------------------------------------------------

@pointwise("conj", dtypes=COMPLEX, surfaces=(), node="ConjPhysical")
def _conj(input: Tensor) -> Tensor:
    """The complex conjugate."""


@_conj.grad
def _(grad):
    return conj(grad)


@pointwise("real", dtypes=COMPLEX, result="real", surfaces=(), node="Real")
def _real(input: Tensor) -> Tensor:
    """The real part, as a copy."""


@_real.grad
def _(grad, input_dtype):
    return to_dtype(grad, input_dtype)
