"""The kernels of a language model on the GPU, each against PyTorch's best and against its ceiling.

The ceiling of a kernel that moves memory is the time that ``copy_`` takes for as many bytes. PyTorch's
best is its fused operator, or what ``torch.compile`` makes of the separate ones where it has none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from .kernels import timed
from .measure import Case, Row, interleave

ROWS, COLUMNS = 16384, 4096
TOKENS, VOCABULARY, WIDTH = 16384, 50304, 768


def activation(lib: Any, name: str, dtype: str) -> Callable[[], Any]:
    """An activation over ROWS x COLUMNS."""
    x = lib.randn(ROWS, COLUMNS, device="cuda").to(getattr(lib, dtype))
    function = getattr(lib.nn.functional, name)
    return lambda: function(x)


def embedding(lib: Any, dtype: str) -> Callable[[], Any]:
    """TOKENS rows out of VOCABULARY of WIDTH."""
    weight = lib.randn(VOCABULARY, WIDTH, device="cuda").to(getattr(lib, dtype))
    tokens = lib.randint(0, VOCABULARY, (TOKENS,), device="cuda")
    return lambda: lib.nn.functional.embedding(tokens, weight)


def gather(lib: Any, dtype: str) -> Callable[[], Any]:
    """As many elements as the source has, from random columns."""
    x = lib.randn(ROWS, COLUMNS, device="cuda").to(getattr(lib, dtype))
    index = lib.randint(0, COLUMNS, (ROWS, COLUMNS), device="cuda")
    return lambda: x.gather(1, index)


def scatter_add(lib: Any, dtype: str) -> Callable[[], Any]:
    """As many elements as the destination has, to random columns."""
    x = lib.zeros(ROWS, COLUMNS, device="cuda", dtype=getattr(lib, dtype))
    index = lib.randint(0, COLUMNS, (ROWS, COLUMNS), device="cuda")
    source = lib.randn(ROWS, COLUMNS, device="cuda").to(getattr(lib, dtype))
    return lambda: x.scatter_add_(1, index, source)


def top_k_sampling(lib: Any) -> Callable[[], Any]:
    """One of the 50 likeliest of VOCABULARY, for 256 sequences."""
    logits = lib.randn(256, VOCABULARY, device="cuda")

    def call() -> Any:
        values, indices = lib.topk(logits, 50)
        return indices.gather(1, lib.multinomial(lib.softmax(values, -1), 1))

    return call


def rope(lib: Any, dtype: str) -> Callable[[], Any]:
    """Query and key (4, 4096, 32, 128) turned by their positions."""
    kind = getattr(lib, dtype)
    x = lib.randn(4, 4096, 32, 128, device="cuda").to(kind)
    position = lib.arange(4096, device="cuda").float()
    rate = 10000.0 ** (-lib.arange(0, 64, device="cuda").float() / 64)
    angle = position.unsqueeze(1) * rate
    cos, sin = angle.cos().to(kind), angle.sin().to(kind)
    if lib.__name__ == "vibetensor":
        return lambda: lib.nn.functional.rotary_embedding(x, cos, sin)

    @lib.compile
    def turn(x: Any, cos: Any, sin: Any) -> Any:
        a, b = x.chunk(2, -1)
        cos, sin = cos[:, None], sin[:, None]
        return lib.cat([a * cos - b * sin, a * sin + b * cos], -1)

    return lambda: turn(x, cos, sin)


def copying(nbytes: float) -> Callable[[], float]:
    """A sampler of PyTorch's ``copy_`` that reads and writes ``nbytes`` in all."""
    torch = importlib.import_module("torch")
    x = torch.empty(int(nbytes // 4), dtype=torch.bfloat16, device="cuda")
    out = torch.empty_like(x)
    return timed(torch, lambda: out.copy_(x))


def suite_rows(rounds: int) -> list[Row]:
    """Each kernel against PyTorch; those that move memory also against ``copy_``."""
    libraries = [importlib.import_module(name) for name in ("vibetensor", "torch")]
    rows: list[Row] = []

    def add(name: str, build: Callable[[Any], Any], nbytes: float = 0, bound: Any = None) -> None:
        ours, peer = (timed(lib, build(lib)) for lib in libraries)
        cases = [Case(name, 1.0, ours, peer, 1e6, "us")]
        if nbytes:
            label = f"{name}, against copy_ of as many bytes"
            cases.append(Case(label, bound, ours, copying(nbytes), 1e6, "us"))
        rows.extend(interleave(cases, rounds))
        for lib in libraries:
            lib.cuda.empty_cache()

    for dtype, size in (("bfloat16", 2), ("float32", 4)):
        block = ROWS * COLUMNS * size
        for name in ("relu", "silu", "gelu"):
            add(f"{name} {dtype}", partial(activation, name=name, dtype=dtype), 2 * block, 1 / 0.92)
        moved = 2 * TOKENS * WIDTH * size
        add(f"embedding {dtype}", partial(embedding, dtype=dtype), moved)
        add(f"gather {dtype}", partial(gather, dtype=dtype), 2 * block + ROWS * COLUMNS * 8)
        add(f"scatter_add {dtype}", partial(scatter_add, dtype=dtype))
        moved = 2 * 4 * 4096 * 32 * 128 * size
        add(f"rope {dtype}", partial(rope, dtype=dtype), moved, 1 / 0.85)
    add("top-k sampling of 50 out of 50304", top_k_sampling)
    return rows
