"""Under ``inputs=`` no gradient is computed that nobody asked for; in-place nodes see what was there."""

import pytest

import vibetensor as vt


@pytest.mark.parametrize("wanted", ("a", "w"))
def test_only_the_asked_side_of_a_product_runs(wanted):
    from vibetensor.core.dispatch import cpu_memory, reset_cpu_peak

    a = vt.ones(4, 1024, requires_grad=True)
    w = vt.ones(1024, 1024, requires_grad=True)
    b = w * 1
    y = (a * 1) @ b
    grad = vt.ones_like(y)
    before = cpu_memory()["allocated"]
    reset_cpu_peak()
    leaf = a if wanted == "a" else w
    (found,) = vt.autograd.grad(y, leaf, grad)
    peak = cpu_memory()["peak"] - before
    assert found.shape == leaf.shape
    # The gradient of b alone takes 4 MiB.
    assert (peak > 4 << 20) == (wanted == "w")


def test_the_other_gradients_are_right(lib):
    a = lib.tensor([1.0, 2.0], requires_grad=True)
    b = lib.tensor([3.0, 4.0], requires_grad=True)
    y = (a * b).sum()
    y.backward(inputs=[b], retain_graph=True)
    assert a.grad is None and b.grad.tolist() == [1.0, 2.0]
    y.backward(retain_graph=True)
    assert a.grad.tolist() == [3.0, 4.0] and b.grad.tolist() == [2.0, 4.0]
    (g,) = lib.autograd.grad(y, a, create_graph=True)
    (h,) = lib.autograd.grad(g.sum(), b)
    assert h.tolist() == [1.0, 1.0]


def test_a_backward_inside_a_backward_has_edges_of_its_own(lib):
    class Inner(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            with lib.enable_grad():
                u = lib.ones(2, requires_grad=True)
                v = lib.ones(2, requires_grad=True)
                (u * v).sum().backward()
            assert u.grad is not None and v.grad is not None
            return g * u.grad * 2

    x = lib.ones(2, requires_grad=True)
    z = lib.ones(2, requires_grad=True)
    (g,) = lib.autograd.grad((z * Inner.apply(x)).sum(), x)
    assert g.tolist() == [2.0, 2.0]


def test_fused_operators_under_inputs():
    x = vt.randn(3, 4, requires_grad=True)
    w = vt.randn(4, requires_grad=True)
    b = vt.randn(4, requires_grad=True)
    y = vt.nn.functional.layer_norm(x, (4,), w, b)
    weight = vt.randn(3, 4)
    full = vt.autograd.grad(y, (x, w, b), weight, retain_graph=True)
    for leaf, wanted in zip((x, w, b), full):
        for create in (False, True):
            (g,) = vt.autograd.grad(y, leaf, weight, retain_graph=True, create_graph=create)
            assert (g - wanted).abs().max().item() < 1e-5


def names(node, seen=None):
    seen = [] if seen is None else seen
    if node is not None:
        seen.append(type(node).__name__ if not hasattr(node, "name") else node.name())
        for following, _ in node.next_functions:
            names(following, seen)
    return seen


def test_a_write_to_a_view_leads_to_the_view_as_it_was(lib):
    x = lib.ones(4, requires_grad=True)
    y = x * 2
    v = y[1:]
    v.mul_(v.detach() * 3)
    assert names(y.grad_fn)[0].endswith("CopySlices")
    assert "AsStridedBackward0" not in names(y.grad_fn)
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 12.0, 12.0, 12.0]


def test_an_operand_that_is_written_is_known_to_have_changed(lib):
    x = lib.ones(3, requires_grad=True)
    y = x * 3
    y.mul_(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_iteration_records_one_unbind(lib):
    x = lib.ones(3, 2, requires_grad=True)
    rows = list(x)
    assert all(r.grad_fn is rows[0].grad_fn for r in rows)
    assert rows[0].grad_fn.name() == "UnbindBackward0"
    (rows[0] * 2 + rows[2]).sum().backward()
    assert x.grad.tolist() == [[2.0, 2.0], [0.0, 0.0], [1.0, 1.0]]
