"""Multi-tensor operators of optimizers: one kernel call for all parameters."""
from __future__ import annotations

from . import Tensor, manual


@manual(surfaces=(), kernel="adamw")
def _adamw_(
    params: list[Tensor], grads: list[Tensor], exp_avgs: list[Tensor], exp_avg_sqs: list[Tensor],
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int,
    maximize: bool, decoupled: bool, numbers: list[Tensor],
) -> list[Tensor]:
    """One step of Adam over all `params`, in place; `decoupled` decay is AdamW's. `numbers` is empty,
    or has 0-d tensors of the device that stand for `lr` and `step` (in a captured graph).

    Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101.
    """


@manual(surfaces=(), kernel="sgd")
def _sgd_(
    params: list[Tensor], grads: list[Tensor], momentum_buffers: list[Tensor], lr: float,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool,
    first: bool, numbers: list[Tensor],
) -> list[Tensor]:
    """One step of gradient descent over all `params`, in place; `momentum_buffers` is empty without
    momentum, and filled instead of read where `first`. `numbers` is empty, or has a 0-d tensor of the
    device that stands for `lr` (in a captured graph)."""


@manual(surfaces=(), kernel="muon")
def _muon_(
    grads: list[Tensor], momentum_buffers: list[Tensor], updates: list[Tensor], momentum: float,
    nesterov: bool,
) -> list[Tensor]:
    """Moves `momentum_buffers` towards `grads` by ``1 - momentum``, and writes to `updates` what Muon makes
    orthogonal: the buffers, or with `nesterov` the point that far on the way from the gradients to them."""


@manual(surfaces=(), kernel="grad_norm")
def _grad_norm(grads: list[Tensor], norm_type: float) -> Tensor:
    """The norm of all elements of all `grads`, a 0-d tensor."""


@manual(surfaces=(), kernel="scale")
def _scale_(tensors: list[Tensor], scale: Tensor) -> list[Tensor]:
    """Multiplies all `tensors` by the 0-d `scale`, in place."""
