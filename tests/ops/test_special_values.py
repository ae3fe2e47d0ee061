"""nan, inf, -0., denormals and integer extremes through every pointwise operator and reduction."""

import warnings

import pytest
import torch

import vibetensor as vt

from .oracle import OPS, both, check, describe, grid, ours
from .samples import DTYPES, FLOATING, INTEGRAL

# PyTorch's own paths disagree about the sign of these zeros (by dtype, or by length).
UNSIGNED = {"maximum", "minimum", "gelu"}
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
        # PyTorch's vectors give wrong remainders where the quotient has more digits than the dtype.
        y = x[((x.abs() > 0.1) & (x.abs() < 800)) | ~x.isfinite() | (x == 0)]
        cases = [(y[:, None], y)]
    for args in cases:
        found = both(op, args, {})
        if found is not None:
            signs = dtype in FLOATING and op.name not in UNSIGNED
            check(*found, where=op.name + describe(args, {}), signs=signs)


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
