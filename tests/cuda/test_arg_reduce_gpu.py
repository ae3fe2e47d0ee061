"""argmax and argmin on a device: of equal extremes the first, wherever rows begin in memory."""

import pytest
import torch

import vibetensor as vt

pytestmark = [pytest.mark.gpu, pytest.mark.sanitizer]

DTYPES = ["uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def few_values(shape, dtype, seed):
    """Of three values each, so that every extreme is there many times; the last row has one only."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, shape, generator=generator)
    x[-1] = 1
    return x.to(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_first_of_equals_on_unaligned_rows(name, dtype):
    for rows, length in ((3, 7), (5, 63), (4, 129), (2, 1000), (3, 4097), (2, 70001)):
        for start in (0, 1, 3, 5):
            for step in (1, 2):
                whole = few_values((rows, start + length * step + 2), dtype, start + length)
                x = whole[:, start : start + length * step : step]
                mine = vt.from_dlpack(whole).cuda()[:, start : start + length * step : step]
                for dim in (1, 0, None):
                    expected = getattr(x, name)(dim)
                    found = getattr(mine, name)(dim).cpu()
                    where = (rows, length, start, step, dim)
                    assert found.tolist() == expected.tolist(), where


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_first_nan_and_rows_of_infinities(name, dtype):
    kind = getattr(torch, dtype)
    for length, start in ((9, 1), (130, 3), (5001, 1)):
        whole = torch.zeros(5, length + start, dtype=kind)
        x = whole[:, start:]
        x[0, length // 2] = x[0, length - 1] = torch.nan
        x[1] = torch.inf
        x[2] = -torch.inf
        x[3, length - 1] = torch.nan
        x[4] = -0.0
        x[4, length // 3] = 0.0
        mine = vt.from_dlpack(whole).cuda()[:, start:]
        found = getattr(mine, name)(1).cpu().tolist()
        assert found == getattr(x, name)(1).tolist(), (length, start)
        assert found[:4] == [length // 2, 0, 0, length - 1]
