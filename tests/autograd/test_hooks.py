"""Hooks on tensors, leaves and nodes."""

import pytest
import torch

import vibetensor as vt


def leaf(lib, values):
    return lib.tensor(values, dtype=lib.float64, requires_grad=True)


# --- tensor hooks ---------------------------------------------------------------------------------


def test_hook_sees_and_replaces_the_gradient(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y * 3).sum().backward()
    assert seen == [[3.0, 3.0], [30.0, 30.0]] and x.grad.tolist() == [60.0, 60.0]


def test_hook_on_a_leaf_runs_once_with_the_sum(lib):
    x = leaf(lib, [1.0])
    seen = []

    def hook(g):
        seen.append(g.item())
        return g * 2

    x.register_hook(hook)
    (x * 2 + x * 3).sum().backward()
    assert seen == [5.0] and x.grad.tolist() == [10.0]


def test_handle_removes(lib):
    x = leaf(lib, [1.0])
    handle = x.register_hook(lambda g: g * 2)
    with x.register_hook(lambda g: g * 5):
        x.sum().backward()
    assert x.grad.tolist() == [10.0]
    handle.remove()
    handle.remove()
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1.0]


def test_hook_may_remove_itself(lib):
    x = leaf(lib, [1.0])
    calls = []
    handles = []

    def once(g):
        calls.append(1)
        handles[0].remove()

    handles.append(x.register_hook(once))
    y = x * 2
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert calls == [1]


def test_hooks_of_several_outputs(lib):
    x = leaf(lib, [1.0, 2.0, 3.0, 4.0])
    a, b = x.split(2)
    a.register_hook(lambda g: g * 10)
    b.register_hook(lambda g: g * 100)
    (a.sum() + b.sum()).backward()
    assert x.grad.tolist() == [10.0, 10.0, 100.0, 100.0]


def test_hooks_and_inputs(lib):
    """PyTorch's order: the gradient of a leaf is captured after its hooks; of a tensor that the
    gradient flows through, before them."""
    a = leaf(lib, [1.0])
    a.register_hook(lambda g: g * 10)
    assert lib.autograd.grad((a * 2).sum(), a)[0].tolist() == [20.0]
    c = leaf(lib, [1.0])
    b = c * 2
    b.register_hook(lambda g: g * 10)
    gb, gc = lib.autograd.grad((b * 3).sum(), [b, c], retain_graph=True)
    assert gb.tolist() == [3.0] and gc.tolist() == [60.0]
    assert lib.autograd.grad((b * 3).sum(), b)[0].tolist() == [30.0]


@pytest.mark.parametrize(
    ("result", "kind", "text"),
    [
        (lambda lib: 3, TypeError, "expected Variable, but hook returned 'int'"),
        (lambda lib: lib.ones(5, dtype=lib.float64), RuntimeError, "has changed the size of value"),
        (lambda lib: lib.ones(2), RuntimeError, "has changed the type of value"),
    ],
)
def test_wrong_replacements(lib, result, kind, text):
    x = leaf(lib, [1.0, 2.0])
    y = x * 2
    y.register_hook(lambda g: result(lib))
    with pytest.raises(kind, match=text):
        y.sum().backward()
    assert x.grad is None


def test_hook_needs_a_gradient(lib):
    with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't"):
        lib.ones(2).register_hook(print)


def test_hooks_stay_with_the_old_history(lib):
    """A hook is about the value it was registered on, not about the tensor after a write."""
    x = leaf(lib, [1.0])
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.item()))
    y.mul_(5)
    (y * 3).sum().backward()
    assert seen == [15.0]


# --- retain_grad ----------------------------------------------------------------------------------


