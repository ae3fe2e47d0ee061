"""Clipping of gradients, in place and without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable

import vibetensor as vt
from vibetensor import ops
from vibetensor.autograd.grad_mode import no_grad
from vibetensor.core.tensor import Tensor


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    return [p.grad for p in parameters if p.grad is not None]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients together so that their norm is at most ``max_norm``.

    The factor stays a tensor: nothing is read back from the device.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient are passed over.
    max_norm : float
        The norm allowed to all gradients as one vector.
    norm_type : float
        Which norm; ``inf`` for the largest magnitude.
    error_if_nonfinite : bool
        Raise if the norm is nan or infinite; this reads it back.
    foreach
        Accepted for PyTorch's sake; there is one implementation.

    Returns
    -------
    Tensor
        The norm before clipping, without dimensions.

    Raises
    ------
    RuntimeError
        If the norm is not finite and ``error_if_nonfinite`` is set; the gradients are unchanged.
    """
    gradients = _gradients(parameters)
    if not gradients:
        return vt.tensor(0.0)
    with no_grad():
        norm = ops._grad_norm(gradients, float(norm_type))
        if error_if_nonfinite and not abs(norm.item()) < float("inf"):
            raise RuntimeError(
                f"The total norm of order {float(norm_type)} for gradients from `parameters` is "
                "non-finite, so it cannot be clipped. To disable this error and scale the "
                "gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
            )
        # A factor of one is applied rather than tested for, which would need the value here.
        ops._scale_(gradients, (float(max_norm) / (norm + 1e-6)).clamp(max=1.0))
    return norm


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Clamp every element of the gradients to [-clip_value, clip_value]."""
    limit = float(clip_value)
    with no_grad():
        for gradient in _gradients(parameters):
            gradient.clamp_(-limit, limit)
