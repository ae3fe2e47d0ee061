"""Gradient clipping and parameter vectors, against PyTorch's."""

import numpy as np
import pytest
import torch

import vibetensor as vt
from vibetensor.nn import utils


def parameters(lib, kind="float64", empty=True):
    """Parameters with gradients in either library, one of them without."""
    generator = np.random.default_rng(0)
    made = []
    for shape in ((3, 4), (5,), (), (2, 2, 2), *([(0,)] if empty else [])):
        parameter = lib.nn.Parameter(lib.from_numpy(generator.normal(size=shape).astype(kind)))
        parameter.grad = lib.from_numpy(generator.normal(size=shape).astype(kind))
        made.append(parameter)
    return [*made, lib.nn.Parameter(lib.ones(3))]


def same_gradients(ours, theirs, tolerance=1e-12):
    for a, b in zip(ours, theirs, strict=True):
        if b.grad is None:
            assert a.grad is None
        else:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance)


@pytest.mark.parametrize("norm_type", [2, 1, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(norm_type, max_norm):
    empty = norm_type != float("inf")  # PyTorch has no largest element of nothing
    ours, theirs = parameters(vt, empty=empty), parameters(torch, empty=empty)
    actual = utils.clip_grad_norm_(iter(ours), max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert isinstance(actual, vt.Tensor) and actual.dim() == 0
    np.testing.assert_allclose(actual.item(), expected.item(), rtol=1e-12)
    same_gradients(ours, theirs)


def test_clip_grad_norm_float32():
    ours, theirs = parameters(vt, "float32"), parameters(torch, "float32")
    actual = utils.clip_grad_norm_(ours, 0.1)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 0.1)
    np.testing.assert_allclose(actual.item(), expected.item(), rtol=1e-6)
    same_gradients(ours, theirs, 1e-6)


def test_clip_grad_norm_of_one_tensor_and_of_none():
    parameter = vt.nn.Parameter(vt.ones(4))
    assert utils.clip_grad_norm_(parameter, 1.0).item() == 0.0
    parameter.grad = vt.ones(4)
    assert utils.clip_grad_norm_(parameter, 1.0).item() == 2.0
    np.testing.assert_allclose(parameter.grad.numpy(), 0.5, rtol=1e-5)


def test_clip_grad_norm_of_non_finite_gradients():
    parameter = vt.nn.Parameter(vt.ones(2))
    parameter.grad = vt.tensor([1.0, float("inf")])
    with pytest.raises(RuntimeError, match="non-finite, so it cannot be clipped"):
        utils.clip_grad_norm_(parameter, 1.0, error_if_nonfinite=True)
    assert parameter.grad.tolist() == [1.0, float("inf")]
    assert utils.clip_grad_norm_(parameter, 1.0).item() == float("inf")


def test_clip_grad_value():
    ours, theirs = parameters(vt), parameters(torch)
    utils.clip_grad_value_(ours, 0.3)
    torch.nn.utils.clip_grad_value_(theirs, 0.3)
    same_gradients(ours, theirs)


def test_vectors():
    ours = [vt.nn.Parameter(vt.rand(2, 3)), vt.nn.Parameter(vt.rand(4))]
    vector = utils.parameters_to_vector(ours)
    assert tuple(vector.shape) == (10,)
    (vector * 2).sum().backward()
    assert (ours[0].grad == 2).all()
    fresh = vt.arange(10, dtype=vt.float32)
    utils.vector_to_parameters(fresh, ours)
    assert ours[1].tolist() == [6, 7, 8, 9]
    assert ours[0].requires_grad and tuple(ours[0].shape) == (2, 3)
    with pytest.raises(TypeError, match="expected Tensor"):
        utils.vector_to_parameters([1.0], ours)
