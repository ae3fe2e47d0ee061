"""Host cost of launching a Triton kernel, against cuLaunchKernel with the same arguments."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from .measure import Case, Row, interleave, pin, show, write

# Calls of one sample: fewer than the launches that a stream takes before the host has to wait.
CALLS = 300
LAUNCHER, USER = 1.0e-6, 3.0e-6  # seconds that a launch may take beyond a bare one


def measure(rounds: int) -> list[Row]:
    """The launcher by itself, and users' ``kernel[grid](...)``."""
    import vibetensor as vt
    from vibetensor.cuda import _triton_call

    from .triton_kernels import add_kernel

    x, out = vt.rand(1000, device="cuda"), vt.empty(1000, device="cuda")

    def sampler(run: Callable[[], None]) -> Callable[[], float]:
        def sample() -> float:
            vt.cuda.synchronize()
            begin = time.perf_counter()
            run()
            taken = time.perf_counter() - begin
            vt.cuda.synchronize()
            return taken / CALLS

        sample()
        return sample

    def user() -> None:
        for _ in range(CALLS):
            add_kernel[(8,)](x, x, out, 1000, BLOCK=128)

    def user_with_a_callable_grid() -> None:
        for _ in range(CALLS):
            add_kernel[lambda meta: (1000 // meta["BLOCK"] + 1,)](x, x, out, 1000, BLOCK=128)

    calls = sampler(user), sampler(user_with_a_callable_grid)
    entry = _triton_call.entries_of(add_kernel)[0]
    bare = sampler(lambda: entry.repeat(8, (x, x, out, 1000, 128), CALLS, True))
    ours = sampler(lambda: entry.repeat(8, (x, x, out, 1000, 128), CALLS, False))
    return interleave(
        [
            Case("launcher, against bare + 1 us", 1.0, ours, lambda: bare() + LAUNCHER),
            Case("launcher, against bare", None, ours, bare),
            Case("kernel[grid], against bare + 3 us", 1.0, calls[0], lambda: bare() + USER),
            Case("kernel[grid], against bare", None, calls[0], bare),
            Case("kernel[callable], against bare + 3 us", 1.0, calls[1], lambda: bare() + USER),
        ],
        rounds,
    )


def main(arguments: list[str]) -> None:
    """``python -m bench triton_launch``."""
    parser = argparse.ArgumentParser(prog="python -m bench triton_launch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args(arguments)
    pin(2)
    rows = measure(options.rounds)
    show(rows)
    if options.json:
        write(options.json, "triton_launch", rows, rounds=options.rounds)
