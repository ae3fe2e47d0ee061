"""Gradients through ``x[index]`` and ``x[index] = value``, against torch."""

import pytest
import torch

import vibetensor as vt

M = [[True, False, True], [False, True, True]]
GRADS = [
    "x[1]",
    "x[1, 2]",
    "x[..., 1:3]",
    "x[0, None, ::2, 1:]",
    "x[:, 1][:, 2]",
    "x[[0, 1, 0]]",
    "x[:, [0, 2], 1]",
    "x[m]",
    "x[1:, [0, 0, 1]]",
    "x[None, [1, 1], :, [0, 0]]",
]


@pytest.mark.parametrize("code", GRADS)
def test_gradient_of_reads(code):
    grads = []
    for lib in (vt, torch):
        x = lib.arange(24, dtype=lib.float64).reshape(2, 3, 4).requires_grad_()
        r = eval(code, {"x": x, "m": lib.tensor(M)})
        (r * r * lib.arange(r.numel(), dtype=lib.float64).reshape(r.shape)).sum().backward()
        grads.append(x.grad.tolist())
    assert grads[0] == grads[1]


def test_gradient_of_negative_steps():
    x = vt.arange(5.0).requires_grad_()
    (x[::-2] * vt.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [3, 0, 2, 0, 1]


@pytest.mark.parametrize("code", ["x[1:, ::2]", "x[:, 2]", "x[[0, 0, 1]]"])
def test_second_gradient(code):
    grads = []
    for lib in (vt, torch):
        x = lib.arange(12, dtype=lib.float64).reshape(3, 4).requires_grad_()
        r = eval(code, {"x": x})
        (g,) = lib.autograd.grad((r**3).sum(), x, create_graph=True)
        (g * g).sum().backward()
        grads.append(x.grad.tolist())
    assert grads[0] == grads[1]


@pytest.mark.parametrize(
    "code",
    [
        "y[1] = w[0]",
        "y[:, ::2] = w[:, :2]",
        "y[..., 0] = 3.0",
        "y[[0, 2]] = w[:2]",
        "y[m] = 0.0",
        "y[m] = w[0, 0]",
        "y[1, 1:3] = w[1, :1]",
    ],
)
def test_gradient_of_writes(code):
    grads = []
    for lib in (vt, torch):
        x = lib.arange(12, dtype=lib.float64).reshape(3, 4).requires_grad_()
        w = (lib.arange(12, dtype=lib.float64).reshape(3, 4) + 5).requires_grad_()
        y = x * 2
        exec(code, {"y": y, "w": w, "m": lib.arange(12).reshape(3, 4) > 5})
        (y * y).sum().backward()
        grads.append((x.grad.tolist(), None if w.grad is None else w.grad.tolist()))
    assert grads[0] == grads[1]


def test_write_through_a_plain_base():
    """The base takes up the history of what was written into its view."""
    w = vt.tensor([2.0, 3.0], requires_grad=True)
    x = vt.zeros(4)
    x[1:3] = w * w
    assert x.requires_grad
    x.sum().backward()
    assert w.grad.tolist() == [4, 6]


def test_write_to_a_leaf():
    x = vt.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        x[0] = 2
    assert x.tolist() == [0, 0, 0]


def test_grad_fn_names():
    x = vt.zeros(3, 4, requires_grad=True)
    assert "SelectBackward0" in repr(x[1])
    assert "SliceBackward0" in repr(x[1:])
