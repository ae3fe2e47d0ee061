"""The two light kernels of the Hopper backward, around the fused one: they pass over rows once.

attention_backward_prepare writes delta = rowsum(o * do) and lse in base 2,
attention_backward_finish scales and casts the float32 sum of dQ.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _rows(b, h, row, batch_stride, head_stride, row_stride):
    """Where rows begin, in elements.  Strides are multiples of 8 elements, as TMA wants them."""
    first = tl.multiple_of(b * batch_stride + h * head_stride, 8)
    return first + tl.multiple_of(row[:, None] * row_stride, [8, 8])


@triton.jit(do_not_specialize=["heads", "Tq", "padded"])
def attention_backward_prepare(
    o_ptr,
    do_ptr,
    lse_ptr,
    delta_ptr,
    lse2_ptr,
    dq_sum_ptr,
    stored_ptr,
    o_batch: tl.int64,
    o_head: tl.int64,
    o_row: tl.int64,
    do_batch: tl.int64,
    do_head: tl.int64,
    do_row: tl.int64,
    heads,
    Tq,
    padded,
    dim: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    CLEAR: tl.constexpr,
):
    """What the main kernel reads once per query block. Grid: (padded / ROWS, B * H), num_warps 4.

    o, do: (B, H, Tq, dim), strides in elements, multiples of 8. lse: float32 (B, H, Tq).
    delta, lse2: float32 (B * H, padded). Rows past Tq and rows that see no key get lse2 = inf:
    their weights exp2(s - lse2) vanish with no mask.
    CLEAR: write zeros to dq_sum, float32 (B * H, padded, D); else to stored, int32 (B * H).
    padded: Tq rounded up to the main kernel's BM. D: dim rounded up to 64 or 128.
    """
    bh = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, D)
    b = bh // heads
    h = bh - b * heads
    inside = (row < Tq)[:, None] & (col < dim)[None, :]
    o_at = _rows(b, h, row, o_batch, o_head, o_row)
    do_at = _rows(b, h, row, do_batch, do_head, do_row)
    o = tl.load(o_ptr + o_at + col[None, :], mask=inside, other=0.0)
    do = tl.load(do_ptr + do_at + col[None, :], mask=inside, other=0.0)
    lse = tl.load(lse_ptr + bh * Tq + row, mask=row < Tq, other=float("-inf"))
    at = bh.to(tl.int64) * padded + row
    tl.store(delta_ptr + at, tl.sum(o.to(tl.float32) * do.to(tl.float32), 1))
    tl.store(lse2_ptr + at, tl.where(lse == float("-inf"), float("inf"), lse * LOG2E))
    if CLEAR:
        tl.store(dq_sum_ptr + at[:, None] * D + col[None, :], tl.zeros([ROWS, D], tl.float32))
    else:
        tl.store(stored_ptr + bh, 0)


@triton.jit(do_not_specialize=["heads", "Tq", "padded"])
def attention_backward_finish(
    dq_sum_ptr,
    dq_ptr,
    dq_batch: tl.int64,
    dq_head: tl.int64,
    dq_row: tl.int64,
    heads,
    Tq,
    padded,
    scale,
    dim: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
):
    """dq = scale * dq_sum, in dq's type. Grid: (padded / ROWS, B * H), num_warps 4.

    dq: (B, H, Tq, dim), strides in elements, multiples of 8. scale: that of the softmax.
    """
    bh = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, D)
    b = bh // heads
    h = bh - b * heads
    at = bh.to(tl.int64) * padded + row
    inside = (row < Tq)[:, None] & (col < dim)[None, :]
    dq = tl.load(dq_sum_ptr + at[:, None] * D + col[None, :], mask=inside, other=0.0) * scale
    to = _rows(b, h, row, dq_batch, dq_head, dq_row)
    tl.store(dq_ptr + to + col[None, :], dq.to(dq_ptr.dtype.element_ty), mask=inside)
