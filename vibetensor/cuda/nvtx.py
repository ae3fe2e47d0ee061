"""Named ranges in the timelines of NVIDIA's profilers, as ``torch.cuda.nvtx``.

Without a profiler, or in a build without CUDA, the functions do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["mark", "range", "range_end", "range_pop", "range_push", "range_start"]

_functions: Any = None  # the module, False in a build without CUDA


def _nvtx() -> Any:
    """The functions of NVTX, loaded at the first call; something false where there are none."""
    global _functions
    if _functions is None:
        try:
            from vibetensor.cuda import _nvtx as _functions
        except ImportError:
            _functions = False
    return _functions


def range_push(msg: str) -> int:
    """Begin a range inside the current one; its depth, from 0."""
    nvtx = _nvtx()
    return nvtx.push(msg) if nvtx else -1


def range_pop() -> int:
    """End the range that was begun last on this thread; its depth."""
    nvtx = _nvtx()
    return nvtx.pop() if nvtx else -1


def range_start(msg: str) -> int:
    """Begin a range that another thread may end; the number to end it with."""
    nvtx = _nvtx()
    return nvtx.start(msg) if nvtx else 0


def range_end(range_id: int) -> None:
    """End a range of :func:`range_start`."""
    if nvtx := _nvtx():
        nvtx.end(range_id)


def mark(msg: str) -> None:
    """Mark this moment."""
    if nvtx := _nvtx():
        nvtx.mark(msg)


@contextmanager
def range(msg: str, *args: object, **kwargs: object) -> Iterator[None]:
    """A range around the block; the message is formatted with the other arguments."""
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
