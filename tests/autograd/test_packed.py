"""Gradients of the parts of one tensor become the gradient of the whole without a copy."""

import pytest
import torch

import vibetensor as vt

B, T, H, D = 2, 5, 3, 4


def heads(lib, packed, how):
    """Query, key and value out of one projection (B, T, 3 H D), each (B, H, T, D)."""
    if how == "split":
        return [p.view(B, T, H, D).transpose(1, 2) for p in packed.split(H * D, dim=2)]
    if how == "chunk":
        return [p.view(B, T, H, D).transpose(1, 2) for p in packed.chunk(3, dim=-1)]
    if how == "unbind":
        return [p.transpose(1, 2) for p in packed.view(B, T, 3, H, D).unbind(2)]
    if how == "unbind after permute":
        return packed.view(B, T, 3, H, D).permute(2, 0, 3, 1, 4).unbind(0)
    if how == "reversed":  # in memory the value comes first
        return [p.view(B, T, H, D).transpose(1, 2) for p in packed.split(H * D, dim=2)][::-1]
    # Heads outside: every head has its query, key and value side by side.
    return packed.view(B, T, H, 3, D).permute(3, 0, 2, 1, 4).unbind(0)


WAYS = ["split", "chunk", "unbind", "unbind after permute", "reversed", "heads outside"]


def gradient(lib, array, how, leaf=True):
    packed = lib.tensor(array.tolist(), dtype=lib.float64, requires_grad=True)
    x = packed if leaf else packed * 1
    q, k, v = heads(lib, x, how)
    out = lib.nn.functional.scaled_dot_product_attention(q, k, v)
    (out * lib.arange(out.numel(), dtype=lib.float64).view(out.shape)).sum().backward()
    return packed.grad


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("leaf", [True, False])
def test_attention_over_a_packed_projection(how, leaf):
    array = torch.randn(B, T, 3 * H * D, dtype=torch.float64, generator=torch.Generator())
    ours, theirs = gradient(vt, array, how, leaf), gradient(torch, array, how, leaf)
    torch.testing.assert_close(torch.from_numpy(ours.numpy().copy()), theirs)
    assert ours.is_contiguous()


@pytest.mark.parametrize("how", ["split", "chunk", "unbind"])
def test_no_copy_joins_them(how):
    """The gradient of the projection is the memory that the gradient of the query begins."""
    packed = vt.randn(B, T, 3 * H * D, requires_grad=True)
    q, k, v = heads(vt, packed, how)
    seen = []
    q.register_hook(lambda grad: seen.append(grad.data_ptr()))
    vt.nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()
    assert packed.grad.data_ptr() == seen[0]


def test_parts_that_do_not_follow_one_another_are_copied():
    x = vt.randn(4, 6, requires_grad=True)
    a, b = x.split(3, dim=1)
    whole = vt.arange(24.0).view(4, 6)
    grads = [whole[:, 3:], whole[:, :3]]  # neighbours, in the wrong order
    vt.autograd.backward([a, b], grads)
    assert x.grad.tolist() == vt.cat(grads, 1).tolist()
    assert whole.tolist() == vt.arange(24.0).view(4, 6).tolist()


def test_one_tensor_as_the_gradient_of_every_part():
    x = vt.randn(4, 6, requires_grad=True)
    grad = vt.arange(12.0).view(4, 3)
    vt.autograd.backward(list(x.split(3, dim=1)), [grad, grad])
    assert x.grad.tolist() == vt.cat([grad, grad], 1).tolist()
    y = vt.randn(3, 2, requires_grad=True)
    row = vt.arange(2.0)
    vt.autograd.backward(list(y.unbind(0)), [row, row, row])
    assert y.grad.tolist() == vt.stack([row] * 3).tolist()


def test_the_gradient_given_is_not_the_gradient_kept():
    """A leaf must own its gradient: the caller may write to what it passed."""
    x = vt.randn(4, 6, requires_grad=True)
    whole = vt.ones(4, 6)
    vt.autograd.backward(list(x.split(3, dim=1)), [whole[:, :3], whole[:, 3:]])
    whole.zero_()
    assert x.grad.tolist() == vt.ones(4, 6).tolist()


def test_second_derivatives():
    def check(packed):
        q, k, v = heads(vt, packed, "split")
        return vt.nn.functional.scaled_dot_product_attention(q, k, v)

    packed = vt.randn(B, T, 3 * H * D, dtype=vt.float64, requires_grad=True)
    assert vt.autograd.gradcheck(check, (packed,))
    (first,) = vt.autograd.grad(check(packed).square().sum(), packed, create_graph=True)
    assert first.requires_grad
    first.sum().backward()
    assert packed.grad is not None


def test_requested_in_part():
    """Only the key's gradient is wanted: nothing is packed."""
    packed = vt.randn(B, T, 3 * H * D)
    q, k, v = heads(vt, packed, "split")
    k = k.detach().requires_grad_()
    vt.nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()
    assert k.grad.shape == k.shape
