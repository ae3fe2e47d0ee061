"""Muon: steps that are orthogonal matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import vibetensor as vt
from vibetensor import ops
from vibetensor.core import capture
from vibetensor.core.tensor import Tensor
from vibetensor.optim.optimizer import Buckets, Optimizer


class Muon(Optimizer):
    """Muon: the running mean of the gradient, made orthogonal, for matrices of hidden layers.

    Parameters of other ranks, embeddings and output layers want another optimizer. Matrices of one
    shape are made orthogonal together, in bfloat16, by products of batches. Jordan and others,
    https://kellerjordan.github.io/posts/muon/.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, of two dimensions each, or groups of them.
    lr : float
        Step size.
    weight_decay : float
        Each step shrinks the parameter by ``lr * weight_decay``.
    momentum : float
        Decay of the running mean of the gradient.
    nesterov : bool
        Step from the gradient towards the running mean by ``momentum``, rather than to the mean.
    ns_coefficients : (float, float, float)
        Of the polynomial ``a x + b x^3 + c x^5`` of singular values that is iterated.
    eps : float
        The least norm to divide a matrix by.
    ns_steps : int
        How often the polynomial is applied.
    adjust_lr_fn : str, optional
        "original" (the default) multiplies the step size of an (n, m) matrix by
        ``sqrt(max(1, n / m))``, "match_rms_adamw" by ``0.2 sqrt(max(n, m))``.

    Raises
    ------
    ValueError
        For a parameter that is no matrix, and for numbers out of range.

    Examples
    --------
    >>> import vibetensor as vt
    >>> w = vt.nn.Parameter(vt.eye(2))
    >>> optimizer = vt.optim.Muon([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.shape
    vibetensor.Size([2, 2])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        if not lr >= 0.0:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not momentum >= 0.0:
            raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not weight_decay >= 0.0:
            raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        if ns_steps >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(ns_coefficients) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices with options of its own."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.ndim != 2:
                self.param_groups.pop()
                raise ValueError(
                    "Muon only supports 2D parameters whereas we found a parameter with size: "
                    f"{parameter.size()}"
                )

    def _update(self, group: dict[str, Any]) -> None:
        buckets = Buckets()
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if parameter.is_complex():
                raise RuntimeError("Muon does not support complex parameters")
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = vt.zeros_like(gradient)
            key = (parameter.device, parameter.dtype, tuple(parameter.shape))
            buckets.add(key, parameter, gradient, state["momentum_buffer"])
        decay = float(group["weight_decay"])
        graph = capture.active()
        for (device, dtype, shape), (parameters, gradients, buffers) in buckets.columns():
            updates = vt.empty((len(parameters), *shape), dtype=dtype, device=device)
            ops._muon_(
                gradients, buffers, list(updates), float(group["momentum"]), group["nesterov"]
            )
            orthogonal = orthogonalized(
                updates, group["ns_coefficients"], group["ns_steps"], group["eps"]
            )
            # A plain step of gradient descent over all of them, with the decay as a gradient.
            ratio = learning_rate_ratio(group["adjust_lr_fn"], *shape)
            numbers: list[Tensor] = []
            if graph is not None and device.type == "cuda":
                numbers = [graph.number(lambda ratio=ratio: float(group["lr"]) * ratio)]
            steps = list(updates.copy_(orthogonal))
            lr = float(group["lr"]) * ratio
            ops._sgd_(
                parameters, steps, [], lr, 0.0, 0.0, decay / ratio, False, False, False, numbers
            )


def learning_rate_ratio(name: str | None, rows: int, columns: int) -> float:
    """By how much the step size of a matrix differs from the group's."""
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def orthogonalized(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Matrices (b, n, m) with their singular values driven towards 1, in bfloat16.

    Each step applies an odd polynomial: with ``g = x x^T``, ``a x + (b g + c g g) x``. Schulz's
    iteration with the coefficients of Jordan and others; the results lie between 0.5 and 1.5.
    """
    a, b, c = coefficients
    wide = matrices.to(vt.float32)
    norms = (wide * wide).sum((1, 2), True).sqrt().clamp(min=eps)
    x = (wide / norms).to(vt.bfloat16)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = vt.baddbmm(x, vt.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x
