"""The engine: order, roots, inputs, accumulation, graphs kept and released, errors."""

import pytest
import torch

import vibetensor as vt


def leaf(lib, values, dtype="float64"):
    return lib.tensor(values, dtype=getattr(lib, dtype), requires_grad=True)


# --- dependency counting --------------------------------------------------------------------------


def test_diamond(lib):
    x = leaf(lib, [1.0, 2.0])
    a = x * 2
    b = a * 3
    c = a.sin()
    (b * c + a).sum().backward()
    u = [2.0, 4.0]
    expected = [2 * (3 * torch.tensor(t).sin() + 3 * t * torch.tensor(t).cos() + 1) for t in u]
    assert x.grad.tolist() == pytest.approx([float(e) for e in expected])


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_stacked_diamonds_run_each_node_once(lib, depth):
    """Without dependency counts the number of visits would double at every level."""
    x = leaf(lib, [1.0])
    y = x
    visits = []
    for _ in range(depth):
        y = y * 0.5 + y * 0.5
    y.grad_fn.register_hook(lambda *_: visits.append(1))
    y.backward()
    assert x.grad.tolist() == [1.0]
    assert len(visits) == 1


def test_residual_chain(lib):
    x = leaf(lib, [0.1, 0.2])
    y = x
    for _ in range(20):
        y = y + (y * 0.1).sin()
    y.sum().backward()
    t = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    s = t
    for _ in range(20):
        s = s + (s * 0.1).sin()
    s.sum().backward()
    assert x.grad.tolist() == pytest.approx(t.grad.tolist(), rel=1e-14)


def test_short_and_long_path_meet(lib):
    """The short path's gradient arrives long before the other one's."""
    x = leaf(lib, [3.0])
    a = x * 2
    long = a
    for _ in range(30):
        long = long * 1.0
    order = []
    a.register_hook(lambda g: order.append(g.item()))
    (a + long).backward()
    assert order == [2.0]
    assert x.grad.tolist() == [4.0]


# --- roots ----------------------------------------------------------------------------------------


def test_several_roots(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 2
    lib.autograd.backward([y.sum(), (y * y).sum(), x.sum()])
    assert x.grad.tolist() == [2 + 8 + 1, 2 + 16 + 1]


def test_root_given_twice_and_root_behind_root(lib):
    x = leaf(lib, 3.0)
    y = x * x
    z = y * 2
    lib.autograd.backward([y, z, y])
    assert x.grad.item() == 6 + 12 + 6


def test_leaf_as_root(lib):
    x = leaf(lib, 3.0)
    x.backward()
    x.backward(lib.tensor(4.0, dtype=lib.float64))
    assert x.grad.item() == 5


def test_roots_with_gradients(lib):
    x = leaf(lib, [1.0, 2.0])
    g = lib.tensor([10.0, 20.0], dtype=lib.float64)
    lib.autograd.backward([x * 2, (x * x).sum()], [g, None])
    assert x.grad.tolist() == [22.0, 44.0]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda lib, x: x.backward(), "grad can be implicitly created only for scalar outputs"),
        (lambda lib, x: lib.ones(2).sum().backward(), "element 0 of tensors does not require grad"),
        (lambda lib, x: (x * 1j).sum().backward(), "only for real scalar outputs"),
        (lambda lib, x: x.backward(lib.ones(3)), "Mismatch in shape: grad_output"),
        (lambda lib, x: x.backward(lib.ones(2) * 1j), "For complex Tensors"),
        (lambda lib, x: lib.autograd.backward([x, x], [x]), "got 2 tensors and 1 gradients"),
        (lambda lib, x: lib.autograd.grad(x.sum(), lib.ones(2)), "does not require grad"),
        (lambda lib, x: lib.autograd.grad(x.sum(), []), "cannot be empty"),
        (lambda lib, x: x.sum().backward(inputs=[]), "cannot be empty"),
        (
            lambda lib, x: lib.autograd.grad(x.sum(), lib.ones(2, requires_grad=True)),
            "appears to not have been used in the graph",
        ),
    ],
)
def test_wrong_arguments(lib, call, error):
    with pytest.raises(RuntimeError, match=error):
        call(lib, leaf(lib, [1.0, 2.0]))


# --- inputs= --------------------------------------------------------------------------------------


def test_grad_changes_nothing(lib):
    x, w = leaf(lib, [1.0, 2.0]), leaf(lib, [3.0, 4.0])
    y = x * w
    gx, gy = lib.autograd.grad((y * y).sum(), [x, y])
    assert gy.tolist() == [6.0, 16.0] and gx.tolist() == [18.0, 64.0]
    assert x.grad is None and w.grad is None and not gx.requires_grad


