"""The start of CUDA in this process: at the first use, or never.

Owns the choice of the driver (the installed one, or the simulated one where the environment has
VIBETENSOR_CUDA_DRIVER=simulated) and the reason why there is none.
"""

from __future__ import annotations

import os
import threading
from typing import Any

_lock = threading.RLock()
_runtime: Any = None  # the module, once the driver has started
_reason: str | None = None  # why it cannot start, once that is known
_driver_in_table = False
epoch = 0  # counts the drivers: handles of one mean nothing to the next

SIMULATED_MEMORY = 16 << 30


def why_unavailable() -> str | None:
    """None if there is a device to use, else why not, in one sentence."""
    try:
        return None if runtime().device_count() > 0 else "the driver found no CUDA device"
    except RuntimeError as error:
        return str(error)


def is_initialized() -> bool:
    """Whether the driver has been started."""
    return _runtime is not None


def runtime() -> Any:
    """The module of the runtime's functions, with the driver started.

    Raises
    ------
    RuntimeError
        If that is impossible; the message says why.
    """
    return _runtime if _runtime is not None else _start()


def fatbin_folder() -> str:
    """Where the kernels lie."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "fatbin")


def _start() -> Any:
    global _runtime, _reason
    with _lock:
        if _runtime is not None:
            return _runtime
        if _reason is None:
            _reason = _fill_table()
        if _reason is not None:
            raise RuntimeError(f"CUDA is not available: {_reason}")
        from vibetensor.cuda import _runtime as module

        module.initialise(fatbin_folder())
        from vibetensor import kernels
        from vibetensor.cuda import _triton

        _triton.start()
        kernels.tell_operators()
        _runtime = module
        from vibetensor.backends import _determinism, _precision
        from vibetensor.kernels import _install

        _determinism.apply()
        _precision.apply()
        _install.connect()
        return module


def _fill_table() -> str | None:
    global _driver_in_table
    if _driver_in_table:
        return None
    try:
        from vibetensor.cuda import _driver
    except ImportError as error:
        if error.name == "vibetensor.cuda._driver" or "_driver" in str(error):
            return "this build of vibetensor has no CUDA (build it with -Dcuda=enabled)"
        return f"the CUDA part of vibetensor cannot be loaded ({error})"
    if os.environ.get("VIBETENSOR_CUDA_DRIVER", "") == "simulated":
        devices = int(os.environ.get("VIBETENSOR_SIMULATED_DEVICES", "2"))
        _driver.simulate(devices, SIMULATED_MEMORY)
        reason = None
    else:
        reason = _driver.load()
    _driver_in_table = reason is None
    return reason


def install_simulated(devices: int, memory: int) -> None:
    """Put a new simulated driver in place; for vibetensor.testing.cuda.

    Raises
    ------
    RuntimeError
        If an installed driver is in use, or the memory of a simulated one.
    """
    global _runtime, _reason, _driver_in_table
    from vibetensor.cuda import _driver

    with _lock:
        if _runtime is not None and not _runtime.is_simulated():
            raise RuntimeError("this process uses a GPU; the simulated driver wants one of its own")
        remove_driver()
        _driver.simulate(devices, memory)
        _reason, _driver_in_table = None, True
        _start()


def remove_driver() -> None:
    """Forget the driver, so that the next use chooses anew.

    Raises
    ------
    RuntimeError
        If tensors still use its memory.
    """
    global _runtime, _reason, _driver_in_table, epoch
    with _lock:
        if _runtime is not None:
            _runtime.shut_down()
            epoch += 1
        _runtime, _reason, _driver_in_table = None, None, False
