"""Regions of autocast, and autocast in custom functions."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import vibetensor as vt
from vibetensor.autograd.grad_mode import decorate
from vibetensor.core.autocast import (
    autocast_decrement_nesting,
    autocast_increment_nesting,
    clear_autocast_cache,
    get_autocast_dtype,
    is_autocast_available,
    is_autocast_cache_enabled,
    is_autocast_enabled,
    set_autocast_cache_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)
from vibetensor.core.dtype import dtype as DType
from vibetensor.core.tensor import Tensor


class autocast:
    """A region in which products run in a low precision, and what loses by it in float32.

    A context manager and a decorator, for this thread; regions nest. PyTorch's lists say which
    operator does what; operators on no list run in the dtype of their arguments. A float32 weight
    is cast once, until the outermost region ends or the weight changes. Backward passes run in the
    dtypes of the forward, inside and outside of regions.

    Parameters
    ----------
    device_type : str
        Of the tensors concerned: "cuda" or "cpu".
    dtype : dtype, optional
        float16 or bfloat16; default: :func:`get_autocast_dtype`, which is float16 for CUDA and
        bfloat16 for the CPU. With another dtype the region warns and does nothing.
    enabled : bool
        False switches autocast off for the region.
    cache_enabled : bool, optional
        Whether casts of weights are kept; default: as around the region.

    Raises
    ------
    ValueError
        If `device_type` is no string.
    RuntimeError
        If there is no autocast for it.

    Examples
    --------
    >>> import vibetensor as vt
    >>> a = vt.ones(2, 2)
    >>> with vt.autocast("cpu"):
    ...     (a @ a).dtype, a.exp().dtype
    (vibetensor.bfloat16, vibetensor.float32)
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if not isinstance(device_type, str):
            raise ValueError(
                f"Expected `device_type` of type `str`, got: `{type(device_type).__name__}`"
            )
        if not is_autocast_available(device_type):
            raise RuntimeError(
                f"User specified an unsupported autocast device_type '{device_type}'"
            )
        if dtype is not None and not isinstance(dtype, DType):
            raise TypeError(
                f"autocast(): dtype must be vibetensor.dtype, not {type(dtype).__name__}"
            )
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = (
            is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        )
        if enabled and device_type == "cuda" and not vt.cuda.is_available():
            warnings.warn("CUDA is not available. Disabling autocast.", stacklevel=2)
            enabled = False
        if enabled and self.fast_dtype not in (vt.float16, vt.bfloat16):
            warnings.warn(
                f"In {device_type.upper()} autocast, but the target dtype is not supported. "
                f"Disabling autocast.\n{device_type.upper()} Autocast only supports dtypes of "
                f"{vt.bfloat16}, {vt.float16} currently.",
                stacklevel=2,
            )
            enabled = False
        self._enabled = bool(enabled)
        self._outer: list[tuple[bool, DType, bool]] = []  # an instance may be entered again

    def __enter__(self) -> autocast:
        before = get_autocast_dtype(self.device)
        self._outer.append((is_autocast_enabled(self.device), before, is_autocast_cache_enabled()))
        if self._enabled:
            set_autocast_dtype(self.device, self.fast_dtype)
        set_autocast_enabled(self.device, self._enabled)
        set_autocast_cache_enabled(self._cache_enabled)
        autocast_increment_nesting()
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if autocast_decrement_nesting() == 0:
            clear_autocast_cache()
        enabled, dtype, cached = self._outer.pop()
        set_autocast_enabled(self.device, enabled)
        set_autocast_dtype(self.device, dtype)
        set_autocast_cache_enabled(cached)

    def __call__(self, func: Callable[..., Any]) -> Any:
        # A region of its own for each call: the function may run in several threads.
        return decorate(
            lambda: autocast(self.device, self.fast_dtype, self._enabled, self._cache_enabled), func
        )


def _cast(value: Any, device_type: str, dtype: DType) -> Any:
    """The tensors that autocast is about, wherever they are in `value`, in `dtype`."""
    if isinstance(value, Tensor):
        eligible = value.dtype in (vt.float16, vt.bfloat16, vt.float32)
        return value.to(dtype) if eligible and value.device.type == device_type else value
    if isinstance(value, dict):
        return {k: _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(v, device_type, dtype) for v in value)
    return value


def custom_fwd(
    fwd: Callable[..., Any] | None = None, *, device_type: str, cast_inputs: DType | None = None
) -> Any:
    """Decorate ``forward`` of an :class:`autograd.Function`, together with :func:`custom_bwd`.

    Parameters
    ----------
    device_type : str
        "cuda" or "cpu".
    cast_inputs : dtype, optional
        In a region of autocast, cast the floating point arguments to this and run without autocast.
        By default ``forward`` runs with the autocast of the call.

    Examples
    --------
    >>> class Product(vt.autograd.Function):
    ...     @staticmethod
    ...     @vt.amp.custom_fwd(device_type="cpu")
    ...     def forward(ctx, a, b):
    ...         ctx.save_for_backward(a, b)
    ...         return a @ b
    ...     @staticmethod
    ...     @vt.amp.custom_bwd(device_type="cpu")
    ...     def backward(ctx, grad):
    ...         a, b = ctx.saved_tensors
    ...         return grad @ b.T, a.T @ grad
    """
    if not isinstance(device_type, str):
        raise ValueError(
            f"Expected `device_type` of type `str`, got: `{type(device_type).__name__}`"
        )
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def wrapper(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        enabled = is_autocast_enabled(device_type)
        ctx._dtype = get_autocast_dtype(device_type)
        ctx._fwd_used_autocast = enabled and cast_inputs is None
        if not enabled or cast_inputs is None:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type, enabled=False):
            args = _cast(args, device_type, cast_inputs)
            return fwd(ctx, *args, **_cast(kwargs, device_type, cast_inputs))

    return wrapper


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Any:
    """Decorate ``backward`` of an :class:`autograd.Function`: it runs with the autocast of its
    forward, which has :func:`custom_fwd`.

    Parameters
    ----------
    device_type : str
        "cuda" or "cpu".
    """
    if not isinstance(device_type, str):
        raise ValueError(
            f"Expected `device_type` of type `str`, got: `{type(device_type).__name__}`"
        )
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def wrapper(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, ctx._dtype, ctx._fwd_used_autocast):
            return bwd(ctx, *args, **kwargs)

    return wrapper