def test_grad_runs_only_the_needed_part(lib):
    x, w = leaf(lib, [1.0]), leaf(lib, [2.0])
    runs = []
    a, b = x * 2, w * 3
    a.grad_fn.register_hook(lambda *_: runs.append("a"))
    b.grad_fn.register_hook(lambda *_: runs.append("b"))
    (g,) = lib.autograd.grad((a * b).sum(), w)
    assert g.tolist() == [6.0] and runs == ["b"]


def test_grad_of_an_intermediate_stops_there(lib):
    x = leaf(lib, [1.0])
    runs = []
    y = x * 2
    y.grad_fn.register_hook(lambda *_: runs.append(1))
    (g,) = lib.autograd.grad((y * 5).sum(), y)
    assert g.tolist() == [5.0] and runs == []


def test_grad_of_both_ends_of_a_chain(lib):
    x = leaf(lib, [2.0])
    y = x * 3
    z = y * y
    gz, gy, gx, again = lib.autograd.grad(z.sum(), [z, y, x, y])
    assert [g.item() for g in (gz, gy, gx, again)] == [1.0, 12.0, 36.0, 12.0]


def test_grad_of_the_root_itself(lib):
    x = leaf(lib, 2.0)
    y = x * 3
    assert lib.autograd.grad(y, y)[0].item() == 1.0
    assert lib.autograd.grad(x, x)[0].item() == 1.0


def test_grad_of_one_of_several_outputs(lib):
    x = leaf(lib, [3.0, 1.0, 2.0])
    values, _ = x.sort()
    low, high = values[0], values[2]
    g = lib.autograd.grad(low * high, [values, x])
    assert g[0].tolist() == [3.0, 0.0, 1.0] and g[1].tolist() == [1.0, 3.0, 0.0]


def test_unused_inputs(lib):
    x, u = leaf(lib, [1.0]), leaf(lib, [5.0])
    v = u * 2
    assert lib.autograd.grad(x.sum(), [x, u], allow_unused=True)[1] is None
    g = lib.autograd.grad(x.sum(), [u, v], materialize_grads=True)
    assert [t.tolist() for t in g] == [[0.0], [0.0]]
    with pytest.raises(ValueError, match="allow_unused"):
        lib.autograd.grad(x.sum(), u, allow_unused=False, materialize_grads=True)


def test_backward_with_inputs(lib):
    x, w = leaf(lib, [1.0]), leaf(lib, [2.0])
    y = x * w
    (y * 3).sum().backward(inputs=[w, y])
    assert w.grad.tolist() == [3.0] and y.grad.tolist() == [3.0] and x.grad is None


def test_grad_after_unneeded_part_was_released(lib):
    """The part that does not run may be gone."""
    x, w = leaf(lib, [1.0]), leaf(lib, [2.0])
    a = x * x
    a.sum().backward()
    (g,) = lib.autograd.grad((a * w).sum(), w)
    assert g.tolist() == [1.0]


# --- retain_graph, create_graph -------------------------------------------------------------------


def test_second_backward_needs_retain_graph(lib):
    x = leaf(lib, [2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8.0]
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()


def test_nodes_without_saved_tensors_run_again(lib):
    x = leaf(lib, [2.0])
    y = (x + 1).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2.0]


def test_first_backward_frees_what_was_saved():
    x = leaf(vt, [2.0])
    big = vt.ones(1000, dtype=vt.float64)
    import weakref

    y = (x * big).sum()
    alive = weakref.ref(big)
    del big
    assert alive() is not None
    y.backward()
    assert alive() is None


@pytest.mark.parametrize("n", [1, 2, 3])
def test_higher_derivatives(lib, n):
    x = leaf(lib, 0.7)
    y = x**5
    for _ in range(n):
        (y,) = lib.autograd.grad(y, x, create_graph=True)
    expected = [5 * 0.7**4, 20 * 0.7**3, 60 * 0.7**2][n - 1]
    assert y.item() == pytest.approx(expected)


def test_gradient_penalty(lib):
    x, w = leaf(lib, [1.0, 2.0]), leaf(lib, [3.0, -1.0])
    y = (x * w).exp().sum()
    (g,) = lib.autograd.grad(y, x, create_graph=True)
    (g * g).sum().backward()
    t, u = leaf(torch, [1.0, 2.0]), leaf(torch, [3.0, -1.0])
    (h,) = torch.autograd.grad((t * u).exp().sum(), t, create_graph=True)
    (h * h).sum().backward()
    assert x.grad.tolist() == pytest.approx(t.grad.tolist(), rel=1e-12)
    assert w.grad.tolist() == pytest.approx(u.grad.tolist(), rel=1e-12)


