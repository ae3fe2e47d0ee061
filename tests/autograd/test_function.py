"""User-defined operators."""

import pytest
import torch


def leaf(lib, values):
    return lib.tensor(values, dtype=lib.float64, requires_grad=True)


def cube(lib):
    class Cube(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x * x

    return Cube


def test_forward_and_backward(lib):
    x = leaf(lib, [1.0, 2.0])
    y = cube(lib).apply(x)
    assert y.grad_fn.name() == "CubeBackward" and type(y.grad_fn).__name__ == "CubeBackward"
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 12.0]


def test_second_derivative_through_backward(lib):
    x = leaf(lib, [2.0])
    (g,) = lib.autograd.grad(cube(lib).apply(x).sum(), x, create_graph=True)
    (h,) = lib.autograd.grad(g.sum(), x)
    assert g.tolist() == [12.0] and h.tolist() == [12.0]


def test_saved_result_is_differentiable(lib):
    class Exp(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y

    x = leaf(lib, [0.5])
    (g,) = lib.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
    (h,) = lib.autograd.grad(g.sum(), x)
    assert h.item() == pytest.approx(g.item())


def test_setup_context_and_keywords(lib):
    class Scale(lib.autograd.Function):
        @staticmethod
        def forward(x, factor=2.0):
            return x * factor

        @staticmethod
        def setup_context(ctx, inputs, output):
            _, ctx.factor = inputs
            assert output is not None

        @staticmethod
        def backward(ctx, g):
            return g * ctx.factor, None

    x = leaf(lib, [1.0])
    Scale.apply(x, 3.0).sum().backward()
    Scale.apply(x).sum().backward()
    Scale.apply(x, factor=5.0).sum().backward()
    assert x.grad.tolist() == [10.0]


def test_needs_input_grad(lib):
    class Mul(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a, n, b):
            ctx.save_for_backward(a, b)
            assert ctx.needs_input_grad == (True, False, False)
            return a * b * n

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            assert ctx.needs_input_grad == (True, False, False)
            return g * b * 2, None, g * a * 2

    a, b = leaf(lib, [3.0]), lib.ones(1, dtype=lib.float64) * 5
    Mul.apply(a, 2, b).sum().backward()
    assert a.grad.tolist() == [10.0] and b.grad is None


def test_several_outputs_and_zeros(lib):
    received = []

    class Two(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x, materialize):
            ctx.set_materialize_grads(materialize)
            return x * 2, x * 3, "a string", None

        @staticmethod
        def backward(ctx, *grads):
            received.append([None if g is None else g.tolist() for g in grads])
            return grads[0] * 2, None

    for materialize in (True, False):
        x = leaf(lib, [1.0, 2.0])
        a, b, text, nothing = Two.apply(x, materialize)
        assert text == "a string" and nothing is None and b.requires_grad
        a.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]
    assert received == [[[1.0, 1.0], [0.0, 0.0], None, None], [[1.0, 1.0], None, None, None]]


