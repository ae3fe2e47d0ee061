"""Samples for every operator of the table: arguments as PyTorch tensors, made for a dtype.

Pointwise operators and reductions get theirs from the declaration; all others name them in `SPECIFIC`.
A sample is a tuple of arguments, a dict at its end holds keywords.
"""

import math
import zlib

import torch

from . import fused_peers

INTEGRAL = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
DTYPES = (torch.bool, *INTEGRAL, *FLOATING, *COMPLEX)

# Where an operator is smooth; gradients are taken there.
DOMAIN = {
    "log": (0.3, 3.0),
    "log2": (0.3, 3.0),
    "log1p": (-0.5, 3.0),
    "sqrt": (0.3, 3.0),
    "rsqrt": (0.3, 3.0),
    "pow": (0.3, 2.0),
    "pow_": (0.3, 2.0),
    "reciprocal": (0.4, 3.0),
    "true_divide": (0.4, 3.0),
    "div": (0.4, 3.0),
    "div_": (0.4, 3.0),
    "remainder": (0.4, 3.0),
    "fmod": (0.4, 3.0),
    "floor_divide": (0.4, 3.0),
    "prod": (0.4, 2.0),
    "std": (-2.0, 2.0),
    "multinomial": (0.1, 2.0),
    "bernoulli": (0.0, 1.0),
}
# Operators whose value is random or undefined: only dtype, shape and strides are compared.
RANDOM = {
    "uniform_",
    "normal_",
    "bernoulli",
    "bernoulli_",
    "multinomial",
    "rand_like",
    "randn_like",
    "empty_like",
}
SHAPES = ((3, 4), (), (0, 3), (5,), (2, 1, 3), (1, 2) * 4 + (3,))
PAIRS = (
    ((3, 4), (3, 4)),
    ((3, 1), (1, 4)),
    ((3, 4), ()),
    ((), (4,)),
    ((2, 0, 3), (3,)),
    ((), ()),
    ((1, 2) * 4 + (3,), (2, 1, 3)),
    ((2, 3, 1), (3, 4)),
)


class Make:
    """Makes tensors of one dtype; the same ones for the same operator."""

    def __init__(self, name, dtype, smooth=False):
        self.dtype, self.name = dtype, name
        self.low, self.high = DOMAIN.get(name, (-2.5, 2.5)) if smooth else (-2.5, 2.5)
        if name in ("multinomial", "bernoulli", "prod"):
            self.low, self.high = DOMAIN[name]
        self.rng = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def __call__(self, *shape, dtype=None, low=None, high=None):
        dtype = dtype or self.dtype
        low, high = self.low if low is None else low, self.high if high is None else high
        if dtype == torch.bool:
            return torch.randint(0, 2, shape, generator=self.rng).bool()
        if dtype in INTEGRAL:
            low = 0 if dtype == torch.uint8 else -5
            return torch.randint(low, 9, shape, generator=self.rng).to(dtype)
        parts = (
            torch.rand((*shape, 2), generator=self.rng, dtype=torch.float64) * (high - low) + low
        )
        x = torch.view_as_complex(parts) if dtype in COMPLEX else parts[..., 0]
        return torch.empty(shape, dtype=dtype).copy_(x)

    def distinct(self, *shape):
        """No two equal, where the dtype has enough values: the order of equals is not promised."""
        values = torch.randperm(math.prod(shape), generator=self.rng).reshape(shape)
        return (
            values.to(self.dtype) if self.dtype in INTEGRAL else ((values - 3) * 0.5).to(self.dtype)
        )

    def nonzero(self, *shape):
        x = self(*shape)
        return x if self.dtype == torch.bool else torch.where(x == 0, torch.ones_like(x), x)

    def index(self, *shape, high):
        return torch.randint(0, high, shape, generator=self.rng)

    def mask(self, *shape):
        return self(*shape, dtype=torch.bool)


def unpack(sample):
    """The arguments and the keywords of a sample."""
    return (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})


