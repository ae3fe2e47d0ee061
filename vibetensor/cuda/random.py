"""Random number generators of the CUDA devices; the names are PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vibetensor.core.random import Generator, generator_of
from vibetensor.core.tensor import Tensor
from vibetensor.cuda.devices import current_device, device_count, device_index, is_available


def default_generator(device: Any = "cuda") -> Generator:
    """The generator that the operators of a device use by default."""
    return generator_of(f"cuda:{device_index(device, optional=True)}")


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of a device's generator, a uint8 tensor on the CPU."""
    return default_generator(device).get_state()


def get_rng_state_all() -> list[Tensor]:
    """The states of all devices' generators."""
    return [get_rng_state(i) for i in range(device_count())]


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Restore a state that :func:`get_rng_state` returned."""
    default_generator(device).set_state(new_state)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """Restore what :func:`get_rng_state_all` returned."""
    for i, state in enumerate(new_states):
        set_rng_state(state, i)


def manual_seed(seed: int) -> None:
    """Seed the generator of the current device; nothing happens where there is no device."""
    if is_available():
        default_generator(current_device()).manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all devices."""
    for i in range(device_count()):
        default_generator(i).manual_seed(int(seed))


def seed() -> None:
    """Seed the generator of the current device from the operating system."""
    if is_available():
        default_generator(current_device()).seed()


def seed_all() -> None:
    """Seed the generators of all devices alike, from the operating system."""
    if is_available():
        manual_seed_all(default_generator(current_device()).seed())


def initial_seed() -> int:
    """The seed of the current device's generator."""
    return default_generator(current_device()).initial_seed()