def test_double_backward_through_saved_results(lib):
    """exp, tanh and sigmoid save their results, which must have a history under create_graph."""
    for f in ("exp", "tanh", "sigmoid", "sqrt", "rsqrt"):
        x = leaf(lib, [0.5, 0.7])
        y = getattr(x, f)()
        (g,) = lib.autograd.grad(y.sum(), x, create_graph=True)
        (h,) = lib.autograd.grad(g.sum(), x)
        t = torch.tensor([0.5, 0.7], dtype=torch.float64, requires_grad=True)
        (a,) = torch.autograd.grad(getattr(t, f)().sum(), t, create_graph=True)
        (b,) = torch.autograd.grad(a.sum(), t)
        assert h.tolist() == pytest.approx(b.tolist(), rel=1e-12), f


# --- undefined gradients --------------------------------------------------------------------------


def test_unused_outputs_count_as_zero(lib):
    x = leaf(lib, [1.0, 2.0, 3.0, 4.0])
    a, b = x.split(2)
    (a * a).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0, 0.0, 0.0]
    assert b.requires_grad


def test_overwritten_values_get_no_gradient(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 2
    y.zero_()
    y.sum().backward()
    assert x.grad is None or x.grad.tolist() == [0.0, 0.0]


# --- errors ---------------------------------------------------------------------------------------


def test_modified_since_saved(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 1
    z = (y * y).sum()
    y.add_(1)
    with pytest.raises(RuntimeError, match=r"operation: .*\[2\]\], which is output 0 of"):
        z.backward()
    w = lib.ones(2, dtype=lib.float64)
    z = (x * w).sum()
    w.mul_(2)
    with pytest.raises(RuntimeError, match="is at version 1; expected version 0 instead"):
        z.backward()


def test_result_modified_since_saved(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_detached_write_counts(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x.exp()
    y.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_data_write_does_not_count(lib):
    x = leaf(lib, [1.0, 2.0])
    w = lib.ones(2, dtype=lib.float64)
    y = (x * w).sum()
    w.data.mul_(3)
    assert w._version == 0
    y.backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_engine_is_usable_after_an_error(lib):
    """Gradients on their way are given up: nothing of the failed run shows in the next."""
    x, w = leaf(lib, [1.0, 2.0]), leaf(lib, [3.0, 4.0])
    y = x * w
    branch = y * 2
    fail = [True]

    def hook(g):
        if fail[0]:
            raise KeyError("from the hook")

    branch.register_hook(hook)
    total = (branch + y * 3).sum()
    with pytest.raises(KeyError, match="from the hook"):
        total.backward(retain_graph=True)
    x.grad = w.grad = None
    fail[0] = False
    total.backward()
    assert x.grad.tolist() == [15.0, 20.0] and w.grad.tolist() == [5.0, 10.0]


def test_gradient_of_wrong_shape_names_the_function(lib):
    class Wrong(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return lib.ones(7, dtype=lib.float64)

    with pytest.raises(
        RuntimeError,
        match=r"Function WrongBackward returned an invalid gradient at index 0 - got \[7\] but "
        r"expected shape compatible with \[2\]",
    ):
        Wrong.apply(leaf(lib, [1.0, 2.0])).sum().backward()


# --- the graph ------------------------------------------------------------------------------------


def test_next_functions(lib):
    x, w = leaf(lib, [1.0]), lib.ones(1, dtype=lib.float64)
    y = x * w
    z = y.exp()
    assert z.grad_fn.name() == "ExpBackward0"
    assert z.grad_fn.next_functions == ((y.grad_fn, 0),)
    (accumulate, number), (nothing, _) = y.grad_fn.next_functions
    assert accumulate.variable is x and number == 0 and nothing is None
    assert accumulate is y.grad_fn.next_functions[0][0]
    assert "AccumulateGrad" in accumulate.name() and accumulate.next_functions == ()
    assert x.grad_fn is None and "ExpBackward0" in repr(z.grad_fn)


def test_node_metadata(lib):
    y = leaf(lib, [1.0]) * 2
    y.grad_fn.metadata["note"] = 5
    assert y.grad_fn.metadata == {"note": 5}


def test_nodes_cannot_be_made_by_hand():
    with pytest.raises(TypeError):
        vt.autograd.Node()


# --- size -----------------------------------------------------------------------------------------


def test_million_node_chain():
    x = vt.tensor([1.0], requires_grad=True)
    w = vt.tensor([1.0])
    y = x
    for _ in range(1_000_000):
        y = y * w
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [1.0]
    (g,) = vt.autograd.grad(y, x)
    assert g.tolist() == [1.0]
    del y  # freed without recursion


def test_million_node_chain_freed_unused():
    x = vt.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(1_000_000):
        y = y + x
    del y
    assert x.grad is None


def test_wide_fan_in(lib):
    xs = [leaf(lib, [float(i)]) for i in range(500)]
    lib.cat([x * 2 for x in xs]).sum().backward()
    assert all(x.grad.tolist() == [2.0] for x in xs)
