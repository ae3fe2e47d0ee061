"""Every operator in every dtype: value, dtype, shape and strides against PyTorch."""

import operator
import warnings

import pytest
import torch

import vibetensor as vt

from .oracle import OPS, both, check, describe, functions, grid
from .samples import DTYPES, RANDOM, Make, samples


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("op", grid("known", OPS.values()))
def test_has_peer_and_samples(op):
    functions(op)
    assert samples(op, torch.float32)


@pytest.mark.parametrize(("op", "dtype"), grid("values", OPS.values(), DTYPES))
def test_values(op, dtype):
    for args, kwargs in samples(op, dtype):
        found = both(op, args, kwargs)
        if found is not None:
            check(
                *found,
                where=op.name + describe(args, kwargs),
                strides=op.kind in ("pointwise", "view"),
                values=op.name not in RANDOM,
            )


def python_operator(name):
    stem = name.strip("_")
    return getattr(operator, name, None) or getattr(operator, "__" + stem + "__")


OPERATORS = [op for op in OPS.values() if op.operators]


@pytest.mark.parametrize(("op", "dtype"), grid("operators", OPERATORS, DTYPES))
def test_python_operators(op, dtype):
    m = Make(op.name, dtype)
    x, y = m(3, 4), m.nonzero(4)
    if op.name == "pow" and not dtype.is_floating_point and dtype != torch.bool:
        y = y.abs()
    for name in op.operators:
        if name == "__invert__" and (dtype.is_floating_point or dtype.is_complex):
            continue  # TypeError there; NotImplementedError, with the dtype, here
        if name == "__invert__":
            cases = [(x,)]
        elif name.startswith("__i"):
            cases = [(x, y), (x, 2), (x, 1.5)]
        else:
            cases = [
                (x, y),
                (x, 2),
                (2, x + x if dtype == torch.bool else m.nonzero(3)),
                (x, 1.5),
                (1.5, y),
            ]
        for args in cases:
            found = both(op, args, {}, (python_operator(name),) * 2)
            if found is not None:
                check(*found, where=name + describe(args, {}))


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.name in ("add", "mul", "sub")])
def test_float16_with_a_complex_number(op):
    """PyTorch's complex32; ours is the next that we have, complex64."""
    x, z = torch.tensor([1.5, -2.0], dtype=torch.float16), torch.tensor(1 + 2j)
    mine, peer = functions(op)
    result = mine(vt.from_dlpack(x), vt.from_dlpack(z))
    assert result.dtype is vt.complex64
    check(result, peer(x, z).to(torch.complex64))


@pytest.mark.parametrize("op", grid("aliases", [op for op in OPS.values() if op.aliases]))
def test_aliases(op):
    args, kwargs = samples(op, torch.float32)[0]
    for alias in op.aliases:
        home = (vt, torch) if "vt" in op.surfaces else (vt.Tensor, torch.Tensor)
        pair = tuple(getattr(library, alias) for library in home)
        check(*both(op, args, kwargs, pair), where=alias)
