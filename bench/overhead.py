"""The cost of one call: small operators, views, backward, modules. One pinned thread."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from .measure import Case, Row, interleave, pin, show, statement, write

CHAIN = 100


def names(lib: Any) -> dict[str, Any]:
    """What the statements below refer to, made with one library."""

    class Identity(lib.nn.Module):
        def forward(self, x: Any) -> Any:
            return x

    made: dict[str, Any] = {"add": lib.add, "mul": lib.mul, "relu": lib.relu}
    for size in (1, 64):
        made[f"a{size}"], made[f"b{size}"] = lib.rand(size), lib.rand(size)
        made[f"ga{size}"] = lib.rand(size).requires_grad_()
        made[f"gb{size}"] = lib.rand(size).requires_grad_()
    made["i64"] = lib.arange(64)
    made["column"], made["row"] = lib.rand(64, 1), lib.rand(1, 64)
    made["m"], made["n"] = lib.rand(8, 8), lib.rand(8, 8)
    made["g"] = lib.rand(8, 8).requires_grad_()
    made["linear"] = lib.nn.Linear(8, 8)
    made["identity"] = Identity()
    return made


def statements() -> list[tuple[str, float, str]]:
    """The (name, bound, source) of the figures that one statement makes."""
    listed = []
    for size in (1, 64):
        for source in ("add(a, b)", "mul(a, b)", "relu(a)", "a + b"):
            plain = source.replace("(a", f"(a{size}").replace(" b", f" b{size}")
            plain = plain.replace("a +", f"a{size} +")
            listed.append((f"{source}, {size} element(s)", 0.05, plain))
            recorded = plain.replace(f"a{size}", f"ga{size}").replace(f"b{size}", f"gb{size}")
            listed.append((f"{source}, {size} element(s), requires_grad", 0.06, recorded))
    views = ("g.transpose(0, 1)", "g.view(4, 16)", "g.unsqueeze(1)", "g[1:3]", "g[2]")
    listed += [(f"{source}, requires_grad", 0.10, source) for source in views]
    return [
        *listed,
        ("sum of 64", 0.15, "a64.sum()"),
        ("matmul 8x8", 0.35, "m @ n"),
        ("nn.Linear(8, 8) call", 0.25, "linear(m)"),
        ("Module call, identity forward", 0.20, "identity(m)"),
        ("float32 + int64, 64 elements", 0.10, "a64 + i64"),
        ("(64, 1) + (1, 64)", 0.50, "column + row"),
    ]


def backward_chain(lib: Any) -> Callable[[], float]:
    """A sampler of the backward of a chain of multiplications, per node."""
    x = lib.rand(1).requires_grad_()
    factor = lib.ones(1)

    def sample() -> float:
        taken = 0.0
        for _ in range(5):
            x.grad = None
            y = x
            for _ in range(CHAIN):
                y = y * factor
            begin = time.perf_counter()
            y.backward()
            taken += time.perf_counter() - begin
        return taken / 5 / CHAIN

    return sample


def measure(rounds: int) -> list[Row]:
    """All figures of this subject."""
    import torch

    import vibetensor as vt

    vt.set_num_threads(1)
    torch.set_num_threads(1)
    ours, peer = names(vt), names(torch)
    cases = [
        Case(name, bound, statement(source, ours), statement(source, peer))
        for name, bound, source in statements()
    ]
    cases.append(
        Case(
            f"backward per node, chain of {CHAIN} mul",
            0.03,
            backward_chain(vt),
            backward_chain(torch),
        )
    )
    return interleave(cases, rounds)


def main(arguments: list[str]) -> None:
    """``python -m bench overhead``."""
    parser = argparse.ArgumentParser(prog="python -m bench overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args(arguments)
    pin(1)
    rows = measure(options.rounds)
    show(rows)
    if options.json:
        write(options.json, "overhead", rows, rounds=options.rounds, threads=1)
