"""The autograd attributes of Tensor."""

import pytest

import vibetensor as vt


def leaf(lib, values):
    return lib.tensor(values, dtype=lib.float64, requires_grad=True)


def test_requires_grad(lib):
    x = lib.ones(2)
    assert not x.requires_grad and x.is_leaf and x.grad_fn is None and x.output_nr == 0
    x.requires_grad = True
    assert x.requires_grad and x.is_leaf
    assert (x * 2).requires_grad and not (x * 2).is_leaf
    x.requires_grad = False
    assert not (x * 2).requires_grad
    assert x.requires_grad_() is x and x.requires_grad
    assert not x.requires_grad_(False).requires_grad


def test_requires_grad_of_results(lib):
    y = lib.ones(2, requires_grad=True) * 2
    y.requires_grad_()
    for value in (False,):
        with pytest.raises(RuntimeError, match="you can only change requires_grad flags of"):
            y.requires_grad = value
    with pytest.raises(RuntimeError, match="requires_grad must be a bool"):
        y.requires_grad = 1


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_only_floating_point_tensors_require_grad(lib, dtype):
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        lib.ones(2, dtype=getattr(lib, dtype)).requires_grad_()
    with pytest.raises(RuntimeError, match="can require gradients"):
        lib.ones(2, dtype=getattr(lib, dtype), requires_grad=True)


def test_complex_tensors_require_grad(lib):
    z = lib.ones(2, dtype=lib.complex128).requires_grad_()
    (z * (2 + 1j)).backward(lib.ones(2, dtype=lib.complex128))
    assert z.grad.tolist() == [2 - 1j, 2 - 1j]


def test_integer_results_have_no_history(lib):
    x = leaf(lib, [3.0, 1.0])
    assert not x.argmax().requires_grad and not (x > 2).requires_grad
    assert not x.sort()[1].requires_grad


def test_grad(lib):
    x = leaf(lib, [1.0, 2.0])
    assert x.grad is None
    g = lib.ones(2, dtype=lib.float64)
    x.grad = g
    assert x.grad is g
    x.sum().backward()
    assert g.tolist() == [2.0, 2.0]
    del x.grad
    assert x.grad is None


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (lambda lib, x: 3, TypeError, "assigned grad expected to be a Tensor or None"),
        (
            lambda lib, x: lib.ones(3, dtype=lib.float64),
            RuntimeError,
            "attempting to assign a gradient of size",
        ),
        (lambda lib, x: lib.ones(2), RuntimeError, "attempting to assign a gradient with dtype"),
        (lambda lib, x: x, RuntimeError, "can't assign Variable as its own grad"),
    ],
)
def test_wrong_grads(lib, value, kind, text):
    x = leaf(lib, [1.0, 2.0])
    with pytest.raises(kind, match=text):
        x.grad = value(lib, x)
    assert x.grad is None


def test_detach(lib):
    x = leaf(lib, [1.0, 2.0])
    y = x * 2
    z = y.detach()
    assert not z.requires_grad and z.is_leaf and z._base is None
    assert z.data_ptr() == y.data_ptr()
    z.add_(1)
    assert y._version == 1


def test_detach_in_place(lib):
    y = leaf(lib, [1.0, 2.0]) * 2
    v = y[1:]
    with pytest.raises(RuntimeError, match=r"Can't detach views in-place\. Use detach"):
        v.detach_()
    assert y.detach_() is y and not y.requires_grad and y.is_leaf
    assert v.requires_grad


def test_version(lib):
    x = lib.ones(4)
    assert x._version == 0
    x.add_(1)
    x[1:].mul_(2)
    assert x._version == 2 and x[:2]._version == 2 and x.detach()._version == 2
    x.data.add_(1)
    assert x._version == 2


def test_base(lib):
    x = lib.ones(4)
    v = x[1:]
    assert x._base is None and v._base is x and v[1:]._base is x
    with lib.no_grad():
        assert x[1:]._base is x


def test_data(lib):
    x = leaf(lib, [1.0, 2.0])
    d = x.data
    assert not d.requires_grad and d.data_ptr() == x.data_ptr()
    new = lib.tensor([5.0, 6.0, 7.0], dtype=lib.float64)
    x.data = new
    assert x.requires_grad and x.is_leaf and x.tolist() == [5.0, 6.0, 7.0]
    assert x.data_ptr() == new.data_ptr()
    with pytest.raises(TypeError, match="Variable data has to be a tensor"):
        x.data = 3


def test_output_nr(lib):
    a, b = leaf(lib, [2.0, 1.0]).split(1)
    assert a.output_nr == 0 and b.output_nr == 1


def test_documented():
    for name in ("backward", "requires_grad", "grad", "grad_fn", "register_hook", "data"):
        assert getattr(vt.Tensor, name).__doc__


def test_optional_tensors_that_are_not_given_need_no_gradient():
    functional = vt.nn.functional
    x = vt.ones(6, 4).view(3, 2, 4)  # a view: the autograd entries are asked
    assert not functional.linear(x, vt.ones(5, 4)).requires_grad
    assert not functional.conv1d(x, vt.ones(5, 2, 1)).requires_grad
    assert not functional.layer_norm(x, (4,)).requires_grad
    assert not functional.scaled_dot_product_attention(x, x, x).requires_grad