def test_all_gradients_undefined(lib):
    """A Function runs even where nothing arrived: its backward may have effects."""
    received = []

    class Identity(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 1

        @staticmethod
        def backward(ctx, g):
            received.append(g)
            return g

    class Stop(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return None

    x = leaf(lib, [1.0])
    Stop.apply(Identity.apply(x)).sum().backward()
    assert received == [None] and x.grad is None


def test_mark_non_differentiable(lib):
    class Sort(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            values, indices = x.sort()
            also = x * 1
            ctx.mark_non_differentiable(indices, also)
            return values, indices, also

        @staticmethod
        def backward(ctx, g, unused, zeros):
            assert zeros.tolist() == [0.0, 0.0]
            return g

    x = leaf(lib, [2.0, 1.0])
    values, indices, also = Sort.apply(x)
    assert values.requires_grad and not indices.requires_grad and not also.requires_grad
    values.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_not_recorded_without_grad(lib):
    x = leaf(lib, [1.0])
    with lib.no_grad():
        y = cube(lib).apply(x)
    assert not y.requires_grad
    assert not cube(lib).apply(lib.ones(1)).requires_grad


def test_forward_runs_without_recording(lib):
    modes = []

    class Mode(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            modes.append(lib.is_grad_enabled())
            return x * 2

        @staticmethod
        def backward(ctx, g):
            modes.append(lib.is_grad_enabled())
            return g

    x = leaf(lib, [1.0])
    Mode.apply(x).sum().backward()
    lib.autograd.grad(Mode.apply(x).sum(), x, create_graph=True)
    assert modes == [False, False, False, True]


def test_once_differentiable(lib):
    once = torch.autograd.function.once_differentiable if lib is torch else None
    if once is None:
        from vibetensor.autograd.function import once_differentiable as once

    class Square(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            assert not lib.is_grad_enabled()
            return g * 2 * x

    x = leaf(lib, [3.0])
    Square.apply(x).sum().backward()
    assert x.grad.tolist() == [6.0]
    (g,) = lib.autograd.grad(Square.apply(x).sum() * x.sum(), x, create_graph=True)
    assert g.requires_grad
    with pytest.raises(RuntimeError, match="trying to differentiate twice a function"):
        g.sum().backward()


def test_saved_tensors_released(lib):
    y = cube(lib).apply(leaf(lib, [1.0])).sum()
    node = y.grad_fn.next_functions[0][0]
    assert len(node.saved_tensors) == 1
    y.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        node.saved_tensors  # noqa: B018
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()


def test_saved_tensors_checked(lib):
    x = leaf(lib, [1.0]) * 1
    y = cube(lib).apply(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_saved_none(lib):
    class Optional(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(None, x)
            return x * 1

        @staticmethod
        def backward(ctx, g):
            nothing, x = ctx.saved_tensors
            assert nothing is None
            return g * x

    x = leaf(lib, [4.0])
    Optional.apply(x).sum().backward()
    assert x.grad.tolist() == [4.0]


def test_backward_inside_backward(lib):
    """A checkpoint: the forward is repeated and differentiated inside of backward."""

    class Checkpoint(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x * x).sin()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            with lib.enable_grad():
                y = x.detach().requires_grad_()
                z = (y * y).sin()
            lib.autograd.backward(z, g)
            return y.grad

    x, plain = leaf(lib, [0.3, 0.4]), leaf(lib, [0.3, 0.4])
    y, z = x, plain
    for _ in range(3):
        y, z = Checkpoint.apply(y), (z * z).sin()
    y.sum().backward()
    z.sum().backward()
    assert x.grad.tolist() == pytest.approx(plain.grad.tolist(), rel=1e-14)


@pytest.mark.parametrize(
    ("results", "text"),
    [
        (
            lambda g: g,
            r"function FBackward returned an incorrect number of gradients \(expected 2, got 1\)",
        ),
        (lambda g: (g, g), "FBackward returned a gradient different than None at position 2"),
        (lambda g: (3, None), r"expected Variable or None \(got int\)"),
    ],
)
def test_wrong_results(lib, results, text):
    class F(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x, n):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return results(g)

    with pytest.raises(RuntimeError, match=text):
        F.apply(leaf(lib, [1.0]), 1).sum().backward()


def test_too_many_nones_are_fine(lib):
    class F(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2, None, None

    x = leaf(lib, [1.0])
    F.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0]


def test_missing_parts(lib):
    class NoForward(lib.autograd.Function):
        pass

    class NoBackward(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    class Vjp(NoBackward):
        @staticmethod
        def vjp(ctx, g):
            return g * 7

    x = leaf(lib, [1.0])
    with pytest.raises(NotImplementedError, match="You must implement the forward function"):
        NoForward.apply(x)
    with pytest.raises(NotImplementedError, match="must implement either the backward or vjp"):
        NoBackward.apply(x).sum().backward()
    Vjp.apply(x).sum().backward()
    assert x.grad.tolist() == [7.0]
    with pytest.raises(TypeError, match="save_for_backward can only save variables, but"):

        class Saves(NoBackward):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x, 3)

        Saves.apply(x)


def test_error_in_backward_passes_through(lib):
    class F(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            raise LookupError("mine")

    x = leaf(lib, [1.0])
    with pytest.raises(LookupError, match="mine"):
        F.apply(x).sum().backward()
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0]