def pointwise_samples(op, m):
    count = len(op.tensors)
    if count == 1:
        for choice in op.choices.get("approximate", ("",)):
            for shape in SHAPES:
                yield (m(*shape), {"approximate": choice} if choice else {})
        return
    if count == 3:
        for a, b in PAIRS:
            yield (m(*a), m(*b), m(*a))
        yield (m(3, 4), m(4), 0.25)
        return
    divides = op.name in ("remainder", "fmod", "floor_divide", "true_divide")
    second = m.nonzero if divides else m
    for a, b in PAIRS:
        yield (m(*a), second(*b))
    if op.params[1].type == "Tensor | Number" and op.name not in ("maximum", "minimum"):
        yield from ((m(3, 4), number) for number in (2, True, 1.5))
        yield (m(), 3)
    if any(p.name == "alpha" for p in op.params):
        yield (m(3, 4), m(4), {"alpha": 2})
    for dtype in (torch.int16, torch.float32, torch.bfloat16, torch.complex64):
        other = m(3, 4, dtype=dtype)
        other[other == 0] = 1
        yield (m(3, 4), other)
        # float16 with a complex number is PyTorch's complex32, which we do not have: see test_values.
        if not (m.dtype == torch.float16 and dtype.is_complex):
            yield (m(3, 4), other[0, 0])


def reduction_samples(op, m):
    single = "single_dim" in op.flags
    make = m.distinct if op.result == "index" else m
    yield (make(3, 4),)
    yield (make(),)
    for dim in (0, -1) if single else (0, -1, (0, 1), (2, 0), (-1,)):
        yield (make(2, 3, 4), dim)
        yield (make(2, 3, 4), dim, {"keepdim": True})
    yield (make(), 0)
    yield (make(2, 0, 3), 2)
    if "no_empty" not in op.flags:
        yield (make(0),)
        yield (make(2, 0, 3), 1)
    yield (make(*((1, 2) * 4 + (3,))), 3)
    if any(p.name == "dtype" for p in op.params):
        yield (make(3, 4), 1, {"dtype": torch.float64})
        yield (make(3, 4), {"dtype": torch.float32})


def variance(m):
    return [
        (m(3, 4),),
        (m(3, 4), 1),
        (m(2, 3, 4), (0, 2), {"correction": 0}),
        (m(3, 4), 0, False),
        (m(3, 4), 1, {"keepdim": True}),
        (m(3, 4), False),
    ]


def sorting(m):
    return [
        (m.distinct(3, 4),),
        (m.distinct(3, 4), 0),
        (m.distinct(2, 3, 4), 1, True),
        (m(5, 3), {"stable": True})
        if m.name != "argsort"
        else (m(5, 3), {"dim": -1, "stable": True}),
        (m.distinct(0, 3),),
    ]


def extremes(m):
    return [
        (m(3, 4),),
        (m(),),
        (m.distinct(3, 4), 1),
        (m.distinct(3, 4), 0, True),
        (m(3, 1), m(1, 4)),
    ]


def rounding(m):
    return [(m(3, 4), m.nonzero(4), {"rounding_mode": r}) for r in (None, "floor", "trunc")] + [
        (m(3, 4), 2),
        (m(3, 4), -3, {"rounding_mode": "floor"}),
    ]


def powers(m):
    integer = m.dtype in (torch.bool, *INTEGRAL)
    exponent = m(3, 4).abs() if integer and m.dtype != torch.bool else m(3, 4)
    return [(m(3, 4), exponent), (m(3, 4), 2), (m(3, 4), 3), (m(3, 4), 0), (m(3, 4), 1)] + (
        [] if integer else [(m(3, 4), 0.5), (m(3, 4), -1), (m(3, 4), 1.7), (m(3, 4), -2)]
    )


def bounds(m):
    return [
        (m(3, 4), -1, 1),
        (m(3, 4), {"min": 0}),
        (m(3, 4), {"max": 1}),
        (m(3, 4), 2, -1),
        (m(3, 4), m(4), m(3, 1)),
        (m(3, 4), {"min": m(4)}),
        (m(3, 4), -0.5, 1.5),
    ]


