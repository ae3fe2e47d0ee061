"""Losses of rows of logits whose gradient takes the place of the logits, as linear_cross_entropy makes them of
a chunk: beside PyTorch in float64."""

import pytest
import torch
import torch.nn.functional as peer

import vibetensor as vt

from .oracle import ours, theirs

TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
# One pack and less, with and without edges; rows that shared memory holds twice, once, and not.
SIZES = [1, 2, 7, 8, 9, 31, 1000, 4097, 50257, 50304, 131072]
IGNORED = 3


def logits_of(rows, classes, dtype, shift=0.0):
    generator = torch.Generator().manual_seed(classes)
    x = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64) + shift
    return x.to(dtype)


def targets_of(rows, classes):
    target = torch.arange(rows) * 7919 % classes
    target[2] = IGNORED
    return target


def in_place(x, target, smoothing=0.0, gradient=True, scale=1.0, total=None):
    """The losses of the rows of `x`, which becomes the gradient."""
    losses = ours(torch.full((len(target),), -1.0, dtype=torch.float64))
    operator = vt.ops.surface("ops")["cross_entropy_gradient_"]
    operator(x, ours(target), losses, total, gradient, IGNORED, smoothing, scale)
    return theirs(losses)


def expected(x, target, smoothing, factor=1.0):
    """PyTorch's own gradient in float64 has the rounding of its log-sum-exp, which is more than ours."""
    x, classes = x.double(), x.shape[1]
    options = {"ignore_index": IGNORED, "label_smoothing": smoothing, "reduction": "none"}
    losses = peer.cross_entropy(x, target, **options)
    by_x = torch.softmax(x, 1) - smoothing / classes
    by_x[torch.arange(len(target)), target.clamp(max=classes - 1)] -= 1 - smoothing
    by_x[target == IGNORED] = 0
    return losses, by_x * factor


def compare(losses, by_x, wanted, dtype, factor=1.0):
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    digits = torch.finfo(compute).eps
    sums = (4 + by_x.shape[1] ** 0.5 / 32) * digits  # those of many numbers
    torch.testing.assert_close(losses, wanted[0], rtol=sums, atol=sums, equal_nan=True)
    tiny = 2.0**-25 if dtype == torch.float16 else 0.0  # half of its smallest number
    torch.testing.assert_close(
        by_x.double(),
        wanted[1],
        rtol=max(0.6 * torch.finfo(dtype).eps, 64 * digits),
        atol=4 * digits * factor + tiny,
        equal_nan=True,
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("classes", SIZES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_and_gradients(dtype, classes, smoothing):
    rows, factor = 5, 1024 / 64
    target = targets_of(rows, classes)
    for shift in (0.0, 100.0):
        x = logits_of(rows, classes, dtype, shift)
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        total = ours(torch.tensor(64, dtype=kind))
        mine = ours(x.clone())
        losses = in_place(mine, target, smoothing, scale=1024, total=total)
        wanted = expected(x, target, smoothing, factor)
        compare(losses, theirs(mine), wanted, dtype, factor)
        again = ours(x.clone())
        assert torch.equal(in_place(again, target, smoothing, scale=1024, total=total), losses)
        assert torch.equal(theirs(again), theirs(mine))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("offset", [1, 3])
def test_rows_at_any_address(dtype, offset):
    rows, classes = 5, 1001
    x, target = logits_of(rows, classes, dtype), targets_of(rows, classes)
    room = ours(torch.full((rows * classes + 8,), 7.0, dtype=dtype))
    mine = room[offset : offset + rows * classes].view(rows, classes)
    mine.copy_(ours(x))
    losses = in_place(mine, target)
    compare(losses, theirs(mine), expected(x, target, 0.0), dtype)
    around = theirs(room)
    assert bool((around[:offset] == 7).all() and (around[offset + rows * classes :] == 7).all())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("classes", [13, 50257])
def test_special_logits(dtype, classes):
    inf, target = float("inf"), torch.tensor([0, 1, IGNORED, 5, 6, 7, 8, 9])
    x = logits_of(len(target), classes, dtype)
    x[0, 4] = inf
    x[1, 4] = -inf
    x[2, 1] = float("nan")  # of an ignored row
    x[3, 4] = float("nan")
    x[4] = -inf
    x[5, 7] = -inf
    x[6, ::2] = 1e4
    x[7] = -1e4
    mine = ours(x.clone())
    losses = in_place(mine, target)
    compare(losses, theirs(mine), expected(x, target, 0.0), dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_losses_alone(dtype):
    x, target = logits_of(5, 1001, dtype), targets_of(5, 1001)
    mine = ours(x.clone())
    losses = in_place(mine, target, gradient=False)
    assert torch.equal(theirs(mine), x)
    assert torch.equal(losses, in_place(ours(x.clone()), target))


def test_a_target_that_is_no_class():
    with pytest.raises(IndexError, match="5"):
        in_place(ours(torch.zeros(1, 5)), torch.tensor([5]))


@pytest.mark.parametrize("dtype", TYPES[:3])
def test_a_target_whose_elements_lie_apart(dtype):
    x, target = logits_of(5, 1000, dtype), targets_of(5, 1000)
    mine = ours(x.clone())
    apart = ours(target.repeat_interleave(2))[::2]
    losses = ours(torch.empty(5, dtype=torch.float64))
    operator = vt.ops.surface("ops")["cross_entropy_gradient_"]
    operator(mine, apart, losses, None, True, IGNORED, 0.0, 1.0)
    compare(theirs(losses), theirs(mine), expected(x, target, 0.0), dtype)
