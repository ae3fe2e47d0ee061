"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import vibetensor as vt
from vibetensor import ops
from vibetensor.core import capture
from vibetensor.core.tensor import Tensor
from vibetensor.optim.optimizer import Buckets, Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, or groups of them.
    lr : float
        Step size.
    momentum : float
        Factor of the running sum of gradients.
    dampening : float
        Share of each gradient kept out of that sum.
    weight_decay : float
        Factor of the parameter that is added to its gradient.
    nesterov : bool
        Look ahead along the momentum; wants a momentum and no dampening.
    maximize : bool
        Go up instead of down.
    foreach, fused
        Accepted for PyTorch's sake; the update is always fused.

    Examples
    --------
    >>> import vibetensor as vt
    >>> w = vt.nn.Parameter(vt.ones(2))
    >>> optimizer = vt.optim.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.0, 0.0]
    """

    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        if lr < 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if differentiable:
            raise ValueError("SGD(): differentiable=True is not supported")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _update(self, group: dict[str, Any]) -> None:
        momentum = float(group["momentum"])
        buckets = Buckets()
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            kind = (parameter.device, parameter.dtype)
            if momentum == 0:
                buckets.add((*kind, False), parameter, gradient)
                continue
            buffer = self.state[parameter].get("momentum_buffer")
            first = buffer is None
            if first and self.found_inf is not None:
                # Only the device knows whether this step is taken. Momentum that starts from zero
                # is the same as a first step, but for the dampening.
                if group["dampening"] == 0:
                    first = False
                    buffer = self.state[parameter]["momentum_buffer"] = vt.zeros_like(parameter)
                elif self.found_inf.item():
                    continue
            if first:
                buffer = vt.empty_like(parameter)
            buckets.add((*kind, first), parameter, gradient, buffer)
        graph = capture.active()
        for (device, _, first), (parameters, gradients, *rest) in buckets.columns():
            buffers = rest[0] if rest else []
            numbers: list[Tensor] = []
            if graph is not None and device.type == "cuda":
                numbers = [graph.number(lambda: group["lr"])]
            ops._sgd_(
                parameters,
                gradients,
                buffers,
                float(group["lr"]),
                momentum,
                float(group["dampening"]),
                float(group["weight_decay"]),
                bool(group["nesterov"]),
                bool(group["maximize"]),
                first,
                numbers,
                None if self.found_inf is None else self.found_inf.to(device),
            )
            if first:
                for parameter, buffer in zip(parameters, buffers, strict=True):
                    self.state[parameter]["momentum_buffer"] = buffer
