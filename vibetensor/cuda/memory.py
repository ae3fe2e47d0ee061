"""Device memory: how much, where it went, and the settings of the caching allocator.

The names and formats are those of ``torch.cuda.memory``; snapshots open in PyTorch's visualiser.
The options of the allocator are read from ``VIBETENSOR_CUDA_ALLOC_CONF`` ("name:value,...", with
PyTorch's names), or set by :func:`set_allocator_settings`.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from vibetensor.core.errors import OutOfMemoryError
from vibetensor.cuda import _startup
from vibetensor.cuda._memory_report import memory_summary
from vibetensor.cuda.devices import device_index

__all__ = [
    "MemPool",
    "OutOfMemoryError",
    "caching_allocator_alloc",
    "caching_allocator_delete",
    "caching_allocator_disabled",
    "caching_allocator_enable",
    "empty_cache",
    "get_allocator_backend",
    "get_per_process_memory_fraction",
    "host_memory_stats",
    "host_memory_stats_as_nested_dict",
    "list_gpu_processes",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_snapshot",
    "memory_stats",
    "memory_stats_as_nested_dict",
    "memory_summary",
    "reset_accumulated_host_memory_stats",
    "reset_accumulated_memory_stats",
    "reset_max_memory_allocated",
    "reset_peak_host_memory_stats",
    "reset_peak_memory_stats",
    "set_allocator_settings",
    "set_per_process_memory_fraction",
    "use_mem_pool",
]


def _started() -> Any:
    """The module of the allocator, with the driver started."""
    _startup.runtime()
    from vibetensor.cuda import _memory

    return _memory


def _index(device: Any) -> int:
    return device_index(device, optional=True)


# --- settings -------------------------------------------------------------------------------------


def get_allocator_backend() -> str:
    """The kind of allocator: always "native", PyTorch's name for one that caches."""
    return "native"


def set_allocator_settings(settings: str) -> None:
    """Set the options of the allocator, as ``VIBETENSOR_CUDA_ALLOC_CONF`` does.

    Parameters
    ----------
    settings : str
        "name:value,...". Options that it does not name get their defaults. There are
        ``max_split_size_mb``, ``max_non_split_rounding_mb``, ``garbage_collection_threshold``,
        ``expandable_segments``, ``roundup_power2_divisions`` and ``per_process_memory_fraction``.
    """
    from vibetensor.cuda import _memory

    _memory.set_options(settings)


_set_allocator_settings = set_allocator_settings


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Limit the memory that this process may reserve.

    Parameters
    ----------
    fraction : float
        Of the device's memory, from 0 to 1. What would exceed it raises
        :class:`OutOfMemoryError`.
    device : vt.device or int, optional
        The current device by default.
    """
    if not isinstance(fraction, float):
        raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    _started().set_fraction(_index(device), fraction)


def get_per_process_memory_fraction(device: Any = None) -> float:
    """What :func:`set_per_process_memory_fraction` set, 1 by default."""
    return _started().fraction(_index(device))


def caching_allocator_enable(value: bool = True) -> None:
    """Turn the cache on or off; without it each block comes from the driver and goes back to it.

    For sanitizers, which then see the end of each block. ``VIBETENSOR_NO_CUDA_MEMORY_CACHING=1``
    does it from the start.
    """
    from vibetensor.cuda import _memory

    _memory.set_caching(bool(value))


@contextlib.contextmanager
def caching_allocator_disabled() -> Iterator[None]:
    """A ``with`` block whose allocations are not cached."""
    from vibetensor.cuda import _memory

    before = _memory.caching()
    _memory.set_caching(False)
    try:
        yield
    finally:
        _memory.set_caching(before)


# --- memory ---------------------------------------------------------------------------------------


def empty_cache() -> None:
    """Give cached memory that no block is in use of back to the driver."""
    if _startup.is_initialized():
        _started().empty_cache()


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Free and total bytes of a device, as its driver counts them."""
    return _startup.runtime().memory_info(_index(device))


def caching_allocator_alloc(size: int, device: Any = None, stream: Any = None) -> int:
    """Allocate memory for another library; gives its address.

    Parameters
    ----------
    size : int
        In bytes.
    device : vt.device or int, optional
        The current device by default.
    stream : Stream or int, optional
        That the memory is for; the device's current one by default.
    """
    index = _index(device)
    if stream is None:
        stream = _startup.runtime().current_stream(index)
    handle = getattr(stream, "cuda_stream", stream)
    if not isinstance(handle, int):
        raise TypeError(
            "Invalid type for stream argument, must be `vibetensor.cuda.Stream` or `int` "
            "representing a pointer to an existing stream"
        )
    return _started().alloc_raw(index, handle, size)


def caching_allocator_delete(mem_ptr: int) -> None:
    """Give back what :func:`caching_allocator_alloc` allocated."""
    _started().free_raw(mem_ptr)


