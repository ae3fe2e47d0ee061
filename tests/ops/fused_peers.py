"""Fused operators as PyTorch's separate ones, what they have to equal, and their samples."""

import torch
import torch.nn.functional as F


def dropout_add(input, residual, p=0.5, training=True):
    return residual + F.dropout(input, p, training)


def add_layer_norm(
    input, residual, shape, weight=None, bias=None, eps=1e-5, dropout_p=0.0, training=True
):
    total = dropout_add(input, residual, dropout_p, training)
    return F.layer_norm(total, shape, weight, bias, eps), total


def add_rms_norm(input, residual, shape, weight=None, eps=None, dropout_p=0.0, training=True):
    total = dropout_add(input, residual, dropout_p, training)
    return F.rms_norm(total, shape, weight, eps), total


def of_sum(function, input, bias):
    """The sum of half types is not rounded before; complex numbers are refused."""
    total = input + bias
    if total.is_complex():
        raise NotImplementedError
    if total.dtype in (torch.float16, torch.bfloat16):
        return function(input.float() + bias.float()).to(total.dtype)
    return function(total)


def bias_gelu(input, bias, *, approximate="none"):
    return of_sum(lambda x: F.gelu(x, approximate=approximate), input, bias)


def bias_silu(input, bias):
    return of_sum(F.silu, input, bias)


def swiglu(input, up=None):
    gate, up = input.chunk(2, -1) if up is None else (input, up)
    return F.silu(gate) * up


def linear_gelu(input, weight, bias=None):
    return F.gelu(F.linear(input, weight, bias), approximate="tanh")


def gelu_mlp(input, weight1, bias1, weight2, bias2):
    return F.linear(linear_gelu(input, weight1, bias1), weight2, bias2)


def embedding_with_position(input, weight, position_weight, padding_idx=None):
    return F.embedding(input, weight, padding_idx) + position_weight[: input.shape[-1]]


def linear_cross_entropy(input, linear_weight, target, *, linear_bias=None, **options):
    options["ignore_index"] = options.get("ignore_index", -100)
    return F.cross_entropy(F.linear(input, linear_weight, linear_bias), target, **options)


PEERS = {
    f.__name__: f
    for f in (
        dropout_add,
        add_layer_norm,
        add_rms_norm,
        bias_gelu,
        bias_silu,
        swiglu,
        linear_gelu,
        gelu_mlp,
        embedding_with_position,
        linear_cross_entropy,
    )
} | {"baddbmm": torch.baddbmm}

# So that sums of products keep their digits.
SMALL = {"low": -0.4, "high": 0.4}
# As in samples.py.
SAMPLES = {
    "dropout_add": lambda m: [
        (m(3, 4), m(3, 4), 0.0),
        (m(3, 4), m(3, 4), 0.5, False),
        (m(3, 4), m(3, 4), 1.0),
    ],
    "add_layer_norm": lambda m: [
        (m(3, 8), m(3, 8), (8,)),
        (m(2, 3, 4), m(2, 3, 4), (3, 4), m(3, 4), m(3, 4)),
        (m(0, 4), m(0, 4), (4,)),
        (m(3, 5), m(3, 5), (5,), m(5), None, 1e-3),
    ],
    "add_rms_norm": lambda m: [
        (m(3, 8), m(3, 8), (8,)),
        (m(2, 3, 4), m(2, 3, 4), (4,), m(4)),
        (m(3, 5), m(3, 5), (5,), None, 1e-3),
    ],
    "swiglu": lambda m: [
        (m(3, 8), m(3, 8)),
        (m(2, 3, 6),),
        (m(3, 16),),
        (m(5), m(5)),
        (m(0, 4),),
    ],
    "linear_gelu": lambda m: [
        (m(3, 4), m(8, 4)),
        (m(2, 3, 4), m(5, 4), m(5)),
        (m(4), m(2, 4), m(2)),
    ],
    "gelu_mlp": lambda m: [
        (m(3, 4), m(8, 4, **SMALL), m(8), m(4, 8, **SMALL), m(4)),
        (m(2, 3, 4), m(5, 4, **SMALL), m(5), m(2, 5, **SMALL), m(2)),
        (m(2, 3, 4), m(5, 4, **SMALL), None, m(2, 5, **SMALL), None),
    ],
    "embedding_with_position": lambda m: [
        (m.index(2, 3, high=5), m(5, 4), m(3, 4)),
        (m.index(3, high=5).int(), m(5, 8), m(6, 8)),
        (torch.tensor([[1, 1, 3]]), m(5, 4), m(7, 4), 1),
    ],
    "linear_cross_entropy": lambda m: [
        (m(5, 3), m(4, 3), m.index(5, high=4)),
        (m(5, 3), m(8, 3), m.index(5, high=8), {"linear_bias": m(8), "reduction": "sum"}),
        (
            m(5, 3),
            m(4, 3),
            torch.tensor([0, -100, 3, 1, -100]),
            {"linear_bias": m(4), "label_smoothing": 0.1},
        ),
        (m(5, 3), m(4, 3), m.index(5, high=4), {"reduction": "none"}),
        (m(5, 3), m(4, 3), torch.tensor([0, 2, 3, 1, 2]), {"ignore_index": 2}),
    ],
}