def test_retain_grad(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 2
    assert not y.retains_grad
    y.retain_grad()
    y.retain_grad()
    assert y.retains_grad
    y.register_hook(lambda g: g * 2)
    for k in (1, 2):
        (y * 3).sum().backward(retain_graph=True)
        assert y.grad.tolist() == [6.0 * k, 6.0 * k]
    assert x.grad.tolist() == [24.0, 24.0]


def test_retain_grad_moves_with_a_write(lib):
    x = leaf(lib, [1.0])
    y = x * 2
    y.retain_grad()
    y.mul_(5)
    (y * 3).sum().backward()
    assert y.grad.tolist() == [3.0] and y.retains_grad


def test_retain_grad_on_leaves_and_constants(lib):
    x = leaf(lib, [1.0])
    x.retain_grad()
    assert not x.retains_grad
    with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires"):
        lib.ones(2).retain_grad()


def test_retained_tensor_may_die(lib):
    x = leaf(lib, [1.0])
    y = x * 2
    y.retain_grad()
    z = y * 3
    del y
    z.sum().backward()
    assert x.grad.tolist() == [6.0]


def test_grad_of_a_non_leaf_warns(lib):
    y = leaf(lib, [1.0]) * 2
    if lib is torch:
        torch.set_warn_always(True)
    with pytest.warns(UserWarning, match="is not a leaf Tensor is being accessed"):
        assert y.grad is None


# --- post-accumulate hooks ------------------------------------------------------------------------


def test_post_accumulate_hook(lib):
    x = leaf(lib, [1.0])
    seen = []

    def step(t):
        assert t is x
        seen.append(t.grad.item())
        t.grad = None

    handle = x.register_post_accumulate_grad_hook(step)
    (x * 2 + x * 3).sum().backward()
    assert seen == [5.0] and x.grad is None
    handle.remove()
    (x * 2).sum().backward()
    assert seen == [5.0] and x.grad.tolist() == [2.0]


def test_post_accumulate_hook_does_not_run_for_grad(lib):
    x = leaf(lib, [1.0])
    x.register_post_accumulate_grad_hook(lambda t: pytest.fail("must not run"))
    lib.autograd.grad((x * 2).sum(), x)


def test_post_accumulate_hook_needs_a_leaf(lib):
    with pytest.raises(RuntimeError, match="cannot be registered on non-leaf tensors"):
        (leaf(lib, [1.0]) * 2).register_post_accumulate_grad_hook(print)


# --- node hooks -----------------------------------------------------------------------------------


def test_node_hooks(lib):
    x, w = leaf(lib, [1.0]), lib.ones(1, dtype=lib.float64) * 4
    y = x * w
    seen = []
    y.grad_fn.register_prehook(lambda out: (out[0] * 2,))
    y.grad_fn.register_hook(
        lambda inputs, out: seen.append((inputs[0].item(), inputs[1], out[0].item()))
    )
    y.grad_fn.register_hook(lambda inputs, out: (inputs[0] * 10, None))
    y.sum().backward()
    assert seen == [(8.0, None, 2.0)] and x.grad.tolist() == [80.0]


def test_node_hooks_of_a_leaf(lib):
    x = leaf(lib, [1.0])
    y = x * 2
    accumulate = y.grad_fn.next_functions[0][0]
    seen = []
    accumulate.register_prehook(lambda out: (out[0] * 5,))
    handle = accumulate.register_hook(lambda inputs, out: seen.append(out[0].item()))
    (y + x).sum().backward(retain_graph=True)
    assert seen == [15.0] and x.grad.tolist() == [15.0]
    handle.remove()
    y.sum().backward()
    assert seen == [15.0] and x.grad.tolist() == [25.0]


@pytest.mark.parametrize(
    ("result", "kind", "text"),
    [
        (lambda g: g, TypeError, "expected tuple, but hook returned"),
        (lambda g: (g, g), RuntimeError, "incorrect number of values .got 2, but expected 1"),
    ],
)
def test_wrong_node_hooks(lib, result, kind, text):
    y = leaf(lib, [1.0]) * 2
    y.grad_fn.register_prehook(lambda out: result(out[0]))
    with pytest.raises(kind, match=text):
        y.sum().backward()


# --- backward inside a hook -----------------------------------------------------------------------


def test_backward_inside_a_hook(lib):
    x, w = leaf(lib, [2.0]), leaf(lib, [3.0])
    inner = (w * w).sum()

    def hook(g):
        inner.backward(retain_graph=True)
        return g + w.grad

    y = x * 5
    y.register_hook(hook)
    y.sum().backward()
    assert w.grad.tolist() == [6.0] and x.grad.tolist() == [35.0]


def test_backward_through_the_same_nodes_inside_a_hook(lib):
    """The outer backward has claimed the nodes that the inner one runs through."""
    x = leaf(lib, [2.0])
    a = x * x
    b = a * a
    c = b * 3
    root = b.sum()
    inner = []

    def hook(g):
        if not inner:
            inner.append(None)
            inner[0] = lib.autograd.grad(root, [x, a], retain_graph=True)

    c.register_hook(hook)
    (c + a).sum().backward(retain_graph=True)
    assert [g.item() for g in inner[0]] == [32.0, 8.0]
    assert x.grad.tolist() == [3 * 32.0 + 4.0]


def test_recursive_backward_of_the_whole_graph(lib):
    x = leaf(lib, [2.0])
    a = x * x
    total = (a * 3 + a).sum()
    depth = []

    def hook(g):
        depth.append(1)
        if len(depth) < 4:
            total.backward(retain_graph=True)

    a.register_hook(hook)
    total.backward(retain_graph=True)
    assert len(depth) == 4 and x.grad.tolist() == [4 * 16.0]


def test_error_in_a_nested_backward_leaves_the_outer_one_intact(lib):
    x = leaf(lib, [2.0])
    a = x * x
    b = a * 3

    def fail(g):
        if calls:
            return
        calls.append(1)
        with pytest.raises(ZeroDivisionError):
            lib.autograd.backward(broken, retain_graph=True)

    calls = []
    broken = (a * 7).sum()

    def divide(g):
        raise ZeroDivisionError

    broken.register_hook(divide)
    b.register_hook(fail)
    b.sum().backward(retain_graph=True)
    assert calls == [1] and x.grad.tolist() == [12.0]


def test_hooks_see_the_grad_mode_of_the_pass(lib):
    x = leaf(lib, [2.0])
    y = x * 2
    modes = []
    y.register_hook(lambda g: modes.append((lib.is_grad_enabled(), g.requires_grad)))
    (y * y).sum().backward(retain_graph=True)
    (y * y).sum().backward(create_graph=True)
    assert modes == [(False, False), (True, True)]
    x.grad = None


def test_hook_handles_are_ours():
    x = leaf(vt, [1.0])
    handle = x.register_hook(lambda g: None)
    assert type(handle).__name__ == "RemovableHandle" and isinstance(handle.id, int)
