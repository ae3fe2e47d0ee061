"""CUDA devices, streams, events, graphs and memory, under ``torch.cuda``'s names.

Importing it starts nothing: the driver is loaded at the first use of a device, and where there is
none :func:`is_available` is False and a request for a device says why.
"""

from typing import Any

from vibetensor.core.errors import OutOfMemoryError
from vibetensor.cuda import _startup, nvtx
from vibetensor.cuda.devices import (
    can_device_access_peer,
    current_device,
    device,
    device_count,
    device_of,
    get_device_capability,
    get_device_name,
    get_device_properties,
    ipc_collect,
    is_available,
    is_bf16_supported,
    is_tf32_supported,
    set_device,
    synchronize,
)
from vibetensor.cuda.random import (
    get_rng_state,
    get_rng_state_all,
    initial_seed,
    manual_seed,
    manual_seed_all,
    seed,
    seed_all,
    set_rng_state,
    set_rng_state_all,
)
from vibetensor.cuda.streams import (
    Event,
    ExternalStream,
    Stream,
    StreamContext,
    current_stream,
    default_stream,
    get_stream_from_external,
    set_stream,
    stream,
)

__all__ = [
    "CUDAGraph",
    "Event",
    "ExternalStream",
    "OutOfMemoryError",
    "Stream",
    "StreamContext",
    "can_device_access_peer",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "device_of",
    "get_arch_list",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "get_rng_state_all",
    "get_stream_from_external",
    "graph",
    "graph_pool_handle",
    "graphed",
    "init",
    "initial_seed",
    "ipc_collect",
    "is_available",
    "is_bf16_supported",
    "is_built",
    "is_current_stream_capturing",
    "is_initialized",
    "is_tf32_supported",
    "make_graphed_callables",
    "manual_seed",
    "manual_seed_all",
    "mem_get_info",
    "nvtx",
    "seed",
    "seed_all",
    "set_device",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
    "stream",
    "synchronize",
]

is_initialized = _startup.is_initialized

# Where the names come from that are needed seldom: the modules are imported at the first use.
_LAZY_MODULES = ("graphs", "graphed_step", "graphed_callables", "memory")


def init() -> None:
    """Start the driver, which otherwise happens at the first use.

    Raises
    ------
    RuntimeError
        If there is no device; the message says why.
    """
    _startup.runtime()
    reason = _startup.why_unavailable()
    if reason is not None:
        raise RuntimeError(f"CUDA is not available: {reason}")


_lazy_init = init


def is_built() -> bool:
    """Whether this build of the library has CUDA, whatever the machine has."""
    from importlib.util import find_spec

    return find_spec("vibetensor.cuda._runtime") is not None


def get_arch_list() -> list[str]:
    """The architectures that the kernels were compiled for; empty in a build without CUDA."""
    from os.path import exists, join

    path = join(_startup.fatbin_folder(), "architectures.txt")
    if not exists(path):
        return []
    with open(path, encoding="ascii") as file:
        return file.read().split()


def _sleep(cycles: int) -> None:
    """Keeps the current stream busy for about that many clock cycles; for tests of order."""
    _startup.runtime().sleep(int(cycles))


def __getattr__(name: str) -> Any:
    if not name.startswith("__"):
        from importlib import import_module

        if name in _LAZY_MODULES:
            return import_module(f"{__name__}.{name}")
        if name == "default_generators":  # not kept: the driver may be exchanged
            from vibetensor.cuda.random import default_generator

            return tuple(default_generator(i) for i in range(device_count()))
        for module in _LAZY_MODULES:
            try:
                found = getattr(import_module(f"{__name__}.{module}"), name, None)
            except ModuleNotFoundError as error:
                if error.name != f"{__name__}.{module}":
                    raise
                continue
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
