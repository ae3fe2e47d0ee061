"""CUDA graphs: work captured once and replayed with one call.

Under capture nothing runs. What the host computes meanwhile is frozen into the graph, but for
random numbers (Note [Random numbers in a captured graph], core/random.pyx) and the numbers that
optimizers leave to it (core/capture.py): before each replay these are written into device memory.
"""

from __future__ import annotations

import contextlib
import gc
import struct
from collections.abc import Callable
from typing import Any

import vibetensor as vt
from vibetensor.core import capture
from vibetensor.core.autocast import clear_autocast_cache
from vibetensor.core.random import Generator
from vibetensor.core.tensor import Tensor
from vibetensor.cuda import _startup
from vibetensor.cuda.random import default_generator
from vibetensor.cuda.streams import Stream, StreamContext, current_stream

_MODES = {"global": 0, "thread_local": 1, "relaxed": 2}
_MASK = (1 << 64) - 1


def is_current_stream_capturing() -> bool:
    """Whether the current stream is being captured into a graph."""
    if not _startup.is_initialized():
        return False
    return current_stream().is_capturing()


def graph_pool_handle() -> tuple[int, int]:
    """A new memory pool, for graphs that share their memory."""
    _startup.runtime()
    from vibetensor.cuda import _graphs

    return _graphs.new_pool()


class _Numbers:
    """Eight-byte numbers in device memory, which are written before each replay."""

    _SLOTS = 256  # of one buffer

    def __init__(self, device: int) -> None:
        self._device = device
        self._buffers: list[Tensor] = []
        self._format = "="  # struct's, of all numbers
        self._values: list[Callable[[], tuple[Any, ...]]] = []

    def add(self, kind: str, value: Callable[[], tuple[Any, ...]]) -> Tensor:
        """Places for the numbers that `value` gives, of the struct formats `kind`."""
        used = len(self._format) - 1
        left = len(self._buffers) * self._SLOTS - used
        if left < len(kind):
            self._format += "q" * left  # stays unused
            self._values.append(lambda: (0,) * left)
            used += left
            place = f"cuda:{self._device}"
            self._buffers.append(vt.empty(self._SLOTS, dtype=vt.float64, device=place))
        self._format += kind
        self._values.append(value)
        start = used % self._SLOTS
        return self._buffers[-1][start : start + len(kind)]

    def write(self, stream: Stream) -> None:
        """Puts the numbers of this moment into the buffers, in the stream's order."""
        if not self._values:
            return
        from vibetensor.cuda import _graphs

        content = struct.pack(self._format, *(n for value in self._values for n in value()))
        size = 8 * self._SLOTS
        for i, buffer in enumerate(self._buffers):
            part = content[i * size : (i + 1) * size]
            _graphs.write(self._device, stream.cuda_stream, buffer.data_ptr(), part)


