"""Whether algorithms give the same result every time: one setting of the process, as in PyTorch.

It is kept here, because the CUDA library is loaded at the first use of a device only; what it reads
is set then and at every change.
"""

from __future__ import annotations

_mode = False
_warn_only = False


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Set whether operators give the same result for the same input every time.

    On the CPU they always do. On CUDA the threads of some operators race: where an index names a
    place several times, sums of floating or complex numbers (``index_add_``, ``scatter_add_``,
    ``index_put_(accumulate=True)``) take any order, and of several values that are stored
    (``scatter_``, ``x[index] = values``) any stays. With `mode` they are sorted
    first: sums are taken in the order of the positions, and the last value stays. The backward of
    attention takes kernels that add in a fixed order.

    Parameters
    ----------
    mode : bool
        True for the same result every time, False for the fastest way.
    warn_only : bool
        What becomes of a call that has no such form, which are those with 2**32 positions or more:
        True lets it take any order, with a warning, False raises a RuntimeError.

    Examples
    --------
    >>> vt.use_deterministic_algorithms(True)
    >>> vt.are_deterministic_algorithms_enabled()
    True
    >>> vt.use_deterministic_algorithms(False)
    """
    global _mode, _warn_only
    for name, value in (("mode", mode), ("warn_only", warn_only)):
        if not isinstance(value, bool):
            raise TypeError(
                f"use_deterministic_algorithms(): {name} must be bool, not {type(value).__name__}"
            )
    _mode, _warn_only = mode, warn_only
    from vibetensor.cuda import _startup

    if _startup.is_initialized():
        apply()


def are_deterministic_algorithms_enabled() -> bool:
    """Get whether operators give the same result every time; see
    :func:`use_deterministic_algorithms`."""
    return _mode


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Get whether a call without a deterministic form goes on all the same; see
    :func:`use_deterministic_algorithms`."""
    return _warn_only


def apply() -> None:
    """Hand the setting to the CUDA library, which has been started."""
    from vibetensor.cuda import _runtime

    _runtime.set_deterministic(_mode, _warn_only)
