"""Scaling of losses, so that small gradients survive float16."""

from __future__ import annotations

import enum
import warnings
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import vibetensor as vt
from vibetensor import ops
from vibetensor.autograd.grad_mode import no_grad
from vibetensor.core import capture
from vibetensor.core.tensor import Tensor


class OptState(enum.Enum):
    """How far the current step of an optimizer has come."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


class _OptimizerStep:
    """One optimizer, from one ``update`` to the next."""

    def __init__(self) -> None:
        self.stage = OptState.READY
        self.found_inf: dict[Any, Tensor] = {}  # by device


class GradScaler:
    """Multiplies losses by a factor, gradients by its inverse, and finds the factor on the way.

    A step whose gradients are infinite or NaN is left out, and the factor is reduced; after many
    steps without such gradients it grows. All of that happens on the device: no method but
    :meth:`get_scale` and :meth:`state_dict` waits for it, given optimizers of this library. (Adam
    with ``amsgrad``, the first steps of SGD with ``dampening``, and optimizers that do not look at
    ``found_inf`` wait in :meth:`step`.)

    Parameters
    ----------
    device : str
        Type of the device of the losses.
    init_scale : float
        The first factor.
    growth_factor, backoff_factor : float
        What the factor is multiplied by, above and below 1.
    growth_interval : int
        How many steps in a row must be taken before the factor grows.
    enabled : bool
        False: everything passes through, and :meth:`step` is the optimizer's.

    Examples
    --------
    >>> import vibetensor as vt
    >>> weight = vt.ones(2, requires_grad=True)
    >>> optimizer = vt.optim.SGD([weight], lr=0.5)
    >>> scaler = vt.amp.GradScaler("cpu")
    >>> scaler.scale((weight * weight).sum()).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> weight.tolist()
    [0.0, 0.0]
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if enabled and growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if enabled and backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        if enabled and device == "cuda" and not vt.cuda.is_available():
            warnings.warn(
                "GradScaler is enabled, but CUDA is not available. Disabling.", stacklevel=2
            )
            enabled = False
        self._device = device
        self._enabled = enabled
        self._init_scale = init_scale
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._init_growth_tracker = 0
        # Made by the first scale(), on the device of what it scales.
        self._scale: Tensor | None = None
        self._growth_tracker: Tensor | None = None
        self._steps: defaultdict[int, _OptimizerStep] = defaultdict(_OptimizerStep)

    def _scale_for(self, function: str) -> Tensor:
        if self._scale is None:
            raise AssertionError(
                f"Attempted {function} but _scale is None.  This may indicate your script did not "
                "use scaler.scale(loss or outputs) earlier in the iteration."
            )
        return self._scale

    def scale(self, outputs: Any) -> Any:
        """`outputs`, a tensor or an iterable of them, times the factor.

        Raises
        ------
        ValueError
            If there is something else in `outputs`.
        """
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                self._start(outputs.device)
            assert self._scale is not None
            return outputs * self._scale.to(outputs.device, non_blocking=True)
        if isinstance(outputs, (list, tuple)):
            return type(outputs)(self.scale(output) for output in outputs)
        if isinstance(outputs, Iterable):
            return map(self.scale, outputs)
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _start(self, device: Any) -> None:
        if capture.active() is not None:
            raise RuntimeError(
                "GradScaler: the first scale() cannot be captured into a graph; call it once before"
            )
        self._scale = vt.full((), float(self._init_scale), dtype=vt.float32, device=device)
        self._growth_tracker = vt.full((), self._init_growth_tracker, dtype=vt.int32, device=device)

    def _unscale(self, optimizer: Any, step: _OptimizerStep, allow_float16: bool) -> None:
        scale = self._scale_for("unscale_")
        gradients = defaultdict(list)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if gradient.dtype == vt.float16 and not allow_float16:
                    raise ValueError("Attempting to unscale FP16 gradients.")
                gradients[gradient.device].append(gradient)
        with no_grad():
            inverse = scale.reciprocal()
            for device, tensors in gradients.items():
                found_inf = vt.zeros((), dtype=vt.float32, device=device)
                ops._amp_foreach_non_finite_check_and_unscale_(
                    tensors, found_inf, inverse.to(device, non_blocking=True)
                )
                step.found_inf[device] = found_inf
        step.stage = OptState.UNSCALED

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer by the factor: to look at them, or clip them, before
        :meth:`step`, which does it otherwise.

        Raises
        ------
        RuntimeError
            If that was done already since the last :meth:`update`, or the optimizer has stepped.
        ValueError
            If a gradient is in float16: it may have overflowed where the weight is kept.
        """
        if not self._enabled:
            return
        self._scale_for("unscale_")
        step = self._steps[id(optimizer)]
        if step.stage is OptState.UNSCALED:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        if step.stage is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        self._unscale(optimizer, step, allow_float16=False)

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Step the optimizer, unless a gradient is infinite or NaN.

        The arguments go to ``optimizer.step``, whose result is returned.

        Raises
        ------
        RuntimeError
            If the optimizer has stepped since the last :meth:`update`, or a closure is given.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        scale = self._scale_for("step")
        step = self._steps[id(optimizer)]
        if step.stage is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        on_device = getattr(optimizer, "_step_supports_amp_scaling", False)
        if step.stage is OptState.READY:
            self._unscale(optimizer, step, allow_float16=on_device)
        if not step.found_inf:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        result = None
        if on_device:
            optimizer.found_inf = self._combined(step.found_inf.values(), scale.device)
            try:
                result = optimizer.step(*args, **kwargs)
            finally:
                del optimizer.found_inf
        elif not any(found_inf.item() for found_inf in step.found_inf.values()):
            result = optimizer.step(*args, **kwargs)
        step.stage = OptState.STEPPED
        return result

    @staticmethod
    def _combined(found_infs: Iterable[Tensor], device: Any) -> Tensor:
        first, *others = [found_inf.to(device, non_blocking=True) for found_inf in found_infs]
        for other in others:
            first = first.maximum(other)
        return first

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Change the factor by what the steps since the last call found, or set it to `new_scale`.

        Call it once per iteration, after the steps of all optimizers.
        """
        if not self._enabled:
            return
        scale = self._scale_for("update")
        if new_scale is None:
            found_infs = [f for step in self._steps.values() for f in step.found_inf.values()]
            if not found_infs:
                raise AssertionError("No inf checks were recorded prior to update.")
            ops._amp_update_scale_(
                scale,
                self._growth_tracker,
                self._combined(found_infs, scale.device),
                float(self._growth_factor),
                float(self._backoff_factor),
                int(self._growth_interval),
            )
        elif isinstance(new_scale, Tensor):
            if (
                new_scale.device.type != self._device
                or new_scale.numel() != 1
                or new_scale.requires_grad
            ):
                raise AssertionError(
                    "new_scale should be a float or a 1-element tensor of the device with "
                    "requires_grad=False."
                )
            scale.copy_(new_scale.reshape(()))
        else:
            scale.fill_(float(new_scale))
        self._steps.clear()

    def get_scale(self) -> float:
        """The factor; waits for the device. 1.0 where the scaler is not enabled."""
        if not self._enabled:
            return 1.0
        return float(self._init_scale if self._scale is None else self._scale.item())

    def get_growth_factor(self) -> float:
        """What the factor grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the factor grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the factor is multiplied by after a step that was left out."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the factor is multiplied by after a step that was left out."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """How many steps in a row must be taken before the factor grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set how many steps in a row must be taken before the factor grows."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        tracker = self._growth_tracker
        return int(self._init_growth_tracker if tracker is None else tracker.item())

    def is_enabled(self) -> bool:
        """Whether this scaler does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The state, in PyTorch's layout; empty where the scaler is not enabled. Waits for the
        device."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned, here or in PyTorch.

        Raises
        ------
        RuntimeError
            If it is that of a scaler that was not enabled.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled "
                "instance of GradScaler."
            )
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._scale is not None:
            assert self._growth_tracker is not None
            self._scale.fill_(self._init_scale)
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._steps:
            raise AssertionError(
                "A GradScaler instance may only be pickled at the beginning of an iteration, or at "
                "the end after scaler.update()."
            )
        state["_init_scale"] = self.get_scale()
        state["_init_growth_tracker"] = self._get_growth_tracker()
        state["_scale"] = state["_growth_tracker"] = None
        return state
