"""``graphed(train_step)``: a function that is captured once for each kind of arguments."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Hashable
from typing import Any

import vibetensor as vt
from vibetensor.core.tensor import Tensor
from vibetensor.cuda.graphs import CUDAGraph, graph
from vibetensor.cuda.streams import Stream, StreamContext, current_stream

_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _Entry:
    """What is known of one kind of arguments."""

    def __init__(self) -> None:
        self.calls = 0
        self.graph: CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.result: Any = None


class Graphed:
    """A function whose device work is captured and replayed; see :func:`graphed`."""

    def __init__(self, function: Callable[..., Any], warmup: int, clone_results: bool) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._warmup = warmup
        self._clone = clone_results
        self._entries: dict[Hashable, _Entry] = {}
        self._stream: Stream | None = None
        self._pool: tuple[int, int] | None = None
        self._last: CUDAGraph | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tensors: list[Tensor] = []
        key = (
            _describe(args, tensors, "argument"),
            _describe(kwargs, tensors, "argument"),
            vt.is_grad_enabled(),
            vt.is_autocast_enabled("cuda") and vt.get_autocast_dtype("cuda"),
            vt.cuda.current_device(),
        )
        entry = self._entries.setdefault(key, _Entry())
        entry.calls += 1
        if entry.graph is None:
            if entry.calls <= self._warmup:
                return self._run(args, kwargs)
            self._capture(entry, args, kwargs, tensors)
        else:
            for static, given in zip(entry.inputs, tensors, strict=True):
                if static is not given:
                    with vt.no_grad():
                        static.copy_(given)
        assert entry.graph is not None
        entry.graph.replay()
        if self._last is not entry.graph:
            # `grad` of the parameters is the memory of the graph that ran last.
            entry.graph.restore_gradients()
            self._last = entry.graph
        return _map(entry.result, _clone if self._clone else lambda tensor: tensor)

    def reset(self) -> None:
        """Drop all graphs and their memory; the next calls warm up and capture anew."""
        for entry in self._entries.values():
            if entry.graph is not None:
                entry.result = None
                entry.inputs = []
                entry.graph.reset()
        self._entries.clear()
        self._pool = self._last = None

    @property
    def num_graphs(self) -> int:
        """How many kinds of arguments have been captured."""
        return sum(entry.graph is not None for entry in self._entries.values())

    def _side_stream(self) -> Stream:
        if self._stream is None or self._stream.device_index != vt.cuda.current_device():
            self._stream = Stream()
        return self._stream

    def _run(self, args: Any, kwargs: Any) -> Any:
        """A call that is not captured, on the stream that a capture will have."""
        outer, side = current_stream(), self._side_stream()
        side.wait_stream(outer)
        with StreamContext(side):
            result = self._function(*args, **kwargs)
        outer.wait_stream(side)
        _map(result, lambda tensor: _used_on(tensor, outer))
        return result

    def _capture(self, entry: _Entry, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        copies = {id(t): t.detach().clone() for t in tensors}
        entry.inputs = [copies[id(t)] for t in tensors]
        static_args, static_kwargs = _map((args, kwargs), lambda tensor: copies[id(tensor)])
        captured = CUDAGraph()
        try:
            with graph(captured, pool=self._pool, stream=self._side_stream()):
                entry.result = self._function(*static_args, **static_kwargs)
        except RuntimeError as error:
            entry.inputs, entry.result = [], None
            place = _where(error)
            if place is None or "captur" not in str(error):
                raise
            raise RuntimeError(
                f"{place} cannot be part of a captured step: {error}. Move it out of the function "
                "given to graphed(), or compute it on the device"
            ) from error
        except BaseException:
            entry.inputs, entry.result = [], None
            raise
        entry.result = _map(entry.result, lambda tensor: tensor.detach())
        entry.graph = captured
        self._pool = captured.pool()
        self._last = captured


def graphed(
    function: Callable[..., Any] | None = None, *, warmup: int = 2, clone_results: bool = True
) -> Any:
    """Make a training step, or any function of CUDA tensors, run as a captured graph.

    The first calls run as they are, to warm up; then one is captured, backward and optimizer
    included, and from there on a call copies its arguments into the graph's and replays it. Each
    call does the work exactly once. A call with arguments of other shapes, dtypes or strides, or
    with other constants, is captured anew, in the same memory.

    The learning rate, the count of steps and random numbers are those of each call; what else the
    host computes is that of the captured call, and is not computed again. Reading a value back
    (``item()``) cannot be captured, and raises with its line.

    Parameters
    ----------
    function : callable
        Of CUDA tensors and hashable constants, in lists, tuples and dicts too.
    warmup : int
        Calls of each kind of arguments before the capture, 1 at least: optimizers make their state.
    clone_results : bool
        Return copies. Otherwise the next call overwrites what the last one returned.

    Examples
    --------
    >>> @vt.cuda.graphed  # doctest: +SKIP
    ... def train_step(x, y):
    ...     loss = F.cross_entropy(model(x), y)
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    """
    if warmup < 1:
        raise ValueError(f"graphed(): warmup must be at least 1, got {warmup}")
    if function is None:
        return functools.partial(graphed, warmup=warmup, clone_results=clone_results)
    return Graphed(function, warmup, clone_results)


def _clone(tensor: Tensor) -> Tensor:
    return tensor.clone()


def _used_on(tensor: Tensor, stream: Stream) -> Tensor:
    tensor.record_stream(stream)
    return tensor


def _describe(value: Any, tensors: list[Tensor], what: str) -> Hashable:
    """What of an argument belongs to the key; its tensors are appended to `tensors`."""
    if isinstance(value, Tensor):
        if not value.is_cuda:
            raise TypeError(
                f"graphed(): {what} is a tensor on {value.device}; a graph takes tensors of the "
                "device, so copy it there before the call"
            )
        if value.requires_grad:
            raise ValueError(
                f"graphed(): {what} requires grad, and gradients of arguments do not leave a graph"
            )
        for number, seen in enumerate(tensors):
            if seen is value:
                return "the same as", number
        tensors.append(value)
        return (
            "tensor",
            tuple(value.shape),
            value.dtype,
            value.stride(),
            value.device,
        )
    if isinstance(value, (list, tuple)):
        return (type(value), *(_describe(v, tensors, f"{what}[{i}]") for i, v in enumerate(value)))
    if isinstance(value, dict):
        return (dict, *((k, _describe(v, tensors, f"{what}[{k!r}]")) for k, v in value.items()))
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"graphed(): {what} is a {type(value).__name__}, which is neither a tensor nor a "
            "constant that can be compared by its hash"
        ) from None
    return type(value), value


def _map(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """The structure with `function` of each tensor in it."""
    if isinstance(value, Tensor):
        return function(value) if value.is_cuda else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map(v, function) for v in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_map(v, function) for v in value)
    if isinstance(value, dict):
        return {k: _map(v, function) for k, v in value.items()}
    return value


def _where(error: BaseException) -> str | None:
    """'item() at train.py:12': the innermost line outside the library, and what it called."""
    place, called = None, None
    at = error.__traceback__
    while at is not None:
        path = at.tb_frame.f_code.co_filename
        if path.startswith(_LIBRARY) or path.endswith((".pyx", ".pxi", ".pxd")):
            if called is None:
                called = at.tb_frame.f_code.co_name
        else:
            place, called = f"{path}:{at.tb_lineno}", None
        at = at.tb_next
    if place is None:
        return None
    return f"{called}() at {place}" if called else f"what is done at {place}"