def likes(m):
    return [(m(3, 4),), (m(3, 4).t(),), (m(0),), (m(3, 4), {"dtype": torch.float64})]


def products(m):
    return [
        (m(3, 4), m(4, 2)),
        (m(4), m(4)),
        (m(3, 4), m(4)),
        (m(4), m(4, 2)),
        (m(2, 3, 4), m(2, 4, 5)),
        (m(2, 1, 3, 4), m(5, 4, 2)),
        (m(2, 3, 4), m(4)),
        (m(3, 0), m(0, 2)),
        (m(0, 3), m(3, 2)),
        (m(4), m(3, 4, 2)),
    ]


def labels(m):
    return [
        (m(5, 4), m.index(5, high=4)),
        (m(4), m.index(high=4)),
        (m(2, 4, 3), m.index(2, 3, high=4), {"reduction": "none"}),
        (m(5, 4), m.index(5, high=4), {"weight": m(4, low=0.1, high=1.0), "reduction": "sum"}),
        (m(5, 4), m.index(5, high=4), {"ignore_index": 2, "weight": m(4, low=0.1, high=1.0)}),
    ]


def attention(m):
    q, k, v = m(2, 2, 3, 4), m(2, 2, 5, 4), m(2, 2, 5, 6)
    return [
        (q, k, v),
        (q, k, v, {"is_causal": True}),
        (q, k, v, m(3, 5)),
        (q, k, v, {"scale": 0.3}),
        (q, k, v, torch.ones(3, 5).tril().bool()),
        (m(3, 4), m(5, 4), m(5, 4)),
        (m(1, 4, 3, 4), m(1, 2, 5, 4), m(1, 2, 5, 4), {"enable_gqa": True}),
    ]


def windows(m):
    return [
        (m(2, 3, 7), m(4, 3, 3)),
        (m(2, 3, 7), m(4, 3, 3), m(4), 2, 1),
        (m(2, 4, 8), m(6, 2, 3), m(6), {"groups": 2, "dilation": 2, "padding": 2}),
        (m(3, 7), m(4, 3, 2)),
        (m(2, 3, 7), m(4, 3, 3), m(4), {"padding": "valid", "stride": 2}),
        (m(2, 3, 7), m(4, 3, 3), m(4), {"padding": "same"}),
        (m(2, 3, 7), m(4, 3, 4), None, 1, "same", 3),
        (m(3, 7), m(4, 3, 2), {"padding": "same"}),
    ]


