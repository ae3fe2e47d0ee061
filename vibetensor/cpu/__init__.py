"""The CPU backend: memory counters and what the kernels were chosen for.

>>> import vibetensor as vt
>>> vt.cpu.reset_peak_memory_stats()
>>> vt.cpu.max_memory_allocated() >= vt.cpu.memory_allocated()
True
"""

from vibetensor.core.dispatch import (
    cpu_capability,
    cpu_memory,
    empty_cpu_cache,
    reset_cpu_peak,
)

__all__ = [
    "cpu_capability",
    "empty_cache",
    "max_memory_allocated",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
]


def memory_stats() -> dict[str, int]:
    """Counters: "allocated", "peak" and "reserved" bytes, and "num_allocs", blocks handed out."""
    return cpu_memory()


def memory_allocated() -> int:
    """Bytes of all live tensors."""
    return cpu_memory()["allocated"]


def max_memory_allocated() -> int:
    """The largest number of bytes of live tensors since the last reset."""
    return cpu_memory()["peak"]


def memory_reserved() -> int:
    """Bytes taken from the system, cached blocks included."""
    return cpu_memory()["reserved"]


def reset_peak_memory_stats() -> None:
    """Starts the peak anew from the bytes allocated now."""
    reset_cpu_peak()


def empty_cache() -> None:
    """Gives cached blocks back to the system."""
    empty_cpu_cache()
