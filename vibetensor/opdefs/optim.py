"""Multi-tensor operators: one kernel call for all parameters of a model."""
from __future__ import annotations

from . import Tensor, kernel, manual


@manual(surfaces=(), kernel="adamw")
def _adamw_(
    params: list[Tensor], grads: list[Tensor], exp_avgs: list[Tensor], exp_avg_sqs: list[Tensor],
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int,
    maximize: bool, decoupled: bool, numbers: list[Tensor], found_inf: Tensor | None = None,
    skipped: Tensor | None = None,
) -> list[Tensor]:
    """One step of Adam over all `params`, in place; `decoupled` decay is AdamW's. `numbers` is empty,
    or has 0-d tensors of the device that stand for `lr` and `step` (in a captured graph). Nothing
    happens where `found_inf` (float32, 0-d) is not zero; `skipped` (float32, 0-d) is how many of the
    steps were left out so.

    Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101.
    """


@manual(surfaces=(), kernel="sgd")
def _sgd_(
    params: list[Tensor], grads: list[Tensor], momentum_buffers: list[Tensor], lr: float,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool,
    first: bool, numbers: list[Tensor], found_inf: Tensor | None = None,
) -> list[Tensor]:
    """One step of gradient descent over all `params`, in place; `momentum_buffers` is empty without
    momentum, and filled instead of read where `first`. `numbers` is empty, or has a 0-d tensor of the
    device that stands for `lr` (in a captured graph). Nothing happens where `found_inf` (float32, 0-d)
    is not zero."""


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


# --- loss scaling ------------------------------------------------------------------------------------

@manual(surfaces=(), kernel="unscale")
def _amp_foreach_non_finite_check_and_unscale_(
    tensors: list[Tensor], found_inf: Tensor, inv_scale: Tensor
) -> list[Tensor]:
    """Multiplies all `tensors` by `inv_scale`, in place, and sets `found_inf` to 1 where one of their
    elements is infinite or NaN; both are float32 with one element."""


@kernel("update_scale", mutates=True, surfaces=())
def _amp_update_scale_(
    scale: Tensor, growth_tracker: Tensor, found_inf: Tensor, growth_factor: float,
    backoff_factor: float, growth_interval: int,
) -> Tensor:
    """Multiplies `scale` by `backoff_factor` where `found_inf` is not zero, else by `growth_factor`
    after `growth_interval` calls in a row, which `growth_tracker` (int32) counts. All have one
    element."""


@_amp_update_scale_.prepare
def _(scale, growth_tracker, found_inf, growth_factor, backoff_factor, growth_interval):
    check_flag("_amp_update_scale_", "scale", scale, VT_F32)
    check_flag("_amp_update_scale_", "growth_tracker", growth_tracker, VT_I32)
    check_flag("_amp_update_scale_", "found_inf", found_inf, VT_F32)


# --- autocast ----------------------------------------------------------------------------------------

@manual(surfaces=(), kernel="cast_tensors")
def _cast_tensors_(results: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
    """Writes the float32 `tensors` to `results` of the same shapes, all in float16 or all in bfloat16."""
