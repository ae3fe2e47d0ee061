"""gradcheck and gradgradcheck accept right gradients and find wrong ones."""

import warnings

import pytest

import vibetensor as vt
from vibetensor.autograd import GradcheckError, gradcheck, gradgradcheck


def real(*values):
    return vt.tensor(values, dtype=vt.float64, requires_grad=True)


def test_real():
    assert gradcheck(lambda x, w: (x * w).sin(), (real(0.1, 0.2), real(0.3, 0.4)))
    assert gradcheck(vt.exp, real(0.1, 0.2))
    assert gradgradcheck(lambda x, w: (x * w).sin(), (real(0.1, 0.2), real(0.3, 0.4)))


def test_several_outputs_and_constants():
    constant = vt.ones(2, dtype=vt.float64)
    assert gradcheck(lambda x, n, c: (x * n, x * c, "text"), (real(0.1, 0.2), 3, constant))


def test_complex():
    z = vt.tensor([0.5 + 0.2j, -0.1 + 1j], dtype=vt.complex128, requires_grad=True)
    assert gradcheck(lambda z: z * z, z)
    assert gradcheck(lambda z, x: z * x, (z, real(0.5, 2.0)))
    assert gradgradcheck(lambda z: z * z * z, z)


def test_inputs_of_any_layout():
    x = vt.rand(3, 2, dtype=vt.float64).t().requires_grad_()
    assert gradcheck(lambda x: x * x, x)
    assert gradcheck(lambda x: x * 2, vt.tensor(1.5, dtype=vt.float64, requires_grad=True))
    assert gradcheck(lambda x: x.sum(), vt.zeros(0, 2, dtype=vt.float64, requires_grad=True))
    y = real(1.0).expand(3).detach().requires_grad_()
    with pytest.raises(RuntimeError, match="The 0th input has a dimension with stride 0"):
        gradcheck(vt.sin, y)


def test_inputs_are_left_as_they_were():
    x = real(0.1, 0.2)
    gradcheck(vt.sin, x)
    assert x.tolist() == [0.1, 0.2] and x.grad is None


class Wrong(vt.autograd.Function):
    """Right for the first input, wrong for the second."""

    @staticmethod
    def forward(ctx, x, w, factor):
        ctx.factor = factor
        return x * 2, w * 3

    @staticmethod
    def backward(ctx, a, b):
        return a * 2, b * ctx.factor, None


def test_wrong_gradient_is_named():
    with pytest.raises(
        GradcheckError, match="Jacobian mismatch for output 1 with respect to input 1,\nnumerical"
    ):
        gradcheck(Wrong.apply, (real(0.1), real(0.2), 4.0))
    assert not gradcheck(Wrong.apply, (real(0.1), real(0.2), 4.0), raise_exception=False)
    assert gradcheck(Wrong.apply, (real(0.1), real(0.2), 3.0))


def test_tolerances():
    args = (real(0.1), real(0.2), 3.001)
    assert gradcheck(Wrong.apply, args, atol=1e-2)
    assert not gradcheck(Wrong.apply, args, atol=1e-5, rtol=1e-6, raise_exception=False)


def test_wrong_second_derivative():
    class Cube(vt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x.detach() * x

    assert gradcheck(Cube.apply, real(0.5))
    with pytest.raises(GradcheckError, match="with respect to input 0"):
        gradgradcheck(Cube.apply, real(0.5))


def test_missing_gradient():
    with pytest.raises(GradcheckError, match="expected to be zero"):
        gradcheck(lambda x: (x.detach() * 2, x * 1), real(0.5))


def test_nondeterministic_backward():
    class Noisy(vt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            Noisy.noise = -Noisy.noise
            return g * (2 + Noisy.noise)

    Noisy.noise = 1e-7
    with pytest.raises(GradcheckError, match="Backward is not reentrant"):
        gradcheck(Noisy.apply, real(0.5))
    assert gradcheck(Noisy.apply, real(0.5), nondet_tol=1e-6)


def test_undefined_gradients():
    class NotZero(vt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            if a is None and b is None:
                return vt.ones(1, dtype=vt.float64)
            return (0 if a is None else a * 2) + (0 if b is None else b * 3)

    with pytest.raises(GradcheckError, match="undefined or zero"):
        gradcheck(NotZero.apply, real(0.5))


def test_nothing_to_check():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(vt.sin, vt.ones(2))


def test_single_precision_warns():
    x = vt.ones(1, requires_grad=True)
    with pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double"):
        gradcheck(lambda x: x * 2, x, eps=1e-2, atol=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradcheck(lambda x: x * 2, real(1.0))
