"""Named ranges in the timelines of NVIDIA's profilers, as ``torch.cuda.nvtx``.

Without a profiler, or in a build without CUDA, the functions do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["mark", "range", "range_end", "range_pop", "range_push", "range_start"]

try:
    from vibetensor.cuda import _nvtx
except ImportError:  # a build without CUDA
    _nvtx = None


def range_push(msg: str) -> int:
    """Begin a range inside the current one; its depth, from 0."""
    return _nvtx.push(msg) if _nvtx else -1


def range_pop() -> int:
    """End the range that was begun last on this thread; its depth."""
    return _nvtx.pop() if _nvtx else -1


def range_start(msg: str) -> int:
    """Begin a range that another thread may end; the number to end it with."""
    return _nvtx.start(msg) if _nvtx else 0


def range_end(range_id: int) -> None:
    """End a range of :func:`range_start`."""
    if _nvtx:
        _nvtx.end(range_id)


def mark(msg: str) -> None:
    """Mark this moment."""
    if _nvtx:
        _nvtx.mark(msg)


@contextmanager
def range(msg: str, *args: object, **kwargs: object) -> Iterator[None]:
    """A range around the block; the message is formatted with the other arguments."""
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
