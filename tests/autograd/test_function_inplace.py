"""User-defined operators that write into their inputs, or return them or views of them."""

import pytest

import vibetensor as vt


def leaf(lib, values):
    return lib.tensor(values, dtype=lib.float64, requires_grad=True)


def double_in_place(lib):
    class Double(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            x.mul_(2)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    return Double


def test_mark_dirty(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 3
    z = double_in_place(lib).apply(y)
    assert z is y and y.tolist() == [6.0, 12.0] and y.grad_fn.name() == "DoubleBackward"
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_mark_dirty_on_a_view(lib):
    x = leaf(lib, [1.0, 2.0, 3.0])
    y = x * 3
    v = y[1:]
    assert double_in_place(lib).apply(v) is v
    assert "CopySlices" in y.grad_fn.name()
    (y * y).sum().backward()
    assert x.grad.tolist() == [18.0, 36 * 2 * 2.0, 36 * 3 * 2.0]


def test_mark_dirty_second_argument():
    """PyTorch takes the first argument for the one that was written."""

    class AddInto(vt.autograd.Function):
        @staticmethod
        def forward(ctx, scale, x):
            ctx.mark_dirty(x)
            ctx.save_for_backward(scale)
            return x.mul_(scale)

        @staticmethod
        def backward(ctx, g):
            (scale,) = ctx.saved_tensors
            return (g * 0).sum(), g * scale

    x, scale = leaf(vt, [1.0, 2.0, 3.0]), leaf(vt, 5.0)
    y = x * 1
    AddInto.apply(scale, y[1:])
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 5.0, 5.0]


def test_mark_dirty_errors(lib):
    double = double_in_place(lib)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad has been used"):
        double.apply(leaf(lib, [1.0]))

    class NotReturned(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            x.mul_(2)
            return x * 1

    with pytest.raises(RuntimeError, match="Some elements marked as dirty during the forward"):
        NotReturned.apply(leaf(lib, [1.0]) * 1)

    class TwoOutputs(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(2), x * 1

    with pytest.raises(RuntimeError, match="If your Function modifies inplace an input that is"):
        TwoOutputs.apply((leaf(lib, [1.0, 2.0]) * 1)[1:])


def test_write_counts_for_saved_tensors(lib):
    x = leaf(lib, [1.0])
    y = x * 3
    z = (y * y).sum()
    double_in_place(lib).apply(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_input_returned_as_it_is(lib):
    class Same(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 5

    x = leaf(lib, [1.0])
    y = Same.apply(x)
    assert y is not x and y._base is x
    y.sum().backward()
    assert x.grad.tolist() == [5.0]
    with pytest.raises(RuntimeError, match="This view was created inside a custom Function"):
        y.add_(1)


def test_views_returned(lib):
    class Halves(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x, both):
            return (x[:1], x[1:]) if both else x[:1]

        @staticmethod
        def backward(ctx, *g):
            return lib.cat([t * 3 for t in g] if len(g) == 2 else [g[0] * 3, g[0] * 0]), None

    x = leaf(lib, [1.0, 2.0])
    y = Halves.apply(x, False)
    with pytest.raises(
        RuntimeError,
        match=r"Output 0 of Halves is a view and is being modified inplace\. This view was created "
        "inside a custom Function",
    ):
        y.mul_(2)
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 0.0]
    a, b = Halves.apply(x, True)
    with pytest.raises(RuntimeError, match=r"Output 1 of Halves .* that returns multiple views"):
        b.mul_(2)
    (a + b).sum().backward()
    assert x.grad.tolist() == [6.0, 3.0]
