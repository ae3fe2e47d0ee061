"""nan, inf, -0., denormals and integer extremes through every pointwise operator and reduction."""

import math
import warnings

import pytest
import torch

import vibetensor as vt

from .oracle import (
    HUGE,
    OPS,
    at_fault,
    both,
    check,
    describe,
    functions,
    grid,
    ours,
    theirs,
)
from .samples import DTYPES, FLOATING, INTEGRAL

# PyTorch's own paths disagree about the sign of some of these zeros (by dtype, or by length).
UNSIGNED = {"maximum", "minimum", "gelu", "bias_gelu"}
INF, NAN = float("inf"), float("nan")
REAL = (torch.bool, *INTEGRAL, *FLOATING)
POINTWISE = [op for op in OPS.values() if op.kind == "pointwise"] + [OPS["pow"], OPS["silu"]]
FOLDS = [op for op in OPS.values() if op.kind == "reduction"] + [
    OPS[n] for n in ("var", "cumsum", "softmax", "log_softmax")
]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def specials(dtype):
    if dtype == torch.bool:
        return torch.tensor([False, True])
    if dtype in INTEGRAL:
        info = torch.iinfo(dtype)
        return torch.tensor(
            [0, 1, 2, 3, info.max, info.max - 1, info.min, info.min + 1], dtype=dtype
        )
    info = torch.finfo(dtype)
    return torch.tensor(
        [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            1.5,
            2.5,
            -2.5,
            INF,
            -INF,
            NAN,
            info.max,
            info.min,
            info.tiny,
            -info.tiny,
            info.smallest_normal / 2,
            info.eps,
            3.0,
            88.0,
            -88.0,
            710.0,
            1e4,
            -104.0,
        ],
        dtype=dtype,
    )


@pytest.mark.parametrize(("op", "dtype"), grid("special", POINTWISE, REAL))
def test_pointwise(op, dtype):
    """All pairs of special values, each at every place of a vector and in its remainder."""
    x = specials(dtype)
    count = len(op.tensors)
    cases = [(x,), (x.repeat(5),)] if count == 1 else [(x[:, None], x), (x, x.flip(0))]
    cases = [(*c, 0.5) for c in cases] if count == 3 else cases
    if op.name in ("floor_divide", "remainder", "fmod") and dtype in INTEGRAL:
        # The quotient of the least integer and -1 does not exist: the processor traps on it.
        y = x[(x != 0) & (x != -1)]
        cases = [(x[:, None], y), (x, torch.zeros_like(x))]
    if op.name == "pow" and dtype in INTEGRAL:
        cases = [(x[:, None], x[x >= 0])]
    if op.name in ("floor_divide", "remainder", "fmod") and dtype in FLOATING:
        # PyTorch's vectors give wrong remainders where the quotient has more digits than the dtype:
        # test_large_quotients.
        y = x[((x.abs() > 0.1) & (x.abs() < 800)) | ~x.isfinite() | (x == 0)]
        cases = [(y[:, None], y)]
    for args in cases:
        found = both(op, args, {})
        if found is not None:
            if at_fault(HUGE, op.name):
                inner = args[0] if op.name == "gelu" else args[0] + args[1]
                huge = inner > torch.finfo(dtype).max / 8
                found[1][huge] = inner[huge]
            signs = dtype in FLOATING and op.name not in UNSIGNED
            check(*found, where=op.name + describe(args, {}), signs=signs)
            if dtype in (torch.float32, torch.float64) and op.name in UNSIGNED:
                agreed_signs(op, args, *found)


def agreed_signs(op, args, mine, expected):
    """The sign of zeros on which PyTorch's vectors agree with its single elements. (For half types it
    takes the first of equals, for others the second; we always take the second.)"""
    wide = torch.broadcast_tensors(*args)
    function = functions(op)[1]
    alone = [function(*(x[None] for x in xs)) for xs in zip(*(x.flatten() for x in wide))]
    alone = torch.cat(alone).reshape(expected.shape)
    settled = (expected == 0) & (torch.signbit(alone) == torch.signbit(expected))
    wrong = settled & (torch.signbit(theirs(mine)) != torch.signbit(expected))
    assert not wrong.any(), f"{op.name}: sign of zero at {wrong.nonzero()[:3].tolist()}"


