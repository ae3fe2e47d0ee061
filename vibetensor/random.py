"""Seeding, and the state of the random generators: ``vt.random``."""

from contextlib import contextmanager

from vibetensor.core.random import (
    default_generator,
    generator_of,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)

__all__ = [
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
]


@contextmanager
def fork_rng(devices=None, enabled=True, device_type="cuda"):
    """Runs a block after which the default generators are as they were before it.

    Parameters
    ----------
    devices : iterable of int or device, optional
        Devices of type `device_type` whose generators are restored beside the CPU's; none when not
        given.
    enabled : bool
        False makes this do nothing.

    Example
    -------
    >>> with vt.random.fork_rng():
    ...     generator = vt.manual_seed(0)
    """
    if not enabled:
        yield
        return
    generators = [default_generator]
    for d in devices or ():
        generators.append(generator_of(f"{device_type}:{d}" if isinstance(d, int) else d))
    states = [g.get_state() for g in generators]
    try:
        yield
    finally:
        for g, state in zip(generators, states, strict=True):
            g.set_state(state)
