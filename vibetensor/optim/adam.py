"""Adam, and AdamW with its decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import vibetensor as vt
from vibetensor import ops
from vibetensor.core import capture
from vibetensor.core.tensor import Tensor
from vibetensor.optim._adam import count_step, rows_of
from vibetensor.optim.optimizer import Optimizer


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, or groups of them.
    lr : float
        Step size.
    betas : (float, float)
        Decay of the running means of gradient and squared gradient.
    eps : float
        Added to the denominator.
    weight_decay : float
        Factor of the parameter that is added to its gradient.
    amsgrad : bool
        Divide by the largest mean of squares seen so far.
    maximize : bool
        Go up instead of down.
    foreach, capturable, fused
        Accepted for PyTorch's sake; the update is always fused.
    decoupled_weight_decay : bool
        Shrink the parameter itself, as :class:`AdamW` does, instead of adding to its gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        if len(betas) != 2:
            raise ValueError(f"Invalid betas: expected two numbers, got {betas}")
        for index, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if differentiable:
            raise ValueError(f"{type(self).__name__}(): differentiable=True is not supported")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    @property
    def _step_supports_amp_scaling(self) -> bool:  # type: ignore[override]
        return not any(group["amsgrad"] for group in self.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Optimizer.state_dict`; ``step`` counts the steps that were taken.

        Reads from the device how many steps an :class:`amp.GradScaler` left out.
        """
        packed = super().state_dict()
        for state in packed["state"].values():
            skipped = state.pop("skipped", None)
            if skipped is not None:
                state["step"] = state["step"] - skipped.cpu()
        return packed

    def _new_state(self, parameter: Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        state["step"] = vt.tensor(0.0, dtype=vt.float32)
        state["exp_avg"] = vt.zeros_like(parameter)
        state["exp_avg_sq"] = vt.zeros_like(parameter)
        return state

    def _update(self, group: dict[str, Any]) -> None:
        amsgrad = group["amsgrad"]
        shared = set()  # counts of left out steps that parameters without a gradient have, too
        if self.found_inf is not None:
            left = (p for p in group["params"] if p.grad is None)
            shared = {id(self.state.get(p, {}).get("skipped")) for p in left}
        beta1, beta2 = map(float, group["betas"])
        options = (
            float(group["lr"]),
            beta1,
            beta2,
            float(group["eps"]),
            float(group["weight_decay"]),
        )
        flags = (bool(group["maximize"]), bool(group["decoupled_weight_decay"]))
        graph = capture.active()
        for rows in rows_of(group["params"], self.state, self._new_state):
            device, step, skipped = rows.parameters[0].device, rows.step, rows.skipped
            found_inf = None if self.found_inf is None else self.found_inf.to(device)
            if found_inf is not None and (skipped is None or id(skipped) in shared):
                skipped = _new_count(rows.states, skipped, device)
            numbers: list[Tensor] = []
            if graph is not None and device.type == "cuda":
                if amsgrad:
                    raise RuntimeError("Adam with amsgrad=True cannot be captured into a graph")
                numbers = [
                    graph.number(lambda: group["lr"]),
                    graph.number(partial(_next_step, rows.states)),
                ]
                graph.after_replay(partial(count_step, rows.states))
            if amsgrad:
                for row in zip(rows.parameters, rows.gradients, rows.states, strict=True):
                    _amsgrad_(*row, *options, step, *flags)
            else:
                ops._adamw_(
                    rows.parameters,
                    rows.gradients,
                    rows.means,
                    rows.squares,
                    *options,
                    step,
                    *flags,
                    numbers,
                    found_inf,
                    skipped,
                )
            if skipped is not None and found_inf is not None:
                skipped.add_(found_inf)
            if not numbers:
                count_step(rows.states)


def _new_count(states: list[dict[str, Any]], count: Tensor | None, device: Any) -> Tensor:
    """How many of their steps were left out, which only the device knows: one tensor for all states
    that step together, a copy of `count`, which others have too, or a zero."""
    if count is None and capture.active() is not None:
        raise RuntimeError(
            "Adam: the first step with a GradScaler cannot be captured into a graph; take it before"
        )
    count = vt.zeros((), device=device) if count is None else count.clone()
    for state in states:
        state["skipped"] = count
    return count


def _next_step(states: list[dict[str, Any]]) -> int:
    return int(states[0]["step"]) + 1


def _amsgrad_(
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    maximize: bool,
    decoupled: bool,
) -> None:
    """One step of the variant that keeps the largest mean of squares, by ordinary operators."""
    if maximize:
        gradient = -gradient
    if decoupled:
        parameter.mul_(1 - lr * weight_decay)
    elif weight_decay:
        gradient = gradient.add(parameter, alpha=weight_decay)
    if "max_exp_avg_sq" not in state:
        state["max_exp_avg_sq"] = vt.zeros_like(parameter)
    mean, square, largest = state["exp_avg"], state["exp_avg_sq"], state["max_exp_avg_sq"]
    mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
    square.mul_(beta2).add_(gradient * gradient, alpha=1 - beta2)
    largest.copy_(square.where(square > largest, largest))
    denominator = largest.sqrt() / math.sqrt(1 - beta2**step) + eps
    parameter.add_(mean / denominator, alpha=-lr / (1 - beta1**step))


class AdamW(Adam):
    """Adam with decoupled weight decay: each step shrinks the parameter by ``lr * weight_decay``.

    The arguments are those of :class:`Adam`, with a weight decay of 0.01 by default.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
