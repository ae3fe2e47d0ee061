"""Numbers that a dtype cannot hold: refused by whatever fills memory with them, as in PyTorch."""

import pytest
import torch

import vibetensor as vt

from .oracle import NAN_BOUND, OVERFLOW_TEXT, at_fault, call, check

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32")
DTYPES += ("float64", "complex64")
NUMBERS = (
    0,
    1.7,
    -1,
    127.5,
    -129,
    255,
    -255,
    256,
    -256,
    300,
    40000,
    65505,
    2**31,
    -(2**31) - 1,
    1e19,
)
NUMBERS += (2**62, 3.4e38, 1e39, float("inf"), float("-inf"), float("nan"), 1j, 1 + 0j, True, 2**70)
FILLS = {
    "full": lambda m, d, v: m.full((2,), v, dtype=d),
    "full_like": lambda m, d, v: m.full_like(m.zeros(2, dtype=d), v),
    "new_full": lambda m, d, v: m.zeros(2, dtype=d).new_full((2,), v),
    "fill_": lambda m, d, v: m.zeros(2, dtype=d).fill_(v),
    "masked_fill": lambda m, d, v: m.zeros(2, dtype=d).masked_fill(m.tensor([True, False]), v),
    "masked_fill_": lambda m, d, v: m.zeros(2, dtype=d).masked_fill_(m.tensor([True, False]), v),
    "setitem": lambda m, d, v: written(m.zeros(2, dtype=d), 0, v),
    "setitem, slice": lambda m, d, v: written(m.zeros(2, dtype=d), slice(None), v),
    "setitem, index": lambda m, d, v: written(m.zeros(2, dtype=d), [0], v),
    "tensor": lambda m, d, v: m.tensor([v], dtype=d),
    "scatter": lambda m, d, v: m.zeros(2, dtype=d).scatter(0, m.tensor([0]), v),
    "where": lambda m, d, v: m.where(m.tensor([True, False]), m.zeros(2, dtype=d), v),
    "clamp": lambda m, d, v: m.zeros(2, dtype=d).clamp(max=v),
}


def written(x, index, value):
    x[index] = value
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", FILLS)
def test_ranges(fill, dtype):
    for number in NUMBERS:
        if (fill, dtype) == ("where", "float16") and isinstance(number, complex):
            continue  # complex32, which we do not have
        if (fill, dtype, number) == ("clamp", "complex64", 2**70):
            continue  # wrong twice over
        mine, error = call(FILLS[fill], (vt, getattr(vt, dtype), number), {})
        expected, peer_error = call(FILLS[fill], (torch, getattr(torch, dtype), number), {})
        where = f"{fill}({dtype}, {number!r})"
        if peer_error is not None:
            assert type(error) is type(peer_error), f"{where}: {error!r}; PyTorch: {peer_error!r}"
            same_text = not (isinstance(number, complex) and at_fault(OVERFLOW_TEXT, fill))
            if "overflow" in str(peer_error) and fill != "tensor" and same_text:
                assert str(error) == str(peer_error), where
        else:
            if number != number and at_fault(NAN_BOUND, fill):
                expected.fill_(number)
            assert error is None, f"{where}: {error!r}; PyTorch: {expected}"
            check(mine, expected, where=where)


def test_randint_stays_in_range():
    for bounds in ((-1, 3), (0, 257), (3, 300)):
        for module in (vt, torch):
            with pytest.raises(RuntimeError, match="out of bounds"):
                module.randint(*bounds, (2,), dtype=module.uint8)


def test_linspace_ends_in_range():
    for module in (vt, torch):
        with pytest.raises(RuntimeError, match="uint8_t without overflow"):
            module.linspace(0, 300, 3, dtype=module.uint8)
