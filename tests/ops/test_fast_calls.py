"""Functions with a shortcut for the usual call: it and every other call agree with PyTorch."""

import pytest
import torch

import vibetensor as vt

EMPTY = [
    ((3,), {}),
    ((2, 3), {}),
    (((2, 3),), {}),
    (([2, 3],), {}),
    (((),), {}),
    ((0, 4), {}),
    ((1, 1, 1, 1, 1, 1), {}),
    ((1, 1, 1, 1, 1, 1, 2), {}),
    ((2,), {"dtype": "int64"}),
    ((2,), {"dtype": None, "device": None}),
    ((2,), {"device": "cpu", "dtype": "bool"}),
    ((2, 2), {"requires_grad": True}),
    ((), {"size": (2, 3)}),
]


@pytest.mark.parametrize(("args", "options"), EMPTY, ids=str)
def test_empty(args, options):
    def made(lib):
        given = dict(options)
        if given.get("dtype"):
            given["dtype"] = getattr(lib, given["dtype"])
        t = lib.empty(*args, **given)
        return tuple(t.shape), t.stride(), str(t.dtype).split(".")[1], t.requires_grad, t._version

    assert made(vt) == made(torch)


def test_empty_in_place_and_by_device():
    out = vt.empty(0)
    assert vt.empty(2, 2, out=out) is out and out.shape == (2, 2)
    assert vt.empty(2, device=vt.device("cpu")).is_cpu
    with vt.inference_mode():
        assert vt.empty(2).is_inference()


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((-1,), {}),
        ((2, -3), {}),
        ((1.5,), {}),
        (("2",), {}),
        ((2,), {"dtype": "float32"}),
        ((2,), {"device": "nowhere"}),
        ((2,), {"device": 1.5}),
        ((2,), {"unknown": 1}),
        ((2**62, 2**62), {}),
        ((2**62,), {}),
        ((2**70,), {}),
    ],
    ids=str,
)
def test_empty_refuses(args, options):
    with pytest.raises((TypeError, RuntimeError, OverflowError)):
        vt.empty(*args, **options)


def views(lib):
    m = lib.arange(64).view(8, 8)
    odd = lib.arange(6).as_strided((3, 2, 1), (2, 1, 9))
    yield lambda: m.view(4, 16)
    yield lambda: m.view(-1)
    yield lambda: m.view(2, -1, 4)
    yield lambda: m.view((4, 16))
    yield lambda: m.view(size=(4, 16))
    yield lambda: m.view(1, 1, 1, 1, 1, 64)
    yield lambda: m.view(1, 1, 1, 1, 1, 1, 64)
    yield lambda: m[:, :4].view(2, 4, 4)
    yield lambda: m.t().view(8, 8)
    yield lambda: odd.view(6)
    yield lambda: odd.view(2, 3, 1)
    yield lambda: m[:0].view(0, 5)
    yield lambda: m[0, 0].view(1, 1)
    yield lambda: m.view(True, 64)
    yield lambda: m.view(lib.int32)
    # Refused.
    yield lambda: m.view(4, 15)
    yield lambda: m.view(-1, -1)
    yield lambda: m.view(-2, 32)
    yield lambda: m.view(5, -1)
    yield lambda: m[:0].view(0, -1)
    yield lambda: m[:, :4].view(32)
    yield lambda: m.view(2**70)
    yield lambda: m.view(1.5)
    yield lambda: m.view()


def outcome(call):
    try:
        t = call()
    except (RuntimeError, TypeError, OverflowError, ValueError):
        return "refused"
    return tuple(t.shape), t.stride(), t.is_contiguous(), t.tolist()


@pytest.mark.parametrize("i", range(len(list(views(vt)))))
def test_view(i):
    assert outcome(list(views(vt))[i]) == outcome(list(views(torch))[i])


def test_view_shares_memory_and_history():
    x = vt.ones(4)
    y = x.view(2, 2)
    y.add_(1)
    assert x.tolist() == [2.0] * 4 and y._base is x and y._version == x._version
    x = vt.ones(4, requires_grad=True)
    (x.view(2, 2) * 2).sum().backward()
    assert x.grad.tolist() == [2.0] * 4
    with vt.no_grad():
        y = x.view(2, 2)
    assert y.requires_grad and y.grad_fn is None  # as in PyTorch