SPECIFIC = {
    "as_strided": lambda m: [(m(3, 4), (2, 2), (1, 2)), (m(12), (3, 2), (4, 1), 1), (m(5), (), ())],
    "view": lambda m: [(m(3, 4), (2, 6)), (m(3, 4), (-1,)), (m(0, 3), (3, 0)), (m(), (1, 1))],
    "permute": lambda m: [(m(2, 3, 4), (2, 0, 1)), (m(2, 3), (-1, 0)), (m(), ())],
    "transpose": lambda m: [(m(2, 3, 4), 0, 2), (m(2, 3), -1, -2), (m(), 0, -1)],
    "t": lambda m: [(m(2, 3),), (m(3),), (m(),)],
    "expand": lambda m: [(m(3, 1), (3, 4)), (m(4), (2, -1)), (m(), (2, 3)), (m(1), (0,))],
    "squeeze": lambda m: [
        (m(2, 1, 3, 1),),
        (m(2, 1, 3), 1),
        (m(2, 1, 1), (1, 2)),
        (m(2), 0),
        (m(),),
    ],
    "unsqueeze": lambda m: [(m(2, 3), 0), (m(2, 3), -1), (m(), 0)],
    "select": lambda m: [(m(3, 4), 0, 1), (m(3, 4), -1, -2)],
    "narrow": lambda m: [(m(3, 4), 1, 1, 2), (m(3, 4), 0, -2, 1), (m(3), 0, 3, 0)],
    "diagonal": lambda m: [(m(3, 4),), (m(3, 4), 1), (m(2, 3, 4), -1, 1, 2), (m(2, 2), 5)],
    "view_as_real": lambda m: [(m(3, 4),), (m(),)],
    "alias": lambda m: [(m(3, 4),)],
    "unbind": lambda m: [(m(3, 4),), (m(3, 4), -1), (m(0, 4),)],
    "fill_": lambda m: [(m(3, 4), 1), (m(3, 4), m()), (m(0), 2)],
    "zero_": lambda m: [(m(3, 4),), (m(0),)],
    "tril": lambda m: [(m(3, 4),), (m(2, 3, 3), 1), (m(4, 3), -1), (m(0, 3),)],
    "triu": lambda m: [(m(3, 4),), (m(2, 3, 3), 1), (m(4, 3), -1), (m(0, 3),)],
    "tril_": lambda m: [(m(3, 4),), (m(2, 3, 3), 1)],
    "triu_": lambda m: [(m(3, 4),), (m(2, 3, 3), -1)],
    "uniform_": lambda m: [(m(3, 4),), (m(3, 4), 0.0, 2.0)],
    "normal_": lambda m: [(m(3, 4),), (m(3, 4), 1.0, 2.0)],
    "bernoulli": lambda m: [(m(3, 4),), (m(3, 4), 0.3)],
    "bernoulli_": lambda m: [(m(3, 4),), (m(3, 4), 0.3), (m(3, 4), torch.rand(4))],
    "multinomial": lambda m: [(m(3, 4), 2), (m(4), 3), (m(2, 3), 5, True)],
    "copy_": lambda m: [(m(3, 4), m(4)), (m(3, 4), m(3, 4, dtype=torch.float32)), (m(2), m())],
    "clone": lambda m: [(m(3, 4),), (m(3, 4).t(),), (m(2, 3, 4)[:, ::2],), (m(1).expand(3),)],
    "contiguous": lambda m: [(m(3, 4),), (m(3, 4).t(),)],
    "detach": lambda m: [(m(3, 4).t(),)],
    "full_like": lambda m: [(m(3, 4), 1), (m(3, 4).t(), True)],
    "gather": lambda m: [
        (m(3, 4), 1, m.index(3, 2, high=4)),
        (m(3, 4), 0, m.index(2, 4, high=3)),
        (m(), 0, m.index(high=1)),
        (m(3, 4), 0, m.index(0, 4, high=1)),
    ],
    "scatter_add": lambda m: [
        (m(3, 4), 1, m.index(3, 2, high=4), m(3, 2)),
        (m(3, 4), 0, m.index(2, 4, high=3), m(2, 4)),
    ],
    "scatter": lambda m: [
        (m(3, 4), 1, torch.tensor([[0, 2]] * 3), m(3, 2)),
        (m(3, 4), 0, m.index(1, 4, high=3), 1),
    ],
    "scatter_": lambda m: [
        (m(3, 4), 1, torch.tensor([[0, 2]] * 3), m(3, 2)),
        (m(3, 4), 0, m.index(1, 4, high=3), {"value": 1}),
    ],
    "index_select": lambda m: [
        (m(3, 4), 1, m.index(5, high=4)),
        (m(3, 4), 0, m.index(high=3)),
        (m(3, 4), 0, m.index(2, high=3).int()),
    ],
    "index_add": lambda m: [
        (m(3, 4), 1, m.index(2, high=4), m(3, 2)),
        (m(3, 4), 0, m.index(5, high=3), m(5, 4), {"alpha": 2}),
    ],
    "index_put": lambda m: [
        (m(3, 4), (torch.tensor([0, 2]), torch.tensor([1, 3])), m(2)),
        (m(3, 4), (m.index(5, high=3),), m(4), True),
        (m(3, 4), (m.mask(3, 4),), m()),
    ],
    "nonzero": lambda m: [(m(3, 4),), (m(),), (m(0, 3),), (m(3, 4), {"as_tuple": True})],
    "masked_select": lambda m: [
        (m(3, 4), m.mask(3, 4)),
        (m(3, 4), m.mask(4)),
        (m(1, 4), m.mask(3, 1)),
    ],
    "cat": lambda m: [
        ([m(2, 3), m(1, 3)],),
        ([m(2, 3), m(2, 1)], -1),
        ([m(2), m(3, dtype=torch.float32)],),
        ([m(0), m(2, 3)],),
    ],
    "stack": lambda m: [([m(2, 3), m(2, 3)],), ([m(2, 3), m(2, 3)], -1), ([m(), m()],)],
    "split": lambda m: [(m(5, 4), 2), (m(5, 4), (1, 3), 1), (m(5, 4), (2, 0, 3)), (m(0), 1)],
    "chunk": lambda m: [(m(5, 4), 2), (m(5, 4), 3, 1), (m(2), 5)],
    "sort": sorting,
    "argsort": sorting,
    "max": extremes,
    "min": extremes,
    "topk": lambda m: [
        (m.distinct(3, 4), 2),
        (m.distinct(3, 4), 2, 0, False),
        (m.distinct(6), 6),
        (m.distinct(3, 4), 0),
    ],
    "mm": lambda m: [(m(3, 4), m(4, 2)), (m(3, 0), m(0, 2)), (m(3, 4).t(), m(3, 2))],
    "bmm": lambda m: [(m(2, 3, 4), m(2, 4, 2)), (m(0, 3, 4), m(0, 4, 2))],
    "addmm": lambda m: [
        (m(3, 2), m(3, 4), m(4, 2)),
        (m(2), m(3, 4), m(4, 2), {"beta": 2, "alpha": 3}),
        (m(2), m(3, 4), m(4, 2), {"beta": 0}),
    ],
    "baddbmm": lambda m: [
        (m(2, 3, 2), m(2, 3, 4), m(2, 4, 2)),
        (m(2), m(2, 3, 4), m(2, 4, 2), {"beta": 2, "alpha": 3}),
        (m(3, 1), m(2, 3, 4), m(2, 4, 2), {"beta": 0}),
    ],
    "matmul": products,
    "linear": lambda m: [(m(3, 4), m(2, 4)), (m(2, 3, 4), m(5, 4), m(5)), (m(4), m(2, 4), m(2))],
    "conv1d": windows,
    "softmax": lambda m: [
        (m(3, 4), 1),
        (m(2, 3, 4), 1),
        (m(), 0),
        (m(0, 3), 1),
        (m(3, 0), 1),
        (m(3, 4), 0, {"dtype": torch.float64}),
    ],
    "log_softmax": lambda m: [
        (m(3, 4), 1),
        (m(2, 3, 4), 1),
        (m(), 0),
        (m(0, 3), 1),
        (m(3, 4), 0, {"dtype": torch.float64}),
    ],
    "layer_norm": lambda m: [
        (m(3, 4), (4,)),
        (m(2, 3, 4), (3, 4), m(3, 4), m(3, 4)),
        (m(0, 4), (4,)),
        (m(3, 4), (4,), m(4), None, 1e-3),
    ],
    "rotary_embedding": lambda m: [
        (m(2, 3, 2, 8), m(3, 4), m(3, 4)),
        (m(2, 3, 2, 8), m(3, 4), m(3, 4), True),
        (m(2, 3, 1, 7), m(3, 2), m(3, 2)),
        (m(1, 3, 2, 9), m(3, 3), m(3, 3), True),
        (m(0, 3, 2, 4), m(3, 2), m(3, 2)),
    ],
    "rms_norm": lambda m: [(m(3, 4), (4,)), (m(2, 3, 4), (4,), m(4)), (m(3, 4), (4,), None, 1e-3)],
    "cross_entropy": lambda m: [
        *labels(m),
        (m(5, 4), m(5, 4, low=0.0, high=1.0)),
        (m(5, 4), m.index(5, high=4), {"label_smoothing": 0.1}),
    ],
    "nll_loss": labels,
    "mse_loss": lambda m: [
        (m(3, 4), m(3, 4)),
        (m(3, 4), m(3, 4), {"reduction": "sum"}),
        (m(3), m(3), {"reduction": "none"}),
    ],
    "embedding": lambda m: [
        (m.index(2, 3, high=5), m(5, 4)),
        (m.index(high=5).int(), m(5, 4)),
        (torch.tensor([1, 1, 3]), m(5, 4), 1, {"scale_grad_by_freq": True}),
    ],
    "scaled_dot_product_attention": attention,
    "dropout": lambda m: [(m(3, 4), 0.0), (m(3, 4), 0.5, False), (m(3, 4), 1.0)],
    "functional_relu": lambda m: [(m(3, 4),), (m(3, 4), {"inplace": True})],
    "silu": lambda m: [(m(3, 4),), (m(3, 4), {"inplace": True})],
    "one_hot": lambda m: [(m.index(2, 3, high=4),), (m.index(3, high=4), 6), (m.index(high=4), 4)],
    "div": rounding,
    "div_": rounding,
    "pow": powers,
    "pow_": powers,
    "conj": lambda m: [(m(3, 4),)],
    "real": lambda m: [(m(3, 4),)],
    "clamp": bounds,
    "clamp_": bounds,
    "clamp_min": lambda m: [(m(3, 4), 0), (m(3, 4), m(4))],
    "clamp_max": lambda m: [(m(3, 4), 1), (m(3, 4), m(4))],
    "where": lambda m: [
        (m.mask(3, 4), m(3, 4), m(3, 4)),
        (m.mask(3, 1), m(4), 0),
        (m.mask(4), 1, m(3, 1)),
        (m.mask(3), m(3), m(3, dtype=torch.float32)),
    ],
    "masked_fill": lambda m: [(m(3, 4), m.mask(3, 4), 1), (m(3, 4), m.mask(4), m())],
    "masked_fill_": lambda m: [(m(3, 4), m.mask(3, 4), 1), (m(3, 4), m.mask(4), m())],
    "cumsum": lambda m: [
        (m(3, 4), 0),
        (m(3, 4), -1),
        (m(), 0),
        (m(0, 3), 1),
        (m(3, 4), 0, {"dtype": torch.float64}),
    ],
    "var": variance,
    "std": variance,
    "reshape": lambda m: [(m(3, 4), (2, 6)), (m(3, 4).t(), (-1,)), (m(0, 3), (3, 0))],
    "flatten": lambda m: [
        (m(2, 3, 4),),
        (m(2, 3, 4), 1),
        (m(),),
        (m(2, 3, 4).transpose(0, 1), 0, 1),
    ],
    "expand_as": lambda m: [(m(3, 1), m(3, 4))],
    "view_as": lambda m: [(m(3, 4), m(2, 6))],
    "sum_to_size": lambda m: [(m(3, 4), (1, 4)), (m(2, 3, 4), (4,)), (m(3, 4), (3, 4))],
    "flip": lambda m: [(m(3, 4), (0,)), (m(3, 4), (0, 1)), (m(3, 4), (-1,))],
    "movedim": lambda m: [(m(2, 3, 4), 0, 2), (m(2, 3, 4), (0, 1), (-1, 0))],
    "broadcast_to": lambda m: [(m(3, 1), (3, 4)), (m(), (2,))],
    **fused_peers.SAMPLES,
}
SPECIFIC |= dict.fromkeys(
    ("zeros_like", "ones_like", "empty_like", "rand_like", "randn_like"), likes
)


def samples(op, dtype, smooth=False):
    """The samples of an operator in a dtype, as (args, keywords)."""
    m = Make(op.name, dtype, smooth)
    if op.name in SPECIFIC:
        found = SPECIFIC[op.name](m)
    elif op.kind == "pointwise":
        found = pointwise_samples(op, m)
    elif op.kind == "reduction":
        found = reduction_samples(op, m)
    else:
        raise KeyError(f"{op.where}: {op.name} has no samples; name them in tests/ops/samples.py")
    return [unpack(sample) for sample in found]
