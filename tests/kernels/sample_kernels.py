"""Kernels that tests launch."""

import triton
import triton.language as tl

SCALE = tl.constexpr(2)


@triton.jit
def helper(x, n):
    return x + n


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n), mask=i < n)


@triton.jit
def many_kernel(
    out, flag, small, wide, unsigned, real, half: tl.float16, brain: tl.bfloat16, double: tl.float64,
    missing, default=7, NAME: tl.constexpr = "a",
):  # fmt: skip
    """Stores each argument as a float64."""
    tl.store(out + 0, flag)
    tl.store(out + 1, small)
    tl.store(out + 2, wide)
    tl.store(out + 3, unsigned)
    tl.store(out + 4, real)
    tl.store(out + 5, half)
    tl.store(out + 6, brain)
    tl.store(out + 7, double)
    tl.store(out + 8, helper(default, SCALE))
    if missing is None:
        tl.store(out + 9, 1.0)
    if NAME == "b":
        tl.store(out + 10, 1.0)


@triton.autotune([triton.Config({"BLOCK": 128}), triton.Config({"BLOCK": 512})], key=["n"])
@triton.jit
def tuned_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) * 2, mask=i < n)


@triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})
@triton.jit
def heuristic_kernel(x, out, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if EVEN:
        tl.store(out + i, tl.load(x + i) * 3)
    else:
        tl.store(out + i, tl.load(x + i, mask=i < n) * 3, mask=i < n)


@triton.jit
def tuple_kernel(out, pair, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(pair[0] + i) * pair[1])


@triton.jit
def transpose_kernel(source, target):
    tile = source.load([0, 0])
    target.store([0, 0], tile.T)
