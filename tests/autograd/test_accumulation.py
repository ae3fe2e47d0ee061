"""How gradients end in leaves: sums, dtypes, shapes, strides, and whose memory it is."""

import vibetensor as vt


def leaf(lib, values, dtype="float64"):
    return lib.tensor(values, dtype=getattr(lib, dtype), requires_grad=True)


def test_accumulates_over_calls(lib):
    x = leaf(lib, [1.0, 2.0])
    (x * 3).sum().backward()
    first = x.grad
    (x * 4).sum().backward()
    assert x.grad is first
    assert x.grad.tolist() == [7.0, 7.0]


def test_accumulates_out_of_place_under_create_graph(lib):
    x = leaf(lib, [1.0])
    (x * x).sum().backward()
    first = x.grad
    (x * x).sum().backward(create_graph=True)
    assert first.tolist() == [2.0] and x.grad.tolist() == [4.0]
    assert x.grad.requires_grad
    x.grad = None


def test_leaf_used_many_times(lib):
    x = leaf(lib, [1.0, 2.0])
    (x * x * x + x + x).sum().backward()
    assert x.grad.tolist() == [5.0, 14.0]


def test_given_gradient_is_not_stolen(lib):
    x = leaf(lib, [1.0, 2.0])
    g = lib.ones(2, dtype=lib.float64)
    (x + 0).backward(g)
    x.grad.zero_()
    assert g.tolist() == [1.0, 1.0]


def test_gradients_of_two_leaves_share_no_memory(lib):
    a, b = leaf(lib, [1.0, 2.0]), leaf(lib, [1.0, 2.0])
    (a + b).sum().backward()
    a.grad.zero_()
    assert b.grad.tolist() == [1.0, 1.0]


def test_gradients_through_views_share_no_memory():
    """PyTorch lets them share; then a later in-place accumulation would change both."""
    a = leaf(vt, [1.0, 2.0, 3.0, 4.0])
    b = leaf(vt, [1.0, 2.0, 3.0, 4.0])
    g = vt.ones(2, 2, dtype=vt.float64)
    (a.view(2, 2) + b.view(2, 2)).backward(g)
    a.grad.zero_()
    assert b.grad.tolist() == [1.0] * 4 and g.sum().item() == 4


def test_gradient_has_the_strides_of_the_leaf(lib):
    x = lib.ones(2, 3, dtype=lib.float64).t().requires_grad_()
    (x * 2).sum().backward()
    assert x.grad.stride() == x.stride() == (1, 3)
    y = lib.ones(1, dtype=lib.float64).expand(4).detach().requires_grad_()
    (y * 2).sum().backward()
    assert y.grad.stride() == (1,)


def test_expanded_gradient_becomes_contiguous(lib):
    x = leaf(lib, [[1.0, 2.0], [3.0, 4.0]])
    x.sum().backward()
    assert x.grad.is_contiguous()
    x.grad.add_(1)
    assert x.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_broadcast_gradients_are_summed(lib):
    a, b, c = leaf(lib, [[1.0], [2.0]]), leaf(lib, [3.0, 4.0, 5.0]), leaf(lib, 2.0)
    (a * b * c).sum().backward()
    assert a.grad.tolist() == [[24.0], [24.0]]
    assert b.grad.tolist() == [6.0, 6.0, 6.0]
    assert c.grad.item() == 36.0 and c.grad.shape == ()


def test_gradients_have_the_dtype_of_the_input(lib):
    a = leaf(lib, [1.0, 2.0], "float32")
    b = leaf(lib, [1.0, 2.0], "float64")
    (a * b).sum().backward()
    assert a.grad.dtype is lib.float32 and b.grad.dtype is lib.float64


def test_complex_gradient_of_a_real_input(lib):
    x = leaf(lib, [1.0, 2.0])
    z = lib.tensor([1 + 2j, 3 - 1j], dtype=lib.complex128)
    (x * z).backward(lib.tensor([1 + 1j, 2 + 0j], dtype=lib.complex128))
    assert x.grad.dtype is lib.float64
    assert x.grad.tolist() == [3.0, 6.0]


def test_integer_gradient_is_cast(lib):
    x = leaf(lib, [1.0, 2.0], "float32")
    (x * 2).backward(lib.tensor([1, 2]))
    assert x.grad.tolist() == [2.0, 4.0]