class MemPool:
    """Memory of its own for a part of a program, see :func:`use_mem_pool`.

    Parameters
    ----------
    allocator : None
        PyTorch's pluggable allocators are not supported.
    use_on_oom : bool
        Lend the pool's free memory to everybody else when there is no other.
    no_split : bool
        Hand out segments whole.
    """

    def __init__(
        self, allocator: None = None, use_on_oom: bool = False, no_split: bool = False
    ) -> None:
        if allocator is not None:
            raise NotImplementedError("MemPool: pluggable allocators are not supported")
        memory = _started()
        self._device = _startup.runtime().current_device()
        self._id = memory.new_pool()
        self._epoch = _startup.epoch
        memory.retain_pool(self._device, self._id, use_on_oom, no_split)

    @property
    def id(self) -> tuple[int, int]:
        """The pool's handle, which graphs can share."""
        return self._id

    def use_count(self) -> int:
        """How many graphs, blocks of code and objects hold the pool."""
        return _started().pool_use_count(self._device, self._id)

    def snapshot(self, include_traces: bool = True) -> list[dict[str, Any]]:
        """The pool's part of :func:`memory_snapshot`."""
        return memory_snapshot(self._id, include_traces)

    def __del__(self) -> None:
        # Half made, of a driver that was exchanged, or at the end of the interpreter.
        with contextlib.suppress(AttributeError, ImportError, RuntimeError, TypeError):
            if self._epoch == _startup.epoch and _startup.is_initialized():
                _started().release_pool(self._device, self._id)


@contextlib.contextmanager
def use_mem_pool(pool: MemPool, device: Any = None) -> Iterator[None]:
    """A ``with`` block in which this thread allocates from `pool`.

    Parameters
    ----------
    pool : MemPool
        Where memory comes from.
    device : vt.device or int, optional
        Whose allocations; the current device by default.
    """
    memory, index = _started(), _index(device)
    memory.begin_thread_pool(index, pool.id)
    try:
        yield
    finally:
        memory.end_pool(index, pool.id)
        memory.release_pool(index, pool.id)


# --- figures --------------------------------------------------------------------------------------


