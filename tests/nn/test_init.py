"""The initialisers: bounds, moments, the shapes they refuse, and PyTorch's gains."""

import math

import numpy as np
import pytest
import torch

import vibetensor as vt
from vibetensor.nn import init

SHAPE = (64, 32, 9)  # fan_in 288, fan_out 576


def drawn(function, *args, **kwargs):
    vt.manual_seed(1)
    parameter = vt.nn.Parameter(vt.empty(*SHAPE))
    assert function(parameter, *args, **kwargs) is parameter
    assert parameter.requires_grad and parameter.is_leaf
    return parameter.detach().numpy()


@pytest.mark.parametrize(
    ("function", "bound"),
    [
        (lambda t: init.uniform_(t, -0.5, 0.5), 0.5),
        (init.xavier_uniform_, math.sqrt(6 / 864)),
        (lambda t: init.xavier_uniform_(t, gain=2), 2 * math.sqrt(6 / 864)),
        (lambda t: init.kaiming_uniform_(t, a=1), math.sqrt(3 / 288)),
        (
            lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"),
            math.sqrt(6 / 576),
        ),
    ],
)
def test_uniform(function, bound):
    values = drawn(function)
    assert abs(values).max() <= bound
    assert abs(values).max() > 0.999 * bound
    assert abs(values.mean()) < 0.02 * bound
    assert abs(values.std() * math.sqrt(3) / bound - 1) < 0.02


@pytest.mark.parametrize(
    ("function", "mean", "std"),
    [
        (lambda t: init.normal_(t, 3.0, 0.5), 3.0, 0.5),
        (init.xavier_normal_, 0.0, math.sqrt(2 / 864)),
        (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), 0.0, math.sqrt(2 / 288)),
    ],
)
def test_normal(function, mean, std):
    values = drawn(function)
    assert abs(values.mean() - mean) < 0.03 * std
    assert abs(values.std() / std - 1) < 0.02
    # The share beyond two standard deviations.
    assert abs((abs(values - mean) > 2 * std).mean() - 0.0455) < 0.005


@pytest.mark.parametrize(("a", "b"), [(-2.0, 2.0), (-1.5, 0.5), (1.0, 3.0)])
def test_truncated_normal(a, b):
    values = drawn(init.trunc_normal_, 0.0, 1.0, a, b).astype(np.float64)
    assert values.min() >= a and values.max() <= b
    expected = torch.nn.init.trunc_normal_(torch.empty(200_000), 0.0, 1.0, a, b).numpy()
    assert abs(values.mean() - expected.mean()) < 0.02
    assert abs(values.std() - expected.std()) < 0.02


def test_truncated_normal_warns_of_a_far_mean():
    with pytest.warns(UserWarning, match="more than 2 std"):
        values = init.trunc_normal_(vt.empty(100), 0.0, 1.0, 4.0, 5.0)
    assert values.min().item() >= 4.0 and values.max().item() <= 5.0


def test_inverse_of_erf():
    y = vt.linspace(-0.999999, 0.999999, 2001, dtype=vt.float64)
    expected = torch.erfinv(torch.from_numpy(y.numpy())).numpy()
    np.testing.assert_allclose(init._erfinv(y).numpy(), expected, rtol=1e-9, atol=1e-15)


def test_constants():
    assert (drawn(init.constant_, 1.5) == 1.5).all()
    assert (drawn(init.ones_) == 1).all()
    assert (drawn(init.zeros_) == 0).all()


@pytest.mark.parametrize("name", ["linear", "conv1d", "sigmoid", "tanh", "relu", "selu"])
def test_gain(name):
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


def test_gain_of_leaky_relu():
    for slope in (None, 0.0, 0.3, 1):
        expected = torch.nn.init.calculate_gain("leaky_relu", slope)
        assert init.calculate_gain("leaky_relu", slope) == expected
    for bad in ("x", True):
        with pytest.raises(ValueError, match="not a valid number"):
            init.calculate_gain("leaky_relu", bad)
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain("none")


def test_errors():
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(vt.empty(3))
    with pytest.raises(ValueError, match="Mode sideways not supported"):
        init.kaiming_normal_(vt.empty(3, 3), mode="sideways")
    with pytest.warns(UserWarning, match="no-op"):
        init.kaiming_uniform_(vt.empty(0, 3))