LARGE = [
    3.0,
    -3.0,
    0.1,
    -0.1,
    7e-3,
    1e4,
    -1e4,
    123456.7,
    1e9,
    -3e17,
    1e30,
    1e-20,
    -2.5e-10,
    0.0,
    -0.0,
]
LARGE += [INF, -INF, NAN]


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("name", ("fmod", "remainder", "floor_divide"))
def test_large_quotients(name, dtype):
    """Against Python's exact remainders, and PyTorch's wherever those are exact too."""
    x = torch.tensor(LARGE, dtype=dtype)
    a, b = torch.meshgrid(x, x, indexing="ij")
    a, b = a.reshape(-1), b.reshape(-1)
    mine = theirs(getattr(vt, name)(vt.from_dlpack(a), vt.from_dlpack(b)))
    for p, q, r in zip(a.tolist(), b.tolist(), mine.tolist()):
        wanted = exact(name, p, q, dtype)
        assert (r != r and wanted != wanted) or (
            r == wanted and math.copysign(1, r) == math.copysign(1, wanted)
        ), f"{name}({p}, {q}): {r}, not {wanted}"


def exact(name, a, b, dtype):
    def rounded(value):
        return torch.tensor(value, dtype=torch.float64).to(dtype).item()

    if name == "floor_divide" and b == 0:
        return NAN if a == 0 or a != a else math.copysign(INF, a) * math.copysign(1, b)
    if a != a or b != b or b == 0 or math.isinf(a):
        return NAN
    r = math.fmod(a, b)
    if name == "fmod":
        return r
    moved = r != 0 and (r < 0) != (b < 0)
    if name == "remainder":
        return rounded(r + b) if moved else r
    # PyTorch's definition: the quotient without its remainder, rounded to the dtype at each step.
    q = rounded(rounded(a - r) / b)
    q = rounded(q - 1) if moved else q
    floored = float(math.floor(q)) if math.isfinite(q) else q
    if q - floored > 0.5:
        floored = rounded(floored + 1)
    return floored if q != 0 else math.copysign(0.0, a) * math.copysign(1.0, b)


@pytest.mark.parametrize(("op", "dtype"), grid("special_fold", FOLDS, REAL))
def test_folds(op, dtype):
    x = specials(dtype)
    if dtype in FLOATING:
        x = x[(x.abs() < 1e4 + 1) | ~x.isfinite()]  # beyond, a sum depends on its order
    rows = [x, x[:9], torch.tensor([NAN, 1.0]).to(dtype), torch.stack([x, x.flip(0)])]
    if dtype in FLOATING:
        rows += [
            torch.tensor(v, dtype=dtype)
            for v in ([INF, 1.0], [-INF, -INF], [INF, -INF], [NAN, INF, 2])
        ]
        rows += [torch.full((40,), -0.0, dtype=dtype)]
    if op.name == "argmax" or op.name == "argmin":
        rows = [r.unique() if dtype not in FLOATING else r for r in rows]
    for row in rows:
        found = both(op, (row, -1), {})
        if found is not None:
            check(*found, where=f"{op.name} {row}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_casts(dtype):
    """Between all dtypes, where C++ defines the result."""
    x = specials(torch.float32) if dtype in FLOATING else torch.tensor([0, 1, 100, 3]).to(dtype)
    for other in DTYPES:
        y = x
        if dtype in FLOATING and other in INTEGRAL:
            y = x[x.abs() < 100].abs()
        mine = ours(y.to(dtype)).to(getattr(vt, str(other)[6:]))
        check(mine, y.to(dtype).to(other), where=f"{dtype} to {other}")
