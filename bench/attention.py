"""Attention on the GPU against cuDNN through PyTorch: sustained medians, in TFLOP/s.

The speed of a kernel of this size depends on what the card did just before, so each is timed alone:
it runs for a while to settle the clock, then the median of several batches is taken, ours and the peer
in turns. Operations are 4 B H T T D, half of it where causal; a backward counts 2.5 times that.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .measure import Row, progress, show, write

TOKENS = 16384
SETTLE_MS, TIMED_MS, BATCH_MS = 75.0, 150.0, 6.0


@dataclass(frozen=True)
class Shape:
    """One row: head dim, heads of queries and of keys, length, mask, dtype."""

    dim: int
    heads: int
    kv_heads: int
    length: int
    causal: bool
    dtype: str = "bfloat16"

    @property
    def batch(self) -> int:
        """As many sequences as make about TOKENS tokens."""
        return max(1, TOKENS // self.length)

    @property
    def flops(self) -> float:
        """Of a forward."""
        return 4.0 * self.batch * self.heads * self.length**2 * self.dim / (2 if self.causal else 1)

    def __str__(self) -> str:
        groups = f" kv{self.kv_heads}" if self.kv_heads != self.heads else ""
        kind = "causal" if self.causal else "full"
        return f"d{self.dim} h{self.heads}{groups} T{self.length} {kind} {self.dtype}"


def bound(shape: Shape, backward: bool) -> float | None:
    """The least speed, as a multiple of cuDNN's."""
    if shape.length == 512:
        if backward:
            return 1.05
        if not shape.causal:
            return 1.0
        return 0.90 if shape.dim == 128 else 0.85
    if backward:
        exceptions = {(64, 16384, True): 0.95, (64, 8192, False): 0.90, (64, 16384, False): 0.90}
        return exceptions.get((shape.dim, shape.length, shape.causal), 1.0)
    return 0.95 if (shape.dim, shape.length) == (64, 2048) else 1.0


def shapes(family: str) -> Iterator[Shape]:
    """The shapes of a family: plain, float16, gqa (four heads share keys) or ragged."""
    for dim, heads in ((128, 16), (64, 32)):
        for causal in (True, False):
            for length in (512, 2048, 8192, 16384):
                if family == "plain":
                    yield Shape(dim, heads, heads, length, causal)
                elif family == "float16":
                    yield Shape(dim, heads, heads, length, causal, "float16")
                elif family == "gqa":
                    yield Shape(dim, heads, heads // 4, length, causal)
                else:
                    yield Shape(dim, heads, heads, length - 24, causal)


def cudnn(lib: Any) -> Any:
    """PyTorch's choice of backend; nothing for ours."""
    if lib.__name__ == "vibetensor":
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.CUDNN_ATTENTION)


def calls(lib: Any, shape: Shape) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The forward and the backward."""
    kind = getattr(lib, shape.dtype)

    def heads(number: int) -> Any:
        size = (shape.batch, number, shape.length, shape.dim)
        return lib.randn(*size, device="cuda").to(kind).requires_grad_()

    q, k, v = heads(shape.heads), heads(shape.kv_heads), heads(shape.kv_heads)
    grad = lib.randn(*q.shape, device="cuda").to(kind)
    options = {"is_causal": shape.causal, "enable_gqa": shape.kv_heads != shape.heads}
    attention = lib.nn.functional.scaled_dot_product_attention

    def forward() -> Any:
        with lib.no_grad(), cudnn(lib):
            return attention(q, k, v, **options)

    with cudnn(lib):
        out = attention(q, k, v, **options)
    return forward, lambda: lib.autograd.grad(out, [q, k, v], grad, retain_graph=True)


class Sampler:
    """Times batches of one call by events."""

    def __init__(self, lib: Any, call: Callable[[], Any], graph: bool) -> None:
        self.lib = lib
        self.begin, self.end = (lib.cuda.Event(enable_timing=True) for _ in range(2))
        call()
        lib.cuda.synchronize()
        one = self._time(call, 3) / 3
        self.count = max(1, min(60, round(BATCH_MS / max(one, 0.02))))
        self.batch = self._repeated(call)
        if graph:
            captured = lib.cuda.CUDAGraph()
            with lib.cuda.graph(captured):
                self.batch()
            self.graph = captured
            self.batch = captured.replay
        self.batches = max(3, round(TIMED_MS / (one * self.count)))
        self.settle = max(1, round(SETTLE_MS / (one * self.count)))

    def _repeated(self, call: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(self.count):
                call()

        return run

    def _time(self, call: Callable[[], Any], times: int) -> float:
        self.begin.record()
        for _ in range(times):
            call()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end)

    def sample(self) -> list[float]:
        """Milliseconds of one call, after the clock has settled."""
        for _ in range(self.settle):
            self.batch()
        return [self._time(self.batch, 1) / self.count for _ in range(self.batches)]


def measure(shape: Shape, rounds: int, plain: dict[tuple[Any, ...], float]) -> list[Row]:
    """Forward and backward of a shape; ``plain`` holds our speeds of the plain shapes."""
    rows = []
    libraries = [importlib.import_module(name) for name in ("vibetensor", "torch")]
    for backward in (False, True):
        samplers = [Sampler(lib, calls(lib, shape)[backward], not backward) for lib in libraries]
        row = Row(f"{shape} {'backward' if backward else 'forward'}", None, "TF/s", speed=True)
        work = shape.flops * (2.5 if backward else 1) / 1e9
        for _ in range(rounds):
            for sampler, results in zip(samplers, (row.ours, row.peer), strict=True):
                results.append(work / statistics.median(sampler.sample()))
        row.bound = bound(shape, backward)
        key = (shape.dim, shape.causal, round(shape.length, -3), backward)
        if shape.dtype == "bfloat16" and shape.kv_heads == shape.heads and shape.length % 512 == 0:
            plain[key] = statistics.median(row.ours)
        elif key in plain:
            # These are held against our own plain case.
            row.peer, row.bound = [plain[key]], 0.90
        rows.append(row)
    for lib in libraries:
        lib.cuda.empty_cache()
    return rows


def main(arguments: list[str]) -> None:
    """``python -m bench attention``."""
    parser = argparse.ArgumentParser(prog="python -m bench attention", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--families", nargs="*", default=["plain", "float16", "gqa", "ragged"], help="of shapes"
    )
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    plain: dict[tuple[Any, ...], float] = {}
    every = [shape for family in options.families for shape in shapes(family)]
    for number in progress(len(every)):
        rows += measure(every[number], options.rounds, plain)
    show(rows)
    if options.json:
        write(options.json, "attention", rows, rounds=options.rounds)
