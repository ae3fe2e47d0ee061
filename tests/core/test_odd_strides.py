"""Strides of dimensions without a second element: pointwise results have PyTorch's."""

import pytest
import torch

import vibetensor as vt

ODD = (
    ((0, 3), (7, 2)), ((0, 3), (1, 5)), ((2, 0, 3), (1, 9, 2)), ((2, 0, 3), (0, 0, 0)),
    ((3, 0), (1, 3)), ((1, 4), (9, 1)), ((4, 1), (1, 4)), ((1, 1), (5, 7)), ((1, 4), (1, 2)),
    ((2, 1, 3), (3, 77, 1)), ((1, 3, 1), (0, 1, 0)), ((1, 2, 3), (1, 1, 2)), ((1, 1, 3), (3, 3, 5)),
    ((0, 1), (3, 5)), ((1, 0, 2), (1, 1, 1)), ((2, 1), (1, 0)), ((), ()), ((0,), (4,)),
)  # fmt: skip
UNARY = {
    "exp": lambda m, x: m.exp(x),
    "add a number": lambda m, x: x + 1,
    "isnan": lambda m, x: m.isnan(x),
}
BINARY = {"add": lambda m, x, y: x + y, "where": lambda m, x, y: m.where(x > 0, x, y)}


def ours(shape, strides):
    return vt.as_strided(vt.zeros(256), shape, strides)


@pytest.mark.parametrize(("shape", "strides"), ODD)
def test_unary(shape, strides):
    for name, f in UNARY.items():
        expected = f(torch, torch.empty_strided(shape, strides).zero_())
        assert tuple(f(vt, ours(shape, strides)).stride()) == expected.stride(), name


@pytest.mark.parametrize(("shape", "strides"), ODD)
def test_binary(shape, strides):
    for other, other_strides in ODD:
        try:
            torch.broadcast_shapes(shape, other)
        except RuntimeError:
            continue
        for name, f in BINARY.items():
            x, y = torch.empty_strided(shape, strides), torch.empty_strided(other, other_strides)
            found = f(vt, ours(shape, strides), ours(other, other_strides))
            assert tuple(found.stride()) == f(torch, x.zero_(), y.zero_()).stride(), (name, other)
