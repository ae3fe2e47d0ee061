"""Tests of CUDA code on a machine with no GPU: the simulated driver.

>>> with simulated_driver() as driver:  # doctest: +SKIP
...     x = vt.ones(3, device="cuda") + 1
...     assert driver.counters()["launches"] == 2 and driver.violations() == []

Kernels compute nothing there, so values mean nothing; copies and memory sets do move bytes. What
the driver checks is in violations(): uses of memory that nothing orders, uses after it was freed,
and launches that a device would refuse. VIBETENSOR_CUDA_DRIVER=simulated in the environment gives
it to a whole process.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

OUT_OF_MEMORY = 2  # the driver's error code
_COMPLETIONS = {"at once": 0, "when awaited": 1, "at random": 2}


class SimulatedDriver:
    """The simulated driver that is in place."""

    def counters(self) -> dict[str, int]:
        """Launches, copies, memsets, waits of the host, allocations, live bytes and more."""
        from vibetensor.cuda import _runtime, _simulator

        return {**_simulator.counters(), "host_syncs": _runtime.counters()["host_syncs"]}

    def calls(self, function: str) -> int:
        """How often a function of the driver was called."""
        from vibetensor.cuda import _simulator

        return _simulator.calls(function)

    def violations(self) -> list[str]:
        """What was found wrong since the last :meth:`clear`, one sentence each."""
        from vibetensor.cuda import _simulator

        return _simulator.violations()

    def record(self, on: bool = True) -> None:
        """Begin or end to log what streams are given."""
        from vibetensor.cuda import _simulator

        _simulator.record(on)

    def log(self) -> list[dict[str, Any]]:
        """What was logged: kind, name, grid, block, stream, bytes, captured, touched blocks."""
        from vibetensor.cuda import _simulator

        return _simulator.log()

    def launches(self, call: Callable[[], object]) -> list[str]:
        """The names of the kernels that a call launches, in their order. Clears what was logged.

        AssertionError if the driver objects to something in the call.

        >>> with simulated_driver() as driver:  # doctest: +SKIP
        ...     x = vt.zeros(2, device="cuda")
        ...     driver.launches(lambda: x + x)
        ['vt_add_f32']
        """
        self.clear()
        self.record()
        call()
        self.record(False)
        if found := self.violations():
            raise AssertionError(found)
        return [entry["name"] for entry in self.log() if entry["kind"] == "launch"]

    def clear(self) -> None:
        """Empties the log, the violations and the counters."""
        from vibetensor.cuda import _simulator

        _simulator.clear()

    def fail(self, function: str, nth: int = 1, error: int = OUT_OF_MEMORY, times: int = 1) -> None:
        """Lets the nth call from now of a driver function fail, and `times - 1` after it."""
        from vibetensor.cuda import _simulator

        _simulator.fail(function, nth, error, times)

    def clear_failures(self) -> None:
        """Takes back what :meth:`fail` asked for."""
        from vibetensor.cuda import _simulator

        _simulator.clear_failures()

    def set_memory(self, nbytes: int, device: int = 0) -> None:
        """The memory of a device."""
        from vibetensor.cuda import _simulator

        _simulator.set_memory(device, nbytes)

    def set_strict(self, strict: bool = True) -> None:
        """Takes arguments inside structures for writes, not for reads."""
        from vibetensor.cuda import _simulator

        _simulator.set_strict(strict)

    def complete(self, when: str, seed: int = 0) -> None:
        """When work is done: "at once", "when awaited" by the host, or "at random" when queried."""
        from vibetensor.cuda import _simulator

        _simulator.set_completion(_COMPLETIONS[when], seed)

    def finish_work(self) -> None:
        """Lets everything be done, without the host knowing."""
        from vibetensor.cuda import _simulator

        _simulator.finish_work()

    def peek(self, address: int, nbytes: int) -> bytes:
        """Bytes of the device as they are at the moment."""
        from vibetensor.cuda import _simulator

        return _simulator.peek(address, nbytes)

    def poke(self, address: int, content: bytes) -> None:
        """Sets bytes of the device at once."""
        from vibetensor.cuda import _simulator

        _simulator.poke(address, content)

    def launch(
        self, *words: int, stream: Any = None, reads: int = 0, writes: int = 0, name: str = "kernel"
    ) -> int:
        """A kernel with these 8-byte arguments; bits of `reads` and `writes` say what is known.

        Returns the driver's error code.
        """
        import vibetensor as vt
        from vibetensor.cuda import _simulator

        s = stream if stream is not None else vt.cuda.current_stream()
        return _simulator.launch(s.device_index, s.cuda_stream, name, words, reads, writes)


def has_gpu() -> bool:
    """Whether there is a CUDA device to use, and not a simulated one."""
    from vibetensor.cuda import _startup

    return _startup.why_unavailable() is None and not _startup.runtime().is_simulated()


def uses_gpu() -> bool:
    """Whether this process has started the driver of a GPU; it cannot simulate one then."""
    from vibetensor.cuda import _startup

    return _startup.is_initialized() and not _startup.runtime().is_simulated()


@contextmanager
def simulated_driver(devices: int = 2, memory: int = 16 << 30) -> Iterator[SimulatedDriver]:
    """A simulated driver inside a ``with`` block.

    Parameters
    ----------
    devices : int
        How many devices it has.
    memory : int
        Bytes of each.

    Raises
    ------
    RuntimeError
        If tensors of a simulated driver are alive, or this process uses a GPU.
    """
    from vibetensor.cuda import _startup

    # The traceback of a test that failed keeps its tensors alive.
    sys.last_traceback = sys.last_value = sys.last_exc = None  # type: ignore[attr-defined]
    gc.collect()
    _startup.install_simulated(devices, memory)
    driver = SimulatedDriver()
    try:
        yield driver
    finally:
        driver.complete("at once")
        driver.clear_failures()
        gc.collect()
        with suppress(RuntimeError):  # a test that failed keeps its tensors; the next one says so
            _startup.remove_driver()
