"""Streams, events and the blocks that switch the current stream."""

from __future__ import annotations

import ctypes
from typing import Any

from vibetensor.core.device import device as _device
from vibetensor.cuda import _startup
from vibetensor.cuda.devices import device_index


class Stream:
    """A queue of work on a device: in order by itself, and independent of other queues.

    Streams come from a pool of 32 for each priority.

    Parameters
    ----------
    device : vt.device or int, optional
        The current device by default.
    priority : int
        0, or negative for work that should go first.
    """

    def __new__(cls, device: Any = None, priority: int = 0, **kwargs: Any) -> Stream:
        self = super().__new__(cls)
        if kwargs:  # an existing stream by its number, as pickling and PyTorch's own code give it
            index = kwargs.get("device_index", 0)
            handle = kwargs.get("stream_ptr", kwargs.get("stream_id", 0))
        else:
            runtime = _startup.runtime()
            index = device_index(device, optional=True)
            handle = runtime.pool_stream(index, int(priority))
        self._index = index
        self._handle = handle
        return self

    @property
    def device(self) -> _device:
        """The stream's device."""
        return _device("cuda", self._index)

    @property
    def device_index(self) -> int:
        """The number of the stream's device."""
        return self._index

    @property
    def device_type(self) -> int:
        """1, PyTorch's number for CUDA."""
        return 1

    @property
    def cuda_stream(self) -> int:
        """The driver's handle, 0 for the default stream."""
        return self._handle

    @property
    def stream_id(self) -> int:
        """A number that is unique on the device: the handle."""
        return self._handle

    @property
    def priority(self) -> int:
        """0, or negative for work that goes first."""
        return _startup.runtime().stream_priority(self._index, self._handle)

    @staticmethod
    def priority_range() -> tuple[int, int]:
        """The least and the most urgent priority of the current device."""
        runtime = _startup.runtime()
        return 0, runtime.greatest_priority(runtime.current_device())

    def query(self) -> bool:
        """Whether all work so far is done."""
        return _startup.runtime().stream_done(self._index, self._handle)

    def synchronize(self) -> None:
        """Wait until all work so far is done."""
        _startup.runtime().stream_synchronize(self._index, self._handle)

    def wait_event(self, event: Event) -> None:
        """What is given to this stream from now on comes after the event."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """What is given to this stream from now on comes after what `stream` has been given."""
        _startup.runtime().order_streams(self._index, self._handle, stream._index, stream._handle)

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event, a new one by default, behind the work so far; returns it."""
        if event is None:
            event = Event()
        event.record(self)
        return event

    def is_capturing(self) -> bool:
        """Whether the stream is being captured into a graph."""
        return _startup.runtime().stream_capturing(self._index, self._handle)

    @property
    def _as_parameter_(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._handle)

    def __cuda_stream__(self) -> tuple[int, int]:
        """The protocol by which other libraries take a stream: version and handle."""
        return 0, self._handle

    def __enter__(self) -> Stream:
        self._block = StreamContext(self)
        self._block.__enter__()
        return self

    def __exit__(self, type: Any, value: Any, traceback: Any) -> None:
        self._block.__exit__(type, value, traceback)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        return self._handle == other._handle and self._index == other._index

    def __hash__(self) -> int:
        return hash((self._handle, self._index))

    def __repr__(self) -> str:
        return f"<vibetensor.cuda.Stream device={self.device} cuda_stream={self._handle:#x}>"


class ExternalStream(Stream):
    """A stream that another library made and will destroy.

    Parameters
    ----------
    stream_ptr : int
        The driver's handle.
    device : vt.device or int, optional
        The device it belongs to.
    """

    def __new__(cls, stream_ptr: int, device: Any = None, **kwargs: Any) -> ExternalStream:
        return super().__new__(
            cls, stream_ptr=stream_ptr, device_index=device_index(device, optional=True)
        )

    def __init__(self, stream_ptr: int, device: Any = None, **kwargs: Any) -> None:
        pass


def get_stream_from_external(data_ptr: int, device: Any = None) -> Stream:
    """A stream that another library made, by the driver's handle; see :class:`ExternalStream`."""
    return ExternalStream(data_ptr, device)


