"""Writes in place, on tensors and through views: histories, errors, and random programs."""

import random

import pytest
import torch

import vibetensor as vt


def leaf(lib, values):
    return lib.tensor(values, dtype=lib.float64, requires_grad=True)


def constant(lib, values):
    return lib.tensor(values, dtype=lib.float64)


# --- values ---------------------------------------------------------------------------------------


def test_chain_of_writes(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 3
    y.add_(1).mul_(2)
    y.sum().backward()
    assert y.tolist() == [8.0, 14.0] and x.grad.tolist() == [6.0, 6.0]


def test_write_gives_a_constant_a_gradient(lib):
    w = leaf(lib, [3.0, 4.0])
    x = lib.zeros(2, dtype=lib.float64)
    assert x.is_leaf and not x.requires_grad
    x.add_(w)
    assert x.requires_grad and not x.is_leaf
    (x * x).sum().backward()
    assert w.grad.tolist() == [6.0, 8.0]


def test_write_through_a_view_gives_the_base_a_gradient(lib):
    w = leaf(lib, [3.0, 4.0])
    x = lib.ones(3, dtype=lib.float64)
    x[:2].mul_(w)
    assert x.requires_grad and "CopySlices" in x.grad_fn.name()
    (x * x).sum().backward()
    assert w.grad.tolist() == [6.0, 8.0]


def test_other_views_follow(lib):
    w = leaf(lib, [3.0, 4.0])
    x = lib.ones(3, dtype=lib.float64)
    v = x[1:]
    assert not v.requires_grad
    x[:2].mul_(w)
    assert v.requires_grad and not v.is_leaf
    (v * v).sum().backward()
    assert w.grad.tolist() == [0.0, 8.0]


def test_views_made_before_any_gradient_take_part_in_dispatch(lib):
    w = leaf(lib, [3.0, 4.0])
    x = lib.ones(3, dtype=lib.float64)
    v = x[1:]
    x[:2].mul_(w)
    out = v * 2  # the operator must notice that v requires grad now
    out.sum().backward()
    assert w.grad.tolist() == [0.0, 2.0]


def test_base_written_after_view(lib):
    x, w = leaf(lib, [1.0, 2.0, 3.0]), leaf(lib, [4.0, 5.0, 6.0])
    y = x * 1
    v = y[1:]
    y.mul_(w)
    (v * v).sum().backward()
    assert x.grad.tolist() == [0.0, 100.0, 216.0] and w.grad.tolist() == [0.0, 40.0, 108.0]


def test_view_written_then_base_used(lib):
    x, w = leaf(lib, [1.0, 2.0, 3.0]), leaf(lib, [4.0, 5.0])
    y = x * 2
    v = y[1:]
    v.mul_(w)
    (y * y).sum().backward()
    assert x.grad.tolist() == [8.0, 16 * 16.0, 25 * 24.0]
    assert w.grad.tolist() == [2 * 16 * 4.0, 2 * 30 * 6.0]


def test_view_keeps_its_identity(lib):
    x = leaf(lib, [1.0, 2.0, 3.0])
    y = x * 2
    v = y[1:]
    assert v._base is y
    before = v.grad_fn
    v.mul_(2)
    assert v._base is y and v.grad_fn is not before
    assert v[0:1]._base is y


@pytest.mark.parametrize("first", [0, 1, 2])
def test_chain_of_views(lib, first):
    x, w = leaf(lib, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), leaf(lib, [7.0, 8.0])
    y = x * 1
    views = [y.t(), y.t()[1:], y.t()[1:][:, 0]]
    if first < 2:
        views[first].mul_(w)
    else:
        views[2].mul_(w)
    (y * y).sum().backward()
    t = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64, requires_grad=True)
    u = torch.tensor([7.0, 8.0], dtype=torch.float64, requires_grad=True)
    s = t * 1
    [s.t(), s.t()[1:], s.t()[1:][:, 0]][first].mul_(u)
    (s * s).sum().backward()
    assert x.grad.tolist() == t.grad.tolist() and w.grad.tolist() == u.grad.tolist()


