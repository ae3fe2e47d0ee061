"""What autocast does with which operator: PyTorch's lists, for the operators that are declared here.

Only the out-of-place operators are meant; in-place forms and calls with ``out=`` are never cast.
Float64, complex and integer tensors, and tensors of another device type, are left as they are.

============== =====================================================================================
policy         the operator runs
============== =====================================================================================
lower          in the low precision of the region; casts of weights are kept until the region ends
float32        in float32
float32_dtype  with ``dtype=float32``, where it is given none: accumulates and returns float32
float32_number in float32 where its first operand is a Python number: ``1 / x`` is a reciprocal
widest         in the widest dtype among its tensors, at least the low precision
parameters     where its tensors differ, in float32, with a result in the dtype of the first
============== =====================================================================================
"""
from __future__ import annotations

from . import OPS

PRODUCTS = (
    "mm", "bmm", "addmm", "baddbmm", "matmul", "linear", "_linear_gelu", "conv1d",
    "scaled_dot_product_attention",
    # Ours: products with something fused. (linear_cross_entropy casts for itself: its loss is float32.)
    "linear_gelu", "gelu_mlp",
)

LISTS = {
    "cuda": {
        "lower": PRODUCTS,
        "float32": (
            "exp", "expm1", "log", "log2", "log1p", "reciprocal", "rsqrt", "pow", "square",
            "layer_norm", "rms_norm", "_cross_entropy_probabilities", "nll_loss", "mse_loss",
        ),
        "float32_dtype": ("sum", "prod", "cumsum", "softmax", "log_softmax", "_cross_entropy"),
        "float32_number": ("true_divide",),
        "widest": ("cat", "stack", "index_put", "scatter_add"),
    },
    "cpu": {
        "lower": PRODUCTS,
        "float32": ("_cross_entropy_probabilities", "nll_loss", "mse_loss"),
        "float32_dtype": ("prod", "_cross_entropy"),
        "widest": ("cat", "stack"),
        # PyTorch's kernels for the CPU take weights in float32 beside a low-precision input.
        "parameters": ("layer_norm", "rms_norm"),
    },
}

for _device, _lists in LISTS.items():
    for _policy, _names in _lists.items():
        for _name in _names:
            OPS[_name].autocast[_device] = _policy
