"""Compares gradients with finite differences.

Complex numbers are pairs of real ones here: the gradient of a real loss with respect to ``x + iy``
is ``dL/dx + i dL/dy``, so every Jacobian below is real.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vibetensor.autograd.api import grad, undefined_grad
from vibetensor.autograd.grad_mode import no_grad
from vibetensor.core.tensor import Tensor

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """A gradient that is wrong, as found by :func:`gradcheck`."""


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _differentiable(outputs: Any) -> list[Tensor]:
    return [
        o
        for o in _as_tuple(outputs)
        if isinstance(o, Tensor) and (o.is_floating_point() or o.is_complex())
    ]


def _parts(t: Tensor) -> np.ndarray[Any, Any]:
    """The elements as float64, a complex one as two."""
    import numpy as np  # only here: it takes longer to load than the library

    kind = np.complex128 if t.is_complex() else np.float64
    flat = np.array(t.detach().tolist(), dtype=kind).reshape(-1)
    return flat.view(np.float64)


def _steps(t: Tensor) -> Iterator[tuple[tuple[int, ...], complex]]:
    """Every element with the directions it can move in."""
    for index in itertools.product(*[range(n) for n in t.shape]):
        yield index, 1
        if t.is_complex():
            yield index, 1j


def _numerical(
    func: Callable[..., Any], inputs: tuple[Any, ...], x: Tensor, eps: float
) -> list[np.ndarray[Any, Any]]:
    """Per output the Jacobian with respect to `x`: (parts of x, parts of the output)."""
    import numpy as np  # only here: it takes longer to load than the library

    data = x.detach()

    def outputs_at(index: tuple[int, ...], value: complex) -> list[np.ndarray[Any, Any]]:
        with no_grad():
            data[index] = value
        return [_parts(o) for o in _differentiable(func(*inputs))]

    rows = []
    for index, direction in _steps(x):
        old = data[index].item()
        high = outputs_at(index, old + eps * direction)
        low = outputs_at(index, old - eps * direction)
        with no_grad():
            data[index] = old
        rows.append([(h - l) / (2 * eps) for h, l in zip(high, low, strict=True)])
    count = len(_differentiable(func(*inputs)))
    return [np.array([row[k] for row in rows]) for k in range(count)]


def _analytical(output: Tensor, x: Tensor) -> np.ndarray[Any, Any]:
    """The same Jacobian by one backward pass per part of the output."""
    import numpy as np  # only here: it takes longer to load than the library

    columns = []
    seed = output.detach().clone()
    for index, direction in _steps(seed):
        seed.zero_()
        seed[index] = direction
        (g,) = grad(output, x, seed, retain_graph=True, allow_unused=True)
        if g is None:
            columns.append(np.zeros(x.numel() * (2 if x.is_complex() else 1)))
            continue
        if g.shape != x.shape:
            raise GradcheckError("Analytical gradient has incorrect size")
        columns.append(_parts(g))
    return np.array(columns).T


def _check_undefined(outputs: list[Tensor], inputs: list[Tensor]) -> None:
    """Where no gradient arrives at an output, none may come out; together with other outputs it
    must count as zero."""
    import numpy as np  # only here: it takes longer to load than the library

    for missing in [range(len(outputs))] + [[k] for k in range(len(outputs))]:
        gradients = [
            None if k in missing else o.detach().clone().zero_() for k, o in enumerate(outputs)
        ]
        for g in undefined_grad(outputs, inputs, gradients):
            if g is not None and not np.all(_parts(g) == 0):
                raise GradcheckError(
                    "Expected all input grads to be undefined or zero when all output grads are "
                    "undefined or zero. Please check to make sure that your backward function "
                    "handles undefined output grads as zero."
                )


def _check_inputs(inputs: tuple[Any, ...]) -> list[tuple[int, Tensor]]:
    """The inputs to differentiate, with their numbers."""
    wanted = []
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or not x.requires_grad:
            continue
        if x.element_size() != (16 if x.is_complex() else 8):
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point or "
                "complex. This check will likely fail if all the inputs are not of double "
                "precision "
                "floating point or complex.",
                stacklevel=4,
            )
        if any(n > 1 and s == 0 for n, s in zip(x.shape, x.stride(), strict=True)):
            raise RuntimeError(
                f"The {i}th input has a dimension with stride 0. gradcheck only supports inputs "
                "that "
                "are non-overlapping to be able to compute the numerical gradients correctly. You "
                "should call .contiguous on the input before passing it to gradcheck."
            )
        if x.is_leaf:
            x.grad = None
        else:
            x.retain_grad()
        wanted.append((i, x))
    if not wanted:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them "
            "have requires_grad=True."
        )
    return wanted


def _compare(
    name: str, got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], atol: float, rtol: float
) -> None:
    import numpy as np  # only here: it takes longer to load than the library

    got = got.reshape(expected.shape)
    if not np.allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True):
        raise GradcheckError(
            f"Jacobian mismatch for {name},\nnumerical:{expected}\nanalytical:{got}\n"
        )


def _gradcheck(
    func: Callable[..., Any],
    inputs: tuple[Any, ...],
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
    check_undefined_grad: bool,
) -> None:
    import numpy as np  # only here: it takes longer to load than the library

    wanted = _check_inputs(inputs)
    outputs = _differentiable(func(*inputs))
    numerical = [_numerical(func, inputs, x, eps) for _, x in wanted]
    outputs = _differentiable(func(*inputs))
    for k, output in enumerate(outputs):
        for n, (i, x) in enumerate(wanted):
            name = f"output {k} with respect to input {i}"
            if not output.requires_grad:
                if not np.allclose(numerical[n][k], 0, atol=atol):
                    raise GradcheckError(
                        f"Numerical gradient for {name} expected to be zero, because the output "
                        "does "
                        "not require grad"
                    )
                continue
            analytical = _analytical(output, x)
            _compare(name, analytical, numerical[n][k], atol, rtol)
            if not np.allclose(_analytical(output, x), analytical, rtol=0, atol=nondet_tol):
                raise GradcheckError(
                    f"Backward is not reentrant for {name}, i.e., running backward with same input "
                    "and grad_output multiple times gives different values, although analytical "
                    "gradient matches numerical gradient. The tolerance for nondeterminism was "
                    f"{nondet_tol}."
                )
    outputs = [o for o in outputs if o.requires_grad]
    if check_undefined_grad and outputs:
        _check_undefined(outputs, [x for _, x in wanted])


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
) -> bool:
    """Checks the gradients of `func` against central differences.

    Parameters
    ----------
    func : callable
        Takes `inputs` and returns a tensor or a tuple of tensors. Must be deterministic.
    inputs : Tensor or sequence
        Those that require grad are checked; they should be float64 or complex128.
    eps : float
        The step of the differences.
    atol, rtol : float
        How far the two Jacobians may differ.
    raise_exception : bool
        Raise :class:`GradcheckError`, which names the output and the input; else return False.
    nondet_tol : float
        How far two runs of the same backward may differ.
    check_undefined_grad : bool
        Also check that outputs without a gradient count as zero.

    >>> import vibetensor as vt
    >>> x = vt.tensor([0.5, 1.0], dtype=vt.float64, requires_grad=True)
    >>> vt.autograd.gradcheck(vt.sin, x)
    True
    """
    try:
        _gradcheck(func, _as_tuple(inputs), eps, atol, rtol, nondet_tol, check_undefined_grad)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _random_like(t: Tensor, rng: np.random.Generator) -> Tensor:
    out = t.detach().clone()
    for index in itertools.product(*[range(n) for n in t.shape]):
        re, im = rng.standard_normal(2)
        out[index] = complex(re, im) if t.is_complex() else float(re)
    return out


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Any] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
) -> bool:
    """Checks the second derivatives of `func`: :func:`gradcheck` of its gradient.

    `grad_outputs` are the gradients of the outputs; by default random, and differentiated too. The
    other parameters are those of :func:`gradcheck`.

    >>> import vibetensor as vt
    >>> x = vt.tensor([0.5, 1.0], dtype=vt.float64, requires_grad=True)
    >>> vt.autograd.gradgradcheck(vt.sin, x)
    True
    """
    import numpy as np  # only here: it takes longer to load than the library

    inputs = _as_tuple(inputs)
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        outputs = [o for o in _differentiable(func(*inputs)) if o.requires_grad]
        seeds = tuple(_random_like(o, rng).requires_grad_() for o in outputs)
    else:
        seeds = _as_tuple(grad_outputs)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]

    def first_derivative(*args: Any) -> tuple[Any, ...]:
        args, gradients = args[: len(args) - len(seeds)], args[len(args) - len(seeds) :]
        outputs = [o for o in _differentiable(func(*args)) if o.requires_grad]
        results = grad(
            outputs, [args[i] for i in wanted], gradients, create_graph=True, allow_unused=True
        )
        return tuple(g for g in results if g is not None)

    return gradcheck(
        first_derivative,
        (*inputs, *seeds),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
    )