def _nested(figures: dict[str, int]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in figures.items():
        *path, last = name.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def memory_stats(device: Any = None) -> dict[str, int]:
    """The allocator's figures: ``allocated_bytes.all.current`` and so on.

    Each of ``allocation``, ``segment``, ``active``, ``inactive_split``, ``allocated_bytes``,
    ``reserved_bytes``, ``active_bytes``, ``inactive_split_bytes`` and ``requested_bytes`` has
    ``small_pool``, ``large_pool`` and ``all``, each of these ``current``, ``peak``, ``allocated``
    and ``freed``. The rest are counters. Peaks of several streams together are exact for
    ``allocated_bytes``, ``reserved_bytes`` and ``segment``, and otherwise upper bounds.

    Parameters
    ----------
    device : vt.device or int, optional
        The current device by default.
    """
    if not _startup.is_initialized():
        return OrderedDict()
    return OrderedDict(sorted(_started().stats(_index(device)).items()))


def memory_stats_as_nested_dict(device: Any = None) -> dict[str, Any]:
    """:func:`memory_stats` as a dictionary of dictionaries."""
    return _nested(memory_stats(device))


def _use(device: Any, which: int) -> int:
    return _started().use(_index(device))[which] if _startup.is_initialized() else 0


def memory_allocated(device: Any = None) -> int:
    """Bytes of a device that tensors occupy."""
    return _use(device, 0)


def max_memory_allocated(device: Any = None) -> int:
    """The most that :func:`memory_allocated` was since the start or a reset."""
    return _use(device, 1)


def memory_reserved(device: Any = None) -> int:
    """Bytes of a device that the allocator has from the driver."""
    return _use(device, 2)


def max_memory_reserved(device: Any = None) -> int:
    """The most that :func:`memory_reserved` was since the start or a reset."""
    return _use(device, 3)


def reset_peak_memory_stats(device: Any = None) -> None:
    """Let all peaks start from the present figures."""
    _started().reset_peak(_index(device))


reset_max_memory_allocated = reset_peak_memory_stats


def reset_accumulated_memory_stats(device: Any = None) -> None:
    """Set what only grows to zero: "allocated", "freed" and the counters."""
    _started().reset_accumulated(_index(device))


def host_memory_stats() -> dict[str, int]:
    """Figures of page-locked host memory, as ``torch.cuda.host_memory_stats`` names them."""
    if not _startup.is_initialized():
        return OrderedDict()
    return OrderedDict(sorted(_started().host_stats().items()))


def host_memory_stats_as_nested_dict() -> dict[str, Any]:
    """:func:`host_memory_stats` as a dictionary of dictionaries."""
    return _nested(host_memory_stats())


def reset_peak_host_memory_stats() -> None:
    """Let the peaks of page-locked host memory start from the present figures."""
    _started().host_reset_peak()


def reset_accumulated_host_memory_stats() -> None:
    """Set what only grows of page-locked host memory to zero."""
    _started().host_reset_accumulated()


def list_gpu_processes(device: Any = None) -> str:
    """The processes that use a device and their memory, one a line (needs nvidia-ml-py)."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return "pynvml module not found, please install nvidia-ml-py"
    index = _index(device)
    try:
        pynvml.nvmlInit()
        uuid = _startup.runtime().device_uuid(index).hex()
        parts = uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]
        # By UUID, since CUDA_VISIBLE_DEVICES changes the numbers.
        handle = pynvml.nvmlDeviceGetHandleByUUID(("GPU-" + "-".join(parts)).encode())
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError as error:
        return f"the driver's management library cannot be used: {error}"
    lines = [f"GPU:{index}"]
    for process in processes:
        used = (process.usedGpuMemory or 0) / (1 << 20)
        lines.append(f"process {process.pid:>10d} uses {used:>12.3f} MB GPU memory")
    return "\n".join(lines if processes else [*lines, "no processes are running"])


# --- snapshot and history -------------------------------------------------------------------------

_STACKS = {None: 0, "state": 1, "alloc": 2, "all": 3}


def memory_snapshot(
    mempool_id: tuple[int, int] | None = None, include_traces: bool = True
) -> list[dict[str, Any]]:
    """All segments, with their blocks.

    Parameters
    ----------
    mempool_id : tuple, optional
        Only those of this pool.
    include_traces : bool
        Has no effect: traces are in :func:`_snapshot`.
    """
    if not _startup.is_initialized():
        return []
    return _started().segments(mempool_id)


def _record_memory_history(
    enabled: str | None = "all",
    context: str | None = "all",
    stacks: str = "all",
    max_entries: int = sys.maxsize,
    device: Any = None,
    clear_history: bool = False,
    compile_context: bool = False,
    global_record_annotations: bool = False,
    skip_actions: list[str] | None = None,
) -> None:
    """Record what the allocator does and where, for :func:`_snapshot`.

    Parameters
    ----------
    enabled : {None, "state", "all"}
        Nothing; where live blocks were allocated; a history as well.
    context : {None, "state", "alloc", "all"}
        Whose stacks: nobody's, live blocks', allocations', releases' too.
    stacks : {"python", "all"}
        Accepted as PyTorch does; frames of C++ are not recorded.
    max_entries : int
        Of the history; older ones are dropped.
    device : None
        Has no effect: all devices are recorded.
    clear_history : bool
        Drop what was recorded.
    compile_context, global_record_annotations : bool
        Have no effect.
    skip_actions : list of str, optional
        Kinds of entries not to record, for example "free_requested".
    """
    if isinstance(enabled, bool):
        enabled = "all" if enabled else None
    if enabled not in (None, "state", "all"):
        raise RuntimeError(f"Expected enabled to be one of [None, 'state', 'all'], got {enabled!r}")
    if context not in _STACKS:
        raise RuntimeError(
            f"Expected context to be one of [None, 'state', 'alloc', 'all'], got {context!r}"
        )
    if stacks not in ("python", "all"):
        raise RuntimeError(f"Expected stacks to be one of ['python', 'all'], got {stacks!r}")
    memory = _started()
    names = memory.action_names()
    skip = 0
    for action in skip_actions or ():
        if action not in names:
            raise RuntimeError(f"Expected skip_actions to be among {names}, got {action!r}")
        skip |= 1 << names.index(action)
    memory.record_history(
        enabled is not None, enabled == "all", _STACKS[context], max_entries, skip, clear_history
    )


def _snapshot(device: Any = None, augment_with_fx_traces: bool = False) -> dict[str, Any]:
    """All segments and the history, as PyTorch's visualiser reads them.

    Parameters
    ----------
    device : None
        Has no effect: all devices are part of it.
    augment_with_fx_traces : bool
        Has no effect.
    """
    memory = _started()
    devices = range(_startup.runtime().device_count())
    return {
        "segments": memory.segments(),
        "device_traces": [memory.trace(i) for i in devices],
        "allocator_settings": memory.options(),
        "external_annotations": [],
    }


def _dump_snapshot(
    filename: str = "dump_snapshot.pickle", augment_with_fx_traces: bool = False
) -> None:
    """Write :func:`_snapshot` to a file for https://pytorch.org/memory_viz."""
    with open(filename, "wb") as file:
        pickle.dump(_snapshot(), file)


def _allocation_traceback(data_ptr: int) -> list[dict[str, Any]] | None:
    """The frames where the live block at this address was allocated, if that was recorded."""
    return _started().allocation_frames(data_ptr)