class Event:
    """A mark in the work of a stream, for others to wait for and to measure time with.

    The driver's event is made on the device of the stream that it is first recorded on.

    Parameters
    ----------
    enable_timing : bool
        Whether it can measure time.
    blocking : bool
        Whether :meth:`synchronize` sleeps rather than spins.
    interprocess : bool
        Whether another process can open it.
    external : bool
        Whether a graph that records or waits for it treats it as an event of the outside.
    """

    def __init__(
        self,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess: bool = False,
        external: bool = False,
    ) -> None:
        if interprocess and enable_timing:
            raise ValueError("an event that other processes can open cannot measure time")
        self._timing = bool(enable_timing)
        self._blocking = bool(blocking)
        self._interprocess = bool(interprocess)
        self._external = bool(external)
        self._handle = 0
        self._index = -1
        self._recorded = False
        self._epoch = -1

    @classmethod
    def from_ipc_handle(cls, device: Any, handle: bytes) -> Event:
        """Opens the event that another process gave as :meth:`ipc_handle`."""
        event = cls(interprocess=True)
        event._index = device_index(device)
        event._handle = _startup.runtime().event_open(event._index, handle)
        event._epoch = _startup.epoch
        event._recorded = True
        return event

    @property
    def device(self) -> _device | None:
        """The device it was first recorded on; None before that."""
        return None if self._index < 0 else _device("cuda", self._index)

    @property
    def cuda_event(self) -> int:
        """The driver's handle, 0 before the first recording."""
        return self._handle

    def _create(self, index: int) -> None:
        runtime = _startup.runtime()
        self._handle = runtime.event_create(index, self._timing, self._blocking, self._interprocess)
        self._index = index
        self._epoch = _startup.epoch

    def record(self, stream: Stream | None = None) -> None:
        """Mark the end of the work of a stream, the current one by default."""
        if stream is None:
            stream = current_stream()
        if not self._handle:
            self._create(stream._index)
        elif stream._index != self._index:
            raise RuntimeError(
                f"Event device cuda:{self._index} does not match recording stream's device "
                f"{stream.device}."
            )
        _startup.runtime().event_record(self._handle, stream._index, stream._handle, self._external)
        self._recorded = True

    def wait(self, stream: Stream | None = None) -> None:
        """What a stream, the current one by default, is given from now on comes after the event."""
        if stream is None:
            stream = current_stream()
        if self._handle:
            _startup.runtime().event_wait(
                self._handle, stream._index, stream._handle, self._external
            )

    def query(self) -> bool:
        """Whether the work before the event is done; True of an event never recorded."""
        return not self._handle or _startup.runtime().event_done(self._index, self._handle)

    def synchronize(self) -> None:
        """Wait until the work before the event is done."""
        if self._handle:
            _startup.runtime().event_synchronize(self._index, self._handle)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another; both have to be done."""
        if not (self._timing and end_event._timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if not (self._recorded and end_event._recorded):
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end_event.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return _startup.runtime().event_elapsed(self._index, self._handle, end_event._handle)

    def ipc_handle(self) -> bytes:
        """The bytes by which another process can open the event."""
        if not self._interprocess:
            raise RuntimeError("the event was not created with interprocess=True")
        if not self._handle:
            self._create(_startup.runtime().current_device())
        return _startup.runtime().event_ipc_handle(self._index, self._handle)

    @property
    def _as_parameter_(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._handle)

    def __repr__(self) -> str:
        if not self._handle:
            return "<vibetensor.cuda.Event uninitialized>"
        return f"<vibetensor.cuda.Event {self._handle:#x}>"

    def __del__(self) -> None:
        # Not an event of a driver that has been exchanged since: its numbers mean something else.
        if getattr(self, "_handle", 0) and _startup is not None and self._epoch == _startup.epoch:
            _startup.runtime().event_destroy(self._index, self._handle)


def current_stream(device: Any = None) -> Stream:
    """The stream that work for a device, the current one by default, goes to on this thread."""
    runtime = _startup.runtime()
    index = device_index(device, optional=True)
    return Stream(stream_ptr=runtime.current_stream(index), device_index=index)


def default_stream(device: Any = None) -> Stream:
    """The stream that a device's work goes to where nothing else was said."""
    _startup.runtime()
    return Stream(stream_ptr=0, device_index=device_index(device, optional=True))


def set_stream(stream: Stream | None) -> None:
    """Make a stream the current one of its device, and its device the current one."""
    if stream is None:
        return
    runtime = _startup.runtime()
    if runtime.current_device() != stream._index:
        runtime.set_device(stream._index)
    runtime.exchange_stream(stream._index, stream._handle)


class StreamContext:
    """The current stream inside a ``with`` block; see :func:`stream`."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._before: list[tuple[int, int]] = []

    def __enter__(self) -> None:
        if self.stream is None:
            return
        runtime = _startup.runtime()
        device = runtime.exchange_device(self.stream._index)
        handle = runtime.exchange_stream(self.stream._index, self.stream._handle)
        self._before.append((device, handle))

    def __exit__(self, type: Any, value: Any, traceback: Any) -> None:
        if self.stream is None:
            return
        runtime = _startup.runtime()
        device, handle = self._before.pop()
        runtime.exchange_stream(self.stream._index, handle)
        runtime.exchange_device(device)


def stream(stream: Stream | None) -> StreamContext:
    """A block inside which a stream is the current one; None changes nothing.

    >>> with vt.cuda.stream(vt.cuda.Stream()):  # doctest: +SKIP
    ...     y = x @ x
    """
    return StreamContext(stream)
