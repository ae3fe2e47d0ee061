"""Kernels on the GPU by device events: bandwidth against ``copy_``, and time against PyTorch."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from .measure import Case, Row, interleave, show, write

ROWS, COLUMNS = 16384, 4096
SAMPLE_SECONDS = 0.004


def timed(lib: Any, call: Callable[[], Any]) -> Callable[[], float]:
    """A sampler of the device seconds of one call, from a loop of several."""
    begin, end = (lib.cuda.Event(enable_timing=True) for _ in range(2))

    def loop(count: int) -> float:
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    for _ in range(3):
        loop(2)
    count = max(3, min(200, round(SAMPLE_SECONDS / max(loop(3) / 3, 1e-6))))
    return lambda: loop(count) / count


def streaming(lib: Any, dtype: str) -> dict[str, tuple[float, float, Callable[[], Any]]]:
    """The calls on a ROWS x COLUMNS tensor: passes over it, the bound per byte, the call."""
    F = lib.nn.functional
    kind = getattr(lib, dtype)
    x = lib.randn(ROWS, COLUMNS, device="cuda").to(kind)
    y = lib.randn(ROWS, COLUMNS, device="cuda").to(kind)
    out = lib.empty_like(x)
    weight = lib.ones(COLUMNS, device="cuda", dtype=kind)
    bias = lib.zeros(COLUMNS, device="cuda", dtype=kind)
    transposed = lib.empty(COLUMNS, ROWS, device="cuda", dtype=kind)
    return {
        "copy_": (2, 0, lambda: out.copy_(x)),
        "add": (3, 1 / 0.92, lambda: lib.add(x, y)),
        "gelu": (2, 1 / 0.92, lambda: F.gelu(x)),
        "softmax": (2, 1 / 0.85, lambda: lib.softmax(x, -1)),
        "layer_norm": (2, 1 / 0.85, lambda: F.layer_norm(x, (COLUMNS,), weight, bias)),
        "rms_norm": (2, 1 / 0.85, lambda: F.rms_norm(x, (COLUMNS,), weight)),
        "sum of rows": (1, 1 / 0.85, lambda: x.sum(-1)),
        "sum of columns": (1, 1 / 0.85, lambda: x.sum(0)),
        "sum of all": (1, 1 / 0.85, lambda: x.sum()),
        "transposing copy": (2, 1 / 0.80, lambda: transposed.copy_(x.t())),
    }


def backward_of(lib: Any, output: Any, inputs: list[Any]) -> Callable[[], Any]:
    """The gradients of ``output`` with respect to ``inputs``, without the forward."""
    grad = lib.ones_like(output)
    return lambda: lib.autograd.grad(output, inputs, grad, retain_graph=True)


def norm_backward(lib: Any, name: str, dtype: str) -> Callable[[], Any]:
    """The backward of layer_norm or rms_norm over ROWS x COLUMNS."""
    kind = getattr(lib, dtype)
    F = lib.nn.functional
    x = lib.randn(ROWS, COLUMNS, device="cuda").to(kind).requires_grad_()
    weight = lib.ones(COLUMNS, device="cuda", dtype=kind, requires_grad=True)
    if name == "rms_norm":
        return backward_of(lib, F.rms_norm(x, (COLUMNS,), weight), [x, weight])
    bias = lib.zeros(COLUMNS, device="cuda", dtype=kind, requires_grad=True)
    return backward_of(lib, F.layer_norm(x, (COLUMNS,), weight, bias), [x, weight, bias])


def cross_entropy(lib: Any, dtype: str) -> Callable[[], Any]:
    """Forward and backward over 8192 samples of 32768 classes."""
    x = lib.randn(8192, 32768, device="cuda").to(getattr(lib, dtype)).requires_grad_()
    target = lib.randint(0, 32768, (8192,), device="cuda")

    def call() -> None:
        x.grad = None
        lib.nn.functional.cross_entropy(x, target).backward()

    return call


def embedding_backward(lib: Any, dtype: str) -> Callable[[], Any]:
    """The backward of looking up 16384 tokens in 50304 rows of 768."""
    weight = lib.randn(50304, 768, device="cuda").to(getattr(lib, dtype)).requires_grad_()
    tokens = lib.randint(0, 50304, (16384,), device="cuda")
    return backward_of(lib, lib.nn.functional.embedding(tokens, weight), [weight])


def parameters_of_a_gpt(lib: Any) -> list[Any]:
    """113 million float32 parameters with gradients, in the shapes of a GPT."""
    block: list[tuple[int, ...]] = [(2304, 768), (768, 768), (3072, 768), (768, 3072)]
    shapes: list[tuple[int, ...]] = [(38400, 768), *(block * 12)]
    shapes += [(768,)] * 48
    made = [lib.randn(*s, device="cuda").requires_grad_() for s in shapes]
    for parameter in made:
        parameter.grad = lib.randn(*parameter.shape, device="cuda") * 1e-3
    return made


def adamw(lib: Any) -> Callable[[], Any]:
    """A step of AdamW."""
    options = {} if lib.__name__ == "vibetensor" else {"fused": True}
    optimizer = lib.optim.AdamW(parameters_of_a_gpt(lib), lr=1e-4, **options)
    return optimizer.step


def clip(lib: Any) -> Callable[[], Any]:
    """Clipping by the norm of all gradients."""
    made = parameters_of_a_gpt(lib)
    return lambda: lib.nn.utils.clip_grad_norm_(made, 1.0)


def product(lib: Any, dtype: str, n: int) -> Callable[[], Any]:
    """A square matrix product; tf32 is a way to multiply float32."""
    lib.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    kind = getattr(lib, "float32" if dtype == "tf32" else dtype)
    a, b = (lib.randn(n, n, device="cuda").to(kind) for _ in range(2))

    def call() -> None:
        lib.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        a @ b

    return call


def pairs(build: Callable[[Any], Callable[[], Any]]) -> tuple[Callable[[], float], ...]:
    """The samplers of both libraries."""
    return tuple(timed(lib, build(lib)) for lib in libraries())


def libraries() -> list[Any]:
    """Ours and the peer."""
    return [importlib.import_module(name) for name in ("vibetensor", "torch")]


def scaled(sampler: Callable[[], float], factor: float) -> float:
    """A sample times ``factor``."""
    return sampler() * factor


def bandwidth_rows(dtype: str, rounds: int) -> list[Row]:
    """Time per byte against ``copy_``, and time against PyTorch."""
    ours, peer = (streaming(lib, dtype) for lib in libraries())
    vt, torch = libraries()
    copy = timed(torch, peer["copy_"][2])
    cases = []
    for name, (passes, bound, call) in ours.items():
        sampler = timed(vt, call)
        cases.append(Case(f"{name} {dtype}", None, sampler, timed(torch, peer[name][2]), 1e6, "us"))
        scale = passes / 2
        label = f"{name} {dtype}, against copy_ of as many bytes"
        cases.append(Case(label, bound or None, sampler, partial(scaled, copy, scale), 1e6, "us"))
    return interleave(cases, rounds)


def special_rows(rounds: int) -> list[Row]:
    """Backward passes, losses, embeddings, optimizers, matrix products."""
    rows: list[Row] = []

    def add(name: str, bound: float, build: Callable[[Any], Callable[[], Any]]) -> None:
        ours, peer = pairs(build)
        rows.extend(interleave([Case(name, bound, ours, peer, 1e6, "us")], rounds))
        for lib in libraries():
            lib.cuda.empty_cache()

    for dtype in ("bfloat16", "float32"):
        for name in ("layer_norm", "rms_norm"):
            add(f"{name} backward {dtype}", 0.60, partial(norm_backward, name=name, dtype=dtype))
        add(f"cross entropy forward + backward {dtype}", 0.60, partial(cross_entropy, dtype=dtype))
        add(f"embedding backward {dtype}", 0.60, partial(embedding_backward, dtype=dtype))
    add("AdamW, 113M parameters", 1.0, adamw)
    add("clip_grad_norm_, 113M parameters", 1.0, clip)
    for dtype in ("bfloat16", "float16", "float32", "tf32"):
        for n in (1024, 4096, 8192):
            add(f"matmul {dtype} {n}", 1.05, partial(product, dtype=dtype, n=n))
    return rows


def main(arguments: list[str]) -> None:
    """``python -m bench kernels``."""
    parser = argparse.ArgumentParser(prog="python -m bench kernels", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["bandwidth", "special", "fused", "suite"])
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    if options.only in (None, "bandwidth"):
        for dtype in ("bfloat16", "float32"):
            rows += bandwidth_rows(dtype, options.rounds)
    if options.only in (None, "special"):
        rows += special_rows(options.rounds)
    if options.only in (None, "fused"):
        from .fused import fused_rows  # which takes its tools from here

        rows += fused_rows(options.rounds)
    if options.only in (None, "suite"):
        from .suite import suite_rows

        rows += suite_rows(options.rounds)
    show(rows)
    if options.json:
        write(options.json, "kernels", rows, rounds=options.rounds)