def test_copy_into_a_view(lib):
    x, w = leaf(lib, [1.0, 2.0, 3.0]), leaf(lib, [4.0, 5.0])
    y = x * 2
    y[1:] = w
    (y * y).sum().backward()
    assert x.grad.tolist() == [8.0, 0.0, 0.0] and w.grad.tolist() == [8.0, 10.0]


def test_zero_and_fill_a_view(lib):
    x = leaf(lib, [1.0, 2.0, 3.0])
    y = x * 2
    y[:1].zero_()
    y[1:2].fill_(9)
    (y * y).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 24.0]


def test_columns_written_one_by_one(lib):
    x = leaf(lib, [[1.0, 2.0], [3.0, 4.0]])
    y = lib.zeros(2, 2, dtype=lib.float64)
    for k in range(2):
        y[:, k] = x[k] * (k + 1)
    (y * constant(lib, [[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert x.grad.tolist() == [[1.0, 100.0], [20.0, 2000.0]]


def test_expanded_view_of_a_written_base(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 2
    z = y.expand(3, 2)
    y.mul_(3)
    (z * z).sum().backward()
    assert x.grad.tolist() == [3 * 72.0, 3 * 144.0]


def test_overlapping_view_of_a_written_base(lib):
    x = leaf(lib, [1.0, 2.0, 3.0, 4.0])
    y = x * 2
    z = y.as_strided((3, 2), (1, 1))
    y.mul_(3)
    (z * constant(lib, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).sum().backward()
    assert x.grad.tolist() == [6.0, 30.0, 54.0, 36.0]


def test_base_with_gaps(lib):
    """The base is a detached slice: it does not fill its storage."""
    w = leaf(lib, [3.0, 4.0])
    x = lib.ones(4, 4, dtype=lib.float64)[1::2, ::2].detach()
    assert x._base is None
    x[:, 1].mul_(w)
    (x * x).sum().backward()
    assert w.grad.tolist() == [6.0, 8.0]


def test_negative_strides():
    w = leaf(vt, [3.0, 4.0, 5.0])
    x = vt.tensor([1.0, 2.0, 3.0], dtype=vt.float64)
    x[::-1].mul_(w)
    (x * x).sum().backward()
    assert x.tolist() == [5.0, 8.0, 9.0]
    assert w.grad.tolist() == [2 * 9 * 3.0, 2 * 8 * 2.0, 2 * 5 * 1.0]


@pytest.mark.parametrize("operator", ["exp_", "sigmoid_", "tanh_", "sqrt_"])
def test_operators_that_save_their_result(lib, operator):
    """First and second derivatives, with the write on a tensor and on a view."""

    def run(lib, view):
        x = leaf(lib, [0.1, 0.2, 0.3])
        y = x * 1
        getattr(y[1:] if view else y, operator)()
        (g,) = lib.autograd.grad((y * y).sum(), x, create_graph=True)
        (h,) = lib.autograd.grad((g * g).sum(), x)
        return g.tolist() + h.tolist()

    for view in (False, True):
        assert run(lib, view) == pytest.approx(run(torch, view), rel=1e-12)


def test_double_backward_through_writes(lib):
    def run(lib):
        x, w = leaf(lib, [1.0, 2.0, 3.0]), leaf(lib, [4.0, 5.0])
        y = x * x
        v = y[1:]
        v.mul_(w)
        y.mul_(2)
        u = v * v
        (gx, gw) = lib.autograd.grad(u.sum() + y.sum(), [x, w], create_graph=True)
        return [g.tolist() for g in lib.autograd.grad((gx * gx).sum() + (gw * gw).sum(), [x, w])]

    for a, b in zip(run(lib), run(torch), strict=True):
        assert a == pytest.approx(b, rel=1e-12)


def test_infinite_gradients_stay_in_their_place(lib):
    """The part of the base outside of the view must not see the view's infinities."""
    x, w = leaf(lib, [1.0, 2.0]), leaf(lib, [1.0])
    y = x * 1
    y[:1].mul_(w)
    seed = constant(lib, [float("inf"), 1.0])
    for create in (False, True):
        (g,) = lib.autograd.grad(y, x, seed, retain_graph=True, create_graph=create)
        assert g.tolist() == [float("inf"), 1.0]


# --- no_grad --------------------------------------------------------------------------------------


def test_write_under_no_grad_is_not_recorded(lib):
    x = leaf(lib, [1.0, 2.0])
    with lib.no_grad():
        x.mul_(3)
        x[:1].add_(1)
    assert x.is_leaf and x.tolist() == [4.0, 6.0] and x._version == 2
    (x * x).sum().backward()
    assert x.grad.tolist() == [8.0, 12.0]


def test_parameter_update_then_view(lib):
    x = leaf(lib, [1.0, 2.0])
    v = x[1:]
    with lib.no_grad():
        x.mul_(3)
    (v * v).sum().backward()
    assert x.grad.tolist() == [0.0, 12.0]


# --- what is forbidden ----------------------------------------------------------------------------


def test_leaf(lib):
    x = leaf(lib, [1.0, 2.0])
    with pytest.raises(
        RuntimeError,
        match=r"^a leaf Variable that requires grad is being used in an in-place operation",
    ):
        x.add_(1)
    assert x.tolist() == [1.0, 2.0] and x._version == 0


def test_view_of_a_leaf(lib):
    x = leaf(lib, [1.0, 2.0])
    with pytest.raises(
        RuntimeError,
        match=r"^a view of a leaf Variable that requires grad is being used in an in-place",
    ):
        x[:1].add_(1)
    assert x.tolist() == [1.0, 2.0]


NO_GRAD_HINT = "moving both the view and the inplace either both inside the no_grad block"


def test_view_made_under_no_grad(lib):
    y = leaf(lib, [1.0, 2.0]) * 1
    with lib.no_grad():
        v = y[1:]
    with pytest.raises(
        RuntimeError,
        match=r"^A view was created in no_grad mode and is being modified inplace with",
    ) as error:
        v.mul_(2)
    assert NO_GRAD_HINT in str(error.value)


def test_view_made_under_no_grad_and_constant_operands(lib):
    """Nothing requires grad: the write is fine."""
    y = lib.ones(2)
    with lib.no_grad():
        v = y[1:]
    v.mul_(2)
    assert y.tolist() == [1.0, 2.0]
    w = lib.ones(1, requires_grad=True)
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode"):
        v.mul_(w)


def test_base_written_after_view_made_under_no_grad(lib):
    y = leaf(lib, [1.0, 2.0]) * 1
    with lib.no_grad():
        v = y[1:]
    y.mul_(2)
    with pytest.raises(RuntimeError, match="its base or another view of its base has been"):
        v.grad_fn  # noqa: B018


def test_gradient_of_a_view_made_under_no_grad_goes_nowhere(lib):
    x = leaf(lib, [1.0, 2.0])
    with lib.no_grad():
        v = x[1:]
    assert v.requires_grad and v.is_leaf
    (v * 5).sum().backward()
    assert v.grad is None and x.grad is None


def test_view_made_before_the_base_requires_grad(lib):
    x = constant(lib, [1.0, 2.0])
    v = x[1:]
    x.requires_grad_()
    assert v.requires_grad and v.is_leaf
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        v.mul_(2)


def test_view_of_a_view_made_under_no_grad(lib):
    y = leaf(lib, [1.0, 2.0, 3.0]) * 1
    with lib.no_grad():
        v = y[1:]
    with pytest.raises(RuntimeError, match="created in no_grad mode"):
        v[1:].mul_(2)


def test_one_of_several_views(lib):
    y = leaf(lib, [1.0, 2.0, 3.0]) * 1
    a, _ = y.split([1, 2])
    with pytest.raises(
        RuntimeError,
        match=r"^Output 0 of Split.* is a view and is being modified inplace\. This view is the "
        "output of a function that returns multiple views",
    ):
        a.mul_(2)
    b = y.chunk(3)[1]
    y.mul_(2)
    with pytest.raises(RuntimeError, match="is a view and its base or another view of"):
        b.grad_fn  # noqa: B018


def test_inference_tensors(lib):
    with lib.inference_mode():
        y = lib.ones(3)
    assert y.is_inference() and y[1:].is_inference() and y[1:]._base is None
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside"):
        y.add_(1)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        leaf(lib, [1.0, 2.0, 3.0]) * y
    with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor"):
        y.requires_grad_()
    with pytest.raises(RuntimeError, match="Inference tensors do not track version counter"):
        y._version  # noqa: B018
    with lib.inference_mode():
        y.add_(1)
    if lib is vt:  # in PyTorch the refused write has happened
        assert y.tolist() == [2.0, 2.0, 2.0]
    assert not (y + 1).is_inference()


def test_view_made_in_inference_mode(lib):
    y = leaf(lib, [1.0, 2.0]) * 1
    with lib.inference_mode():
        v = y[1:]
    assert not v.is_inference() and v._base is y
    with pytest.raises(RuntimeError, match="A view was created in inference mode and is being"):
        v.mul_(2)


# --- random programs ------------------------------------------------------------------------------

VIEWS = [
    ("first", lambda t: t[:1]),
    ("rest", lambda t: t[1:] if t.shape[0] > 1 else t[:]),
    ("column", lambda t: t[:, :1]),
    ("transpose", lambda t: t.t()),
    ("every other", lambda t: t[::2]),
    ("wide", lambda t: t.expand(2, *t.shape)[0]),
    ("row", lambda t: t[-1:]),
]
FRESH = [
    ("sin", lambda t, u: t.sin()),
    ("mul", lambda t, u: t * u.sum()),
    ("add", lambda t, u: t + 0.5),
    ("self", lambda t, u: t * t),
]
WRITES = [
    ("mul_", lambda t, u: t.mul_(u.sum() * 0.1)),
    ("add_", lambda t, u: t.add_(u[:1, :1])),
    ("sin_", lambda t, u: t.sin_()),
    ("exp_", lambda t, u: t.mul_(0.1).exp_()),
    ("copy_", lambda t, u: t.copy_(u[:1, :1].expand(t.shape))),
    ("zero_", lambda t, u: t.zero_()),
]


def run_program(lib, seed):
    """A random mix of operators, views and writes; what came out, or the exception type."""
    rng = random.Random(seed)
    values = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(3)]
    x = lib.tensor(values, dtype=lib.float64, requires_grad=True)
    pool = [x, x * 1, lib.ones(3, 3, dtype=lib.float64)]
    events = []
    for _ in range(rng.randrange(4, 14)):
        t, u = rng.choice(pool), rng.choice(pool)
        kind = rng.choice("vvfwww")
        name, f = rng.choice({"v": VIEWS, "f": FRESH, "w": WRITES}[kind])
        quiet = rng.random() < 0.1
        try:
            # PyTorch takes a view for a leaf until somebody asks for the grad_fn it has got by a
            # write into its base, and then refuses to write into it.
            t.grad_fn  # noqa: B018
            if quiet:
                with lib.no_grad():
                    r = f(t) if kind == "v" else f(t, u)
            else:
                r = f(t) if kind == "v" else f(t, u)
        except RuntimeError:
            events.append((name, "error"))
            continue
        events.append((name, r.requires_grad))
        pool.append(r)
    try:
        total = sum((t * (i + 1)).sum() for i, t in enumerate(pool))
        (g,) = lib.autograd.grad(total, x, create_graph=True)
        events.append(g.tolist())
        if g.requires_grad:
            (h,) = lib.autograd.grad((g * g).sum(), x, allow_unused=True)
            events.append(None if h is None else h.tolist())
    except RuntimeError:
        events.append("backward error")
    return events


def close(a, b):
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(close(p, q) for p, q in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-9, abs=1e-12, nan_ok=True)
    return a == b


@pytest.mark.parametrize("block", range(10))
def test_random_programs(block):
    for seed in range(40 * block, 40 * block + 40):
        ours, theirs = run_program(vt, seed), run_program(torch, seed)
        assert len(ours) == len(theirs), seed
        for a, b in zip(ours, theirs, strict=True):
            assert close(a, b), (seed, a, b, ours)
