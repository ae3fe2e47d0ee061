"""Fused operators on the GPU, against PyTorch's separate ones: time, bandwidth of ``copy_``, peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .kernels import COLUMNS, ROWS, libraries, pairs, scaled, timed
from .measure import Case, Row, interleave

OURS = "vibetensor"
TOKENS, WIDTH, VOCABULARY = 8192, 4096, 131072


def tensor(lib: Any, dtype: str, *shape: int, scale: float = 1.0, grad: bool = True) -> Any:
    """Normal numbers on the device."""
    x = (lib.randn(*shape, device="cuda") * scale).to(getattr(lib, dtype))
    return x.requires_grad_() if grad else x


def add_norm(lib: Any, kind: str, x: Any, r: Any, w: Any, b: Any) -> tuple[Any, Any]:
    """The norm of ``x + r``, and that sum."""
    F, shape = lib.nn.functional, (COLUMNS,)
    if lib.__name__ == OURS:
        if kind == "layer_norm":
            return F.add_layer_norm(x, r, shape, w, b)
        return F.add_rms_norm(x, r, shape, w)
    total = x + r
    return (
        F.layer_norm(total, shape, w, b) if kind == "layer_norm" else F.rms_norm(total, shape, w)
    ), total


def add_dropped(lib: Any, x: Any, r: Any) -> Any:
    """``r + dropout(x)``."""
    F = lib.nn.functional
    return F.dropout_add(x, r, 0.1) if lib.__name__ == OURS else r + F.dropout(x, 0.1)


def gated(lib: Any, x: Any, up: Any = None) -> Any:
    """``silu(x) * up``, or that of the two halves of ``x``."""
    F = lib.nn.functional
    if lib.__name__ == OURS:
        return F.swiglu(x, up)
    gate, up = x.chunk(2, -1) if up is None else (x, up)
    return F.silu(gate) * up


def biased(lib: Any, x: Any, b: Any) -> Any:
    """``gelu(x + b)``."""
    F = lib.nn.functional
    if lib.__name__ == OURS:
        return F.bias_gelu(x, b, approximate="tanh")
    return F.gelu(x + b, approximate="tanh")


def streams(lib: Any, dtype: str) -> Iterator[tuple[str, float, Any, list[Any], float]]:
    """Name, passes of the forward over a ROWS x COLUMNS tensor, the call, its inputs, passes of the
    backward. Every distinct input counts once and every output once."""
    x, r = (tensor(lib, dtype, ROWS, COLUMNS) for _ in range(2))
    w, b = tensor(lib, dtype, COLUMNS), tensor(lib, dtype, COLUMNS)
    wide = tensor(lib, dtype, ROWS, 2 * COLUMNS)
    for kind in ("layer_norm", "rms_norm"):
        inputs = [x, r, w, b] if kind == "layer_norm" else [x, r, w]
        yield f"add + {kind}", 4, partial(add_norm, lib, kind, x, r, w, b), inputs, 4
    yield "dropout + add", 3, partial(add_dropped, lib, x, r), [x], 2
    yield "swiglu", 3, partial(gated, lib, x, r), [x, r], 5
    yield "packed swiglu", 3, partial(gated, lib, wide), [wide], 5
    yield "bias + gelu", 2, partial(biased, lib, x, b), [x], 3


def backward_of(lib: Any, call: Callable[[], Any], inputs: list[Any]) -> Callable[[], Any]:
    """The gradients of all results, without the forward."""
    out = call()
    outs = list(out) if isinstance(out, tuple) else [out]
    seeds = [lib.randn(*o.shape, device="cuda").to(o.dtype) for o in outs]
    return lambda: lib.autograd.grad(outs, inputs, seeds, retain_graph=True)


def without_grad(lib: Any, call: Callable[[], Any]) -> Callable[[], Any]:
    """The forward alone."""

    def run() -> None:
        with lib.no_grad():
            call()

    return run


def stream_rows(dtype: str, rounds: int) -> list[Row]:
    """Time against PyTorch, and against ``copy_`` of as many bytes."""
    vt, torch = libraries()
    source = tensor(torch, dtype, ROWS, COLUMNS, grad=False)
    copy = timed(torch, partial(torch.empty_like(source).copy_, source))
    rows: list[Row] = []
    for ours, peer in zip(streams(vt, dtype), streams(torch, dtype), strict=True):
        name, passes, call, inputs, back = ours
        for label, count, builds in (
            (name, passes, [without_grad(vt, call), without_grad(torch, peer[2])]),
            (
                f"{name} backward",
                back,
                [backward_of(vt, call, inputs), backward_of(torch, *peer[2:4])],
            ),
        ):
            mine, other = timed(vt, builds[0]), timed(torch, builds[1])
            rows += interleave(
                [
                    Case(f"{label} {dtype}", None, mine, other, 1e6, "us"),
                    Case(
                        f"{label} {dtype}, against copy_ of as many bytes",
                        1 / 0.85,
                        mine,
                        partial(scaled, copy, count / 2),
                        1e6,
                        "us",
                    ),
                ],
                rounds,
            )
    return rows


def loss_step(lib: Any) -> tuple[Callable[[], Any], list[Any]]:
    """Loss and gradients of TOKENS rows of width WIDTH over VOCABULARY classes; the inputs."""
    x = tensor(lib, "bfloat16", TOKENS, WIDTH)
    w = tensor(lib, "bfloat16", VOCABULARY, WIDTH, scale=WIDTH**-0.5)
    target = lib.randint(0, VOCABULARY, (TOKENS,), device="cuda")
    F = lib.nn.functional

    def step() -> None:
        x.grad = w.grad = None
        if lib.__name__ == OURS:
            F.linear_cross_entropy(x, w, target).backward()
        else:
            F.cross_entropy(F.linear(x, w), target).backward()

    return step, [x, w]


def peak(lib: Any) -> float:
    """Bytes at the peak of a loss step, above the inputs and the returned gradients."""
    step, inputs = loss_step(lib)
    step()
    for t in inputs:
        t.grad = None
    lib.cuda.synchronize()
    lib.cuda.reset_peak_memory_stats()
    before = lib.cuda.memory_allocated()
    step()
    lib.cuda.synchronize()
    return lib.cuda.max_memory_allocated() - before - sum(t.numel() * 2 for t in inputs)


def loss_rows(rounds: int) -> list[Row]:
    """Linear layer and cross entropy."""
    ours, peer = pairs(lambda lib: loss_step(lib)[0])
    case = Case("linear + cross entropy, forward + backward", 1.0, ours, peer, 1e3, "ms")
    rows = interleave([case], rounds)
    memory = Row("linear + cross entropy, peak memory", 0.25, "MiB")
    for lib, samples in zip(libraries(), (memory.ours, memory.peer), strict=True):
        samples.append(peak(lib) / (1 << 20))
        lib.cuda.empty_cache()
    return [*rows, memory]


def mlp(lib: Any) -> Callable[[], Any]:
    """Forward and backward of a transformer's MLP over 16384 tokens of width 768."""
    F = lib.nn.functional
    x = tensor(lib, "bfloat16", 16384, 768)
    w1, b1 = tensor(lib, "bfloat16", 3072, 768, scale=0.02), tensor(lib, "bfloat16", 3072)
    w2, b2 = tensor(lib, "bfloat16", 768, 3072, scale=0.02), tensor(lib, "bfloat16", 768)
    seed = tensor(lib, "bfloat16", 16384, 768, grad=False)

    def step() -> None:
        if lib.__name__ == OURS:
            y = F.gelu_mlp(x, w1, b1, w2, b2)
        else:
            y = F.linear(F.gelu(F.linear(x, w1, b1), approximate="tanh"), w2, b2)
        lib.autograd.grad(y, [x, w1, b1, w2, b2], seed)

    return step


def muon(lib: Any) -> Callable[[], Any]:
    """A step of Muon over the matrices of a GPT of 12 layers and width 768."""
    shapes = [(2304, 768), (768, 768), (3072, 768), (768, 3072)] * 12
    made = [lib.randn(*s, device="cuda").requires_grad_() for s in shapes]
    for p in made:
        p.grad = lib.randn(*p.shape, device="cuda") * 1e-3
    return lib.optim.Muon(made, lr=1e-3).step


def fused_rows(rounds: int) -> list[Row]:
    """All of this file."""
    rows: list[Row] = []
    for dtype in ("bfloat16", "float32"):
        rows += stream_rows(dtype, rounds)
        for lib in libraries():
            lib.cuda.empty_cache()
    for name, build in (("gelu_mlp, forward + backward", mlp), ("Muon, 85M parameters", muon)):
        ours, peer = pairs(build)
        rows += interleave([Case(name, 1.0, ours, peer, 1e6, "us")], rounds)
        for lib in libraries():
            lib.cuda.empty_cache()
    return rows + loss_rows(rounds)