class CUDAGraph:
    """A captured graph.

    Parameters
    ----------
    keep_graph : bool
        Leave the making of the executable graph to :meth:`instantiate`, or to the first replay.
    """

    def __init__(self, keep_graph: bool = False) -> None:
        self._keep = keep_graph
        self._debug = False
        self._device = -1
        self._stream: Stream | None = None  # that it was captured on
        self._capturing = False
        self._graph = self._exec = 0
        self._pool: tuple[int, int] | None = None
        self._has_pool = False
        self._registered: list[Generator] = []
        self._draws: list[tuple[Generator, int]] = []
        self._numbers: _Numbers | None = None
        self._changing = False  # whether any number in it is used
        self._advance: list[Callable[[], None]] = []
        self._parameters: list[Any] = []
        self._gradients: list[tuple[Any, Any]] = []
        self._replayed_on: set[int] = set()
        self._runtime = _startup.runtime()
        self._epoch = _startup.epoch

    # --- capture ---

    def capture_begin(
        self,
        pool: tuple[int, int] | None = None,
        capture_error_mode: str = "global",
        check_input_liveness: bool = False,
    ) -> None:
        """Begin to capture the current stream; :class:`graph` is the usual way to do it.

        Parameters
        ----------
        pool : tuple, optional
            Of :func:`graph_pool_handle` or another graph's :meth:`pool`: where memory comes from.
        capture_error_mode : str
            Whose calls may break the capture: of any thread ("global"), of this one
            ("thread_local"), or nobody's ("relaxed").
        check_input_liveness : bool
            PyTorch's check for freed inputs, which is not supported.
        """
        from vibetensor.cuda import _graphs

        if check_input_liveness:
            raise NotImplementedError("capture_begin(): check_input_liveness is not supported")
        if capture_error_mode not in _MODES:
            raise RuntimeError(
                "Unknown capture error mode. Expected `global`, `thread_local`, or `relaxed`, "
                f"got {capture_error_mode}"
            )
        if self._graph or self._exec or self._capturing:
            raise RuntimeError(
                "This CUDAGraph instance already owns a captured graph. To capture a new graph, "
                "create a new instance."
            )
        if capture.active() is not None:
            raise RuntimeError("this thread captures a graph already")
        self._device = self._runtime.current_device()
        self._stream = current_stream(self._device)
        self._pool = tuple(pool) if pool is not None else _graphs.new_pool()
        _graphs.capture_begin(self._device, self._pool, _MODES[capture_error_mode])
        self._capturing = self._has_pool = True
        self._numbers = _Numbers(self._device)
        self._changing = False
        started: list[Generator] = []
        try:
            for generator in {
                id(g): g for g in (default_generator(self._device), *self._registered)
            }.values():
                self._add_generator(generator)
                started.append(generator)
        except BaseException:
            self._abandon()
            raise
        clear_autocast_cache()  # what was cast before is no part of a replay
        capture.set_active(self)

    def _add_generator(self, generator: Generator) -> None:
        def value() -> tuple[int, int]:
            return generator.initial_seed() & _MASK, generator.get_offset()

        assert self._numbers is not None
        record = self._numbers.add("QQ", value)
        generator._begin_capture(record.data_ptr())
        self._draws.append((generator, 0))

    def number(self, get: Callable[[], float]) -> Tensor:
        """A 0-d float64 tensor that holds ``get()`` in each replay; for optimizers."""
        assert self._numbers is not None
        self._changing = True
        return self._numbers.add("d", lambda: (float(get()),))[0]

    def after_replay(self, function: Callable[[], None]) -> None:
        """Call `function` after each replay; for what optimizers count on the host."""
        self._advance.append(function)

    def keep_gradients(self, parameters: list[Any]) -> None:
        """Remember what ``grad`` of these tensors is when the capture ends."""
        self._parameters.extend(parameters)

    def register_generator_state(self, generator: Generator) -> None:
        """Let captured work draw from this generator of the device, beside the default one."""
        if self._capturing:
            if all(g is not generator for g, _ in self._draws):
                self._add_generator(generator)
        else:
            self._registered.append(generator)

    def _end_recording(self) -> None:
        self._capturing = False
        clear_autocast_cache()
        if capture.active() is self:
            capture.set_active(None)
        self._draws = [(g, g._end_capture()) for g, _ in self._draws]
        self._changing = self._changing or any(blocks for _, blocks in self._draws)

    def _abandon(self) -> None:
        """Ends a capture that is of no use."""
        from vibetensor.cuda import _graphs

        self._end_recording()
        assert self._stream is not None
        with contextlib.suppress(RuntimeError):  # broken by whatever made us give up
            self._graph = _graphs.capture_end(self._device, self._stream.cuda_stream, self._pool)
        self.reset()

    def capture_end(self) -> None:
        """End the capture; the graph can be replayed then.

        Raises
        ------
        RuntimeError
            If something was done meanwhile that cannot be captured. The instance is empty then.
        """
        from vibetensor.cuda import _graphs

        if not self._capturing:
            raise RuntimeError("capture_end() without capture_begin()")
        self._end_recording()
        assert self._stream is not None
        try:
            self._graph = _graphs.capture_end(self._device, self._stream.cuda_stream, self._pool)
            if not self._keep:
                self.instantiate()
        except BaseException:
            self.reset()
            raise
        self._gradients = [(p, p.grad) for p in self._parameters]

    def instantiate(self) -> None:
        """Make the executable graph; only where ``keep_graph=True`` left that open."""
        from vibetensor.cuda import _graphs

        if not self._graph:
            raise RuntimeError("CUDAGraph::instantiate() without a preceding successful capture.")
        if self._exec:
            _graphs.destroy(self._device, 0, self._exec)
            self._exec = 0
        self._exec = _graphs.instantiate(self._device, self._graph)
        if not (self._keep or self._debug):
            _graphs.destroy(self._device, self._graph, 0)
            self._graph = 0

    # --- replay ---

    def replay(self) -> None:
        """Do the captured work again, on the current stream of the graph's device."""
        from vibetensor.cuda import _graphs

        if not self._exec:
            if not (self._keep and self._graph):
                raise RuntimeError(
                    "Called CUDAGraph::replay without a preceding successful capture."
                )
            self.instantiate()
        stream = current_stream(self._device)
        if self._changing and self._numbers is not None:
            self._numbers.write(stream)
        _graphs.launch(self._device, self._exec, stream.cuda_stream)
        clear_autocast_cache()  # the graph may have written weights
        self._replayed_on.add(stream.cuda_stream)
        for generator, blocks in self._draws:
            if blocks:
                generator.set_offset(generator.get_offset() + blocks)
        for function in self._advance:
            function()

    def restore_gradients(self) -> None:
        """Make ``grad`` of the parameters that the graph's optimizers saw what it computes."""
        for parameter, gradient in self._gradients:
            if parameter.grad is not gradient:
                parameter.grad = gradient

    # --- the rest ---

    def reset(self) -> None:
        """Drop the graph; its memory goes back once nothing else of its pool is in use."""
        from vibetensor.cuda import _graphs

        if self._capturing:
            self._abandon()
            return
        if self._epoch != _startup.epoch:  # of a driver that was exchanged since
            self._graph = self._exec = 0
            self._has_pool = False
        # What comes next in the pool's memory must come after the last replay.
        if self._stream is not None and self._exec:
            for handle in self._replayed_on - {self._stream.cuda_stream}:
                self._runtime.order_streams(
                    self._device, self._stream.cuda_stream, self._device, handle
                )
        self._replayed_on = set()
        if self._graph or self._exec:
            _graphs.destroy(self._device, self._graph, self._exec)
            self._graph = self._exec = 0
        self._draws, self._advance, self._parameters, self._gradients = [], [], [], []
        self._numbers = None
        if self._has_pool:
            self._has_pool = False
            _graphs.release_pool(self._device, self._pool)

    def pool(self) -> tuple[int, int]:
        """The pool that the graph's memory is from, for another graph to share."""
        if self._pool is None:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding capture.")
        return self._pool

    def enable_debug_mode(self) -> None:
        """Keep what :meth:`debug_dump` needs; before the capture."""
        self._debug = True

    def debug_dump(self, debug_path: str) -> None:
        """Write the graph as a Graphviz file.

        Parameters
        ----------
        debug_path : str
            Of the file.
        """
        from vibetensor.cuda import _graphs

        if not (self._debug or self._keep):
            raise RuntimeError("debug_dump() needs enable_debug_mode() before the capture")
        if not self._graph:
            raise RuntimeError("debug_dump() without a captured graph")
        _graphs.print_dot(self._graph, str(debug_path))

    def raw_cuda_graph(self) -> int:
        """The driver's handle of the graph; with ``keep_graph=True`` only."""
        if not (self._keep and self._graph):
            raise RuntimeError("raw_cuda_graph() needs keep_graph=True and a captured graph")
        return self._graph

    def raw_cuda_graph_exec(self) -> int:
        """The driver's handle of the executable graph."""
        if not self._exec:
            raise RuntimeError("raw_cuda_graph_exec() without an instantiated graph")
        return self._exec

    def __del__(self) -> None:
        # Half made, or at the end of the interpreter.
        with contextlib.suppress(AttributeError, ImportError, RuntimeError, TypeError):
            self.reset()


