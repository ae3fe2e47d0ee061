"""gather, scatter, scatter_add and index_select on a device: runs of neighbours and single elements."""

import pytest
import torch

import vibetensor as vt

pytestmark = [pytest.mark.gpu, pytest.mark.sanitizer]

DTYPES = ["uint8", "float16", "bfloat16", "float32", "float64"]
# Widths of whole runs and others; of one block and of many.
SHAPES = [(1, 4), (3, 7), (5, 64), (2, 1001), (37, 256), (9, 4096), (3, 5, 12), (2, 3, 5, 8)]


def numbers(shape, dtype):
    """Whole numbers of which every dtype can have the sum of a few."""
    return torch.randint(0, 4, shape).to(getattr(torch, dtype))


def layouts(x):
    """The same on the device: in order, from an odd place on, and transposed."""
    mine = vt.from_dlpack(x).cuda()
    spread = vt.zeros(*x.shape[:-1], x.shape[-1] + 5, dtype=mine.dtype, device="cuda")
    odd = spread[..., 1 : 1 + x.shape[-1]]
    odd.copy_(mine)
    turned = mine.transpose(0, -1).contiguous().transpose(0, -1)
    return [mine, odd, turned]


@pytest.mark.parametrize("dtype", DTYPES)
def test_along_every_dimension(dtype):
    torch.manual_seed(0)
    for shape in SHAPES:
        for dim in range(len(shape)):
            x, values = numbers(shape, dtype), numbers(shape, dtype)
            index = torch.randint(0, shape[dim], shape)
            order = torch.argsort(torch.rand(shape), dim)  # names every place once
            for i, (mine, source, at, once) in enumerate(
                zip(layouts(x), layouts(values), layouts(index), layouts(order), strict=True)
            ):
                where = (shape, dim, i)
                found = mine.gather(dim, at).cpu()
                assert found.tolist() == x.gather(dim, index).tolist(), where
                found = mine.clone().scatter_(dim, once, source).cpu()
                assert found.tolist() == x.scatter(dim, order, values).tolist(), where
                if dtype == "uint8":
                    continue
                # Every element is added to at most shape[dim] times: exact below 2^8.
                few = index if shape[dim] <= 64 else order
                there = at if shape[dim] <= 64 else once
                found = mine.clone().scatter_add_(dim, there, source).cpu()
                assert found.tolist() == x.scatter_add(dim, few, values).tolist(), where


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_leave_neighbours_as_they_are(dtype):
    kind = getattr(vt, dtype)
    kept = [-0.0, 0.0, float("inf"), float("-inf"), 6e-8, -1.5]
    for start in (0, 1):
        for place in range(len(kept)):
            x = vt.tensor([7.0, *kept, 7.0], dtype=kind, device="cuda")[start:]
            index = vt.full((64,), place + 1 - start, dtype=vt.int64, device="cuda")
            x.scatter_add_(0, index, vt.zeros(64, dtype=kind, device="cuda"))
            found = x.cpu().tolist()
            expected = vt.tensor([7.0, *kept, 7.0], dtype=kind)[start:].tolist()
            assert [str(v) for v in found] == [
                # -0 + 0 is 0
                str(0.0) if i == place + 1 - start and v == 0 else str(v)
                for i, v in enumerate(expected)
            ]


def test_negative_indices_and_bad_ones_in_runs():
    x = vt.arange(4096, dtype=vt.float32, device="cuda")
    index = vt.tensor([[-1, 0, -4096, 4095]] * 8, device="cuda")
    assert x[index].cpu().tolist() == [[4095, 0, 0, 4095]] * 8
    for bad in (4096, 1 << 40, -1):
        index = vt.zeros(64, dtype=vt.int64)
        index[13] = bad
        with pytest.raises((IndexError, RuntimeError), match=str(bad)):
            x.gather(0, index.cuda()).cpu()


def test_index_select_by_int32_and_int64():
    torch.manual_seed(0)
    for shape in ((7, 12), (300, 33), (50, 768)):
        x = torch.randn(shape)
        for dim in (0, 1):
            index = torch.randint(0, shape[dim], (128,))
            for kind in (torch.int32, torch.int64):
                at = vt.from_dlpack(index.to(kind)).cuda()
                for mine in layouts(x):
                    found = mine.index_select(dim, at).cpu()
                    assert found.tolist() == x.index_select(dim, index).tolist()
