"""Host cost of calls on CUDA tensors: wall time of the call alone, which returns before the GPU runs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from .measure import Case, Row, interleave, pin, show, write
from .overhead import CHAIN

# Calls of one sample: fewer than the launches that a stream takes before the host has to wait.
CALLS = 300
# What `add` may cost beyond a launch by the driver alone, in seconds.
ALLOWED = 0.5e-6


def names(lib: Any) -> dict[str, Any]:
    """What the statements below refer to, made with one library."""

    def rand(*size: int) -> Any:
        return lib.rand(*size, device="cuda")

    made: dict[str, Any] = {"add": lib.add, "mul": lib.mul, "relu": lib.relu, "empty": lib.empty}
    made["a"], made["b"], made["m"] = rand(64), rand(64), rand(8, 8)
    made["ga"], made["gb"] = rand(64).requires_grad_(), rand(64).requires_grad_()
    made["uint8"] = lib.uint8
    return made


STATEMENTS = [
    ("add(a, b)", 0.50, "add(a, b)"),
    ("mul(a, b)", 0.50, "mul(a, b)"),
    ("relu(a)", 0.50, "relu(a)"),
    ("a.sum()", 0.50, "a.sum()"),
    ("a.add_(b)", 0.50, "a.add_(b)"),
    ("8x8 matmul", 0.50, "m @ m"),
    ("add(a, b), requires_grad", 0.50, "add(ga, gb)"),
    ("mul(a, b), requires_grad", 0.50, "mul(ga, gb)"),
    ("m.transpose(0, 1)", 0.06, "m.transpose(0, 1)"),
    ("m[1:3]", 0.06, "m[1:3]"),
    ("m.view(4, 16)", 0.06, "m.view(4, 16)"),
    *(
        (f"empty + free, {size} bytes", 0.06, f"empty({size}, dtype=uint8, device='cuda')")
        for size in (512, 1 << 20, 64 << 20)
    ),
]


def host_cost(lib: Any, source: str) -> Callable[[], float]:
    """A sampler of the host seconds of one call."""
    scope: dict[str, Any] = {}
    body = f"def loop(n):\n    for _ in range(n):\n        {source}\n"
    exec(compile(body, "<bench>", "exec"), names(lib), scope)
    loop = scope["loop"]

    def sample() -> float:
        return timed(lib, lambda: loop(CALLS))

    sample()
    return sample


def timed(lib: Any, calls: Callable[[], None]) -> float:
    """The host seconds of one of CALLS calls, which find an empty queue."""
    lib.cuda.synchronize()
    begin = time.perf_counter()
    calls()
    taken = time.perf_counter() - begin
    lib.cuda.synchronize()
    return taken / CALLS


def bare_launch() -> float:
    """The host seconds of a launch through the table of driver calls, from a loop in C."""
    import vibetensor as vt
    from vibetensor.cuda import _runtime

    return timed(vt, lambda: _runtime.bare_launches(CALLS))


def backward_chain(lib: Any) -> Callable[[], float]:
    """A sampler of the backward of a chain of multiplications, per node."""
    x = lib.rand(1, device="cuda").requires_grad_()
    factor = lib.ones(1, device="cuda")

    def sample() -> float:
        x.grad = None
        y = x
        for _ in range(CHAIN):
            y = y * factor
        lib.cuda.synchronize()
        begin = time.perf_counter()
        y.backward()
        taken = time.perf_counter() - begin
        lib.cuda.synchronize()
        return taken / CHAIN

    sample()
    return sample


def measure(rounds: int) -> list[Row]:
    """All figures of this subject."""
    import torch

    import vibetensor as vt

    cases = [
        Case(name, bound, host_cost(vt, source), host_cost(torch, source))
        for name, bound, source in STATEMENTS
    ]
    chain = f"backward per node, chain of {CHAIN} mul"
    cases.append(Case(chain, 0.25, backward_chain(vt), backward_chain(torch)))
    beyond = f"add(a, b), against a bare launch + {ALLOWED * 1e9:.0f} ns"
    add = host_cost(vt, "add(a, b)")
    cases.append(Case(beyond, 1.0, add, lambda: bare_launch() + ALLOWED))
    return interleave(cases, rounds)


def main(arguments: list[str]) -> None:
    """``python -m bench gpu_overhead``."""
    parser = argparse.ArgumentParser(prog="python -m bench gpu_overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args(arguments)
    pin(2)
    rows = measure(options.rounds)
    show(rows)
    if options.json:
        write(options.json, "gpu_overhead", rows, rounds=options.rounds)