class graph:
    """Captures the work of a ``with`` block into a graph.

    Parameters
    ----------
    cuda_graph : CUDAGraph
        Where it goes.
    pool : tuple, optional
        The memory pool; by default a new one.
    stream : Stream, optional
        The stream to capture; by default one that all such blocks use.
    capture_error_mode : str
        See :meth:`CUDAGraph.capture_begin`.
    enable_annotations, check_input_liveness : bool
        PyTorch's names of kernels in profiles and check for freed inputs, which are not supported.
    """

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: tuple[int, int] | None = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
        enable_annotations: bool = False,
        check_input_liveness: bool = False,
    ) -> None:
        if enable_annotations or check_input_liveness:
            raise NotImplementedError(
                "graph(): enable_annotations and check_input_liveness are not supported"
            )
        self.pool = pool
        self.capture_stream = stream if stream is not None else _default_stream()
        self.stream_ctx = StreamContext(self.capture_stream)
        self.cuda_graph = cuda_graph
        self.capture_error_mode = capture_error_mode

    def __enter__(self) -> None:
        if capture.active() is not None:
            raise RuntimeError("graph(): this thread captures a graph already")
        # What finalisers do would become part of the graph, or break it.
        gc.collect()
        _startup.runtime().synchronize(self.capture_stream.device_index)
        vt.cuda.empty_cache()
        self.stream_ctx.__enter__()
        try:
            self.cuda_graph.capture_begin(self.pool, self.capture_error_mode)
        except BaseException:
            self.stream_ctx.__exit__(None, None, None)
            raise

    def __exit__(self, type: Any, value: Any, traceback: Any) -> None:
        try:
            if type is None:
                self.cuda_graph.capture_end()
            else:
                self.cuda_graph.reset()
        finally:
            self.stream_ctx.__exit__(type, value, traceback)


_default_streams: dict[tuple[int, int], Stream] = {}


def _default_stream() -> Stream:
    """The device's stream for captures, which the default stream cannot be."""
    device = _startup.runtime().current_device()
    key = (_startup.epoch, device)
    if key not in _default_streams:
        _default_streams[key] = Stream(device)
    return _default_streams[key]
