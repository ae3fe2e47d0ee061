"""Attention, forward: a block of queries against all keys, with a running maximum and sum per query
(Milakov and Gimelshein, arXiv 1805.02867; Dao, arXiv 2307.08691)."""

import triton
import triton.language as tl

from vibetensor.kernels.attention.plain_common import (
    LN2,
    LOG2E,
    biased,
    drawn_from,
    kept,
    key_range,
    product,
    sequence_of,
    store_tile,
    tile_of,
)


@triton.jit
def attend(
    acc, total, top, q, first, last, k, v, stride_k, stride_v, i, queries, keys, dim, value_dim,
    low, high, scale, bias, bias_query, bias_key, slope, seed, offset, head, row, threshold,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    PAD: tl.constexpr, HIDE: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    BIAS: tl.constexpr, ALIBI: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The keys first to last, added to the sums."""
    for n in range(first, last, BLOCK_N):
        kt = tile_of(k, n, stride_k, keys, dim, BLOCK_N, D, HIDE, PAD)
        s = product(q, tl.trans(kt), None, PRECISION) * scale
        j = (n + tl.arange(0, BLOCK_N))[None, :]
        s = biased(s, i, j, queries, keys, low, high, bias, bias_query, bias_key, slope, HIDE, LOW,
                   HIGH, BIAS, ALIBI)  # fmt: skip
        now = tl.maximum(top, tl.max(s, 1))
        finite = now
        if HIDE or BIAS > 0:
            # A query that has seen no key yet has the maximum -inf; any finite one does for it.
            finite = tl.where(now == float("-inf"), 0.0, now)
        p = tl.math.exp2(s - finite[:, None])
        shrink = tl.math.exp2(top - finite)
        total = total * shrink + tl.sum(p, 1)
        acc = acc * shrink[:, None]
        if DROPOUT:
            p = tl.where(kept(seed, offset, head, row, n, threshold, BLOCK_M, BLOCK_N), p, 0.0)
        vt = tile_of(v, n, stride_v, keys, value_dim, BLOCK_N, E, HIDE, PAD)
        acc = product(p.to(vt.dtype), vt, acc, PRECISION)
        top = now
    return acc, total, top


@triton.jit
def attention_forward(
    q, k, v, out, lse, bias, slopes, cu_queries, cu_keys,
    q_batch, q_head, q_time, k_batch, k_head, k_time, v_batch, v_head, v_time,
    out_batch, out_head, out_time, lse_batch, lse_head,
    bias_batch, bias_head, bias_query, bias_key, slope_batch, slope_head,
    heads, group, queries, keys, dim, value_dim, low, high, scale, seed, offset, threshold,
    keep_scale, blocks,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    PAD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, BIAS: tl.constexpr,
    ALIBI: tl.constexpr, DROPOUT: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr,
    WHOLE: tl.constexpr,
):  # fmt: skip
    """One program per block of queries of a head. WHOLE: one block holds all keys, no loop."""
    program = tl.program_id(0)
    block = program % blocks
    if HIGH:
        block = blocks - 1 - block  # the longest rows first
    head = program // blocks
    b = (head // heads).to(tl.int64)
    h = (head % heads).to(tl.int64)
    first_query, first_key, queries, keys = sequence_of(
        cu_queries, cu_keys, b, queries, keys, PACKED
    )
    row = block * BLOCK_M
    if row >= queries:
        return
    low += keys - queries
    high += keys - queries
    q += b * q_batch + h * q_head
    k += b * k_batch + (h // group) * k_head
    v += b * v_batch + (h // group) * v_head
    out += b * out_batch + h * out_head
    lse += b * lse_batch + h * lse_head
    slope = 0.0
    if BIAS > 0:
        bias += b * bias_batch + h * bias_head
    if ALIBI:
        slope = tl.load(slopes + b * slope_batch + h * slope_head) * LOG2E
    if DROPOUT:
        seed, offset = drawn_from(seed, offset)
    if PACKED:
        q += first_query * q_time
        k += first_key * k_time
        v += first_key * v_time
        out += first_query * out_time
        lse += first_query
    scale *= LOG2E

    i = row + tl.arange(0, BLOCK_M)
    qt = tile_of(q, row, q_time, queries, dim, BLOCK_M, D, True, PAD)
    acc = tl.zeros([BLOCK_M, E], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    if WHOLE:
        kt = tile_of(k, 0, k_time, keys, dim, BLOCK_N, D, True, PAD)
        vt = tile_of(v, 0, v_time, keys, value_dim, BLOCK_N, E, True, PAD)
        s = product(qt, tl.trans(kt), None, PRECISION) * scale
        j = tl.arange(0, BLOCK_N)[None, :]
        s = biased(s, i[:, None], j, queries, keys, low, high, bias, bias_query, bias_key, slope,
                   True, LOW, HIGH, BIAS, ALIBI)  # fmt: skip
        top = tl.max(s, 1)
        p = tl.math.exp2(s - tl.where(top == float("-inf"), 0.0, top)[:, None])
        total = tl.sum(p, 1)
        if DROPOUT:
            p = tl.where(kept(seed, offset, head, row, 0, threshold, BLOCK_M, BLOCK_N), p, 0.0)
        acc = product(p.to(vt.dtype), vt, None, PRECISION)
    else:
        begin, all_begin, all_end, end = key_range(
            row, queries, keys, low, high, BLOCK_M, BLOCK_N, LOW, HIGH
        )
        if LOW:
            acc, total, top = attend(
                acc, total, top, qt, begin, all_begin, k, v, k_time, v_time, i[:, None], queries,
                keys, dim, value_dim, low, high, scale, bias, bias_query, bias_key, slope, seed,
                offset, head, row, threshold, BLOCK_M, BLOCK_N, D, E, PAD, True, LOW, HIGH, BIAS,
                ALIBI, DROPOUT, PRECISION)  # fmt: skip
        acc, total, top = attend(
            acc, total, top, qt, all_begin, all_end, k, v, k_time, v_time, i[:, None], queries,
            keys, dim, value_dim, low, high, scale, bias, bias_query, bias_key, slope, seed, offset,
            head, row, threshold, BLOCK_M, BLOCK_N, D, E, PAD, False, LOW, HIGH, BIAS, ALIBI,
            DROPOUT, PRECISION)  # fmt: skip
        acc, total, top = attend(
            acc, total, top, qt, all_end, end, k, v, k_time, v_time, i[:, None], queries,
            keys, dim, value_dim, low, high, scale, bias, bias_query, bias_key, slope, seed, offset,
            head, row, threshold, BLOCK_M, BLOCK_N, D, E, PAD, True, LOW, HIGH, BIAS, ALIBI,
            DROPOUT, PRECISION)  # fmt: skip
    # No key at all gives zeros, and the lse of an empty sum.
    factor = tl.where(total == 0.0, 0.0, 1.0 / total)
    if DROPOUT:
        factor *= keep_scale
    store_tile(out, row, out_time, queries, value_dim, acc * factor[:, None], BLOCK_M, E)
    tl.store(lse + i, top * LN2 + tl.math.log2(total) * LN2, mask=i < queries)
