"""Devices: how many, which is current, what they can do."""

from __future__ import annotations

from typing import Any, ClassVar

from vibetensor.core.device import device as _device
from vibetensor.cuda import _startup


def device_index(device: Any, optional: bool = False, allow_cpu: bool = False) -> int:
    """The number of a device given as int, "cuda:1", ``vt.device`` or (if `optional`) None.

    -1 stands for the CPU where `allow_cpu` is set.
    """
    if isinstance(device, int) and not isinstance(device, bool):
        return device
    if isinstance(device, str):
        device = _device(device)
    if isinstance(device, _device):
        if device.type == "cpu" and allow_cpu:
            return -1
        if device.type != "cuda":
            raise ValueError(f"Expected a cuda device, but got: {device}")
        if device.index is not None:
            return device.index
        if optional:
            return current_device()
    elif device is None and optional:
        return current_device()
    raise ValueError(
        f"Expected a vibetensor.device with a specified index or an integer, but got: {device}"
    )


def is_available() -> bool:
    """Whether there is a CUDA device to use; never raises."""
    return _startup.why_unavailable() is None


def device_count() -> int:
    """The number of CUDA devices, 0 where there is no driver."""
    return 0 if _startup.why_unavailable() else _startup.runtime().device_count()


def current_device() -> int:
    """The number of this thread's current device."""
    return _startup.runtime().current_device()


def set_device(device: Any) -> None:
    """Make a device this thread's current one; a negative number changes nothing."""
    index = device_index(device)
    if index >= 0:
        _startup.runtime().set_device(index)


def synchronize(device: Any = None) -> None:
    """Wait until a device has done everything, and raise what its kernels found wrong."""
    runtime = _startup.runtime()
    runtime.synchronize(device_index(device, optional=True))


class device:
    """The current device inside a ``with`` block.

    Parameters
    ----------
    device : vt.device or int
        A negative number changes nothing.
    """

    def __init__(self, device: Any) -> None:
        self.idx = device_index(device, optional=True)
        self.prev_idx = -1

    def __enter__(self) -> None:
        self.prev_idx = _startup.runtime().exchange_device(self.idx)

    def __exit__(self, type: Any, value: Any, traceback: Any) -> bool:
        self.idx = _startup.runtime().exchange_device(self.prev_idx)
        return False


class device_of(device):
    """The device of a tensor as the current one; a tensor elsewhere changes nothing."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else -1)


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Whether kernels on a device can use the memory of another."""
    runtime = _startup.runtime()
    first = device_index(device, optional=True)
    second = device_index(peer_device)
    for index in (first, second):
        if not 0 <= index < runtime.device_count():
            raise AssertionError(
                "Invalid device id" if index == first else "Invalid peer device id"
            )
    return runtime.can_access_peer(first, second)


class _CudaDeviceProperties:
    """What a device is and has."""

    _names: ClassVar = {
        "major": "major",
        "minor": "minor",
        "total_memory": "total_memory",
        "multi_processor_count": "sm_count",
        "max_threads_per_multi_processor": "max_threads_per_sm",
        "max_threads_per_block": "max_threads_per_block",
        "regs_per_multiprocessor": "regs_per_sm",
        "warp_size": "warp_size",
        "shared_memory_per_block": "max_shared_per_block",
        "shared_memory_per_block_optin": "max_shared_per_block_optin",
        "shared_memory_per_multiprocessor": "max_shared_per_sm",
        "L2_cache_size": "l2_bytes",
        "clock_rate": "clock_khz",
        "memory_clock_rate": "memory_clock_khz",
        "memory_bus_width": "memory_bus_bits",
        "is_integrated": "integrated",
        "is_multi_gpu_board": "multi_gpu_board",
        "pci_bus_id": "pci_bus",
        "pci_device_id": "pci_device",
        "pci_domain_id": "pci_domain",
    }

    def __init__(self, index: int) -> None:
        runtime = _startup.runtime()
        self.name = runtime.device_name(index)
        self.uuid = runtime.device_uuid(index).hex()
        for name, field in self._names.items():
            setattr(self, name, runtime.property_of(index, field))

    def __repr__(self) -> str:
        return (
            f"_CudaDeviceProperties(name='{self.name}', major={self.major}, minor={self.minor}, "
            f"total_memory={self.total_memory >> 20}MB, "
            f"multi_processor_count={self.multi_processor_count}, uuid={self.uuid}, "
            f"L2_cache_size={self.L2_cache_size >> 20}MB)"
        )


def get_device_properties(device: Any = None) -> _CudaDeviceProperties:
    """Name, memory, multiprocessors and limits of a device."""
    index = device_index(device, optional=True)
    if not 0 <= index < _startup.runtime().device_count():
        raise AssertionError("Invalid device id")
    return _CudaDeviceProperties(index)


def get_device_name(device: Any = None) -> str:
    """The name that the driver gives a device."""
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a device, (9, 0) for an H100."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current device computes in bfloat16."""
    return is_available() and (including_emulation or get_device_capability()[0] >= 8)


def is_tf32_supported() -> bool:
    """Whether products on the current device can use TF32."""
    return is_available() and get_device_capability()[0] >= 8


def ipc_collect() -> None:
    """Does nothing: memory is not shared between processes."""
