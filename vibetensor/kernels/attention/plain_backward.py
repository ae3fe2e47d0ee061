"""Attention, backward. With P = softmax(scores), made again from the lse of the forward pass, K
what dropout multiplies it by (1 without), and delta = sum(grad * out) over the features:

    dv = (K P)^T grad,   dS = P * (K (grad v^T) - delta),   dq = scale dS k,   dk = scale dS^T q.

Sums are over blocks in a fixed order, so every kernel gives the same bits at every run.
"""

import triton
import triton.language as tl

from vibetensor.kernels.attention.plain_common import (
    LOG2E,
    biased,
    drawn_from,
    kept,
    key_range,
    product,
    query_range,
    sequence_of,
    store_tile,
    tile_of,
)


@triton.jit
def lse_of(lse, i, queries):
    """The lse in units of log 2; inf, which makes P zero, where there is no query or no key."""
    x = tl.load(lse + i, mask=i < queries, other=float("-inf"))
    return tl.where(x == float("-inf"), float("inf"), x * LOG2E)


@triton.jit
def weights_of(q, k, grad, v, lse, delta, i, j, queries, keys, low, high, scale, bias, bias_query,
               bias_key, slope, keep, keep_scale, HIDE: tl.constexpr, LOW: tl.constexpr,
               HIGH: tl.constexpr, BIAS: tl.constexpr, ALIBI: tl.constexpr, DROPOUT: tl.constexpr,
               PRECISION: tl.constexpr):  # fmt: skip
    """K P and dS of a tile; of a transposed one if q, k and grad, v change places."""
    s = product(q, tl.trans(k), None, PRECISION) * scale
    s = biased(s, i, j, queries, keys, low, high, bias, bias_query, bias_key, slope, HIDE, LOW,
               HIGH, BIAS, ALIBI)  # fmt: skip
    p = tl.math.exp2(s - lse)
    dp = product(grad, tl.trans(v), None, PRECISION)
    kp = p
    if DROPOUT:
        kp = tl.where(keep, p * keep_scale, 0.0)
        dp = tl.where(keep, dp * keep_scale, 0.0)
    return kp, p * (dp - delta)


@triton.jit
def attention_backward_short(
    grad, q, k, v, out, lse, dq, dk, dv, bias, slopes, cu_queries, cu_keys,
    grad_batch, grad_head, grad_time, q_batch, q_head, q_time, k_batch, k_head, k_time,
    v_batch, v_head, v_time, out_batch, out_head, out_time, dq_batch, dq_head, dq_time,
    dk_batch, dk_head, dk_time, dv_batch, dv_head, dv_time, lse_batch, lse_head,
    bias_batch, bias_head, bias_query, bias_key, slope_batch, slope_head,
    heads, group, queries, keys, dim, value_dim, low, high, scale, seed, offset, threshold,
    keep_scale,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    PAD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, BIAS: tl.constexpr,
    ALIBI: tl.constexpr, DROPOUT: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All gradients at once where one block holds all keys: a program per head of keys."""
    program = tl.program_id(0)
    kv_heads = heads // group
    b = (program // kv_heads).to(tl.int64)
    kv = (program % kv_heads).to(tl.int64)
    first_query, first_key, queries, keys = sequence_of(
        cu_queries, cu_keys, b, queries, keys, PACKED
    )
    low += keys - queries
    high += keys - queries
    if DROPOUT:
        seed, offset = drawn_from(seed, offset)
    j = tl.arange(0, BLOCK_N)[None, :]
    kt = tile_of(k + b * k_batch + kv * k_head + first_key * k_time, 0, k_time, keys, dim, BLOCK_N,
                 D, True, PAD)  # fmt: skip
    vt = tile_of(v + b * v_batch + kv * v_head + first_key * v_time, 0, v_time, keys, value_dim,
                 BLOCK_N, E, True, PAD)  # fmt: skip
    dkt = tl.zeros([BLOCK_N, D], tl.float32)
    dvt = tl.zeros([BLOCK_N, E], tl.float32)
    for member in range(group):
        h = kv * group + member
        head = (b * heads + h).to(tl.int32)
        lse_row = lse + b * lse_batch + h * lse_head + first_query
        q_row = q + b * q_batch + h * q_head + first_query * q_time
        grad_row = grad + b * grad_batch + h * grad_head + first_query * grad_time
        out_row = out + b * out_batch + h * out_head + first_query * out_time
        dq_row = dq + b * dq_batch + h * dq_head + first_query * dq_time
        bias_row = bias
        slope = 0.0
        if BIAS > 0:
            bias_row = bias + b * bias_batch + h * bias_head
        if ALIBI:
            slope = tl.load(slopes + b * slope_batch + h * slope_head) * LOG2E
        for row in range(0, queries, BLOCK_M):
            i = row + tl.arange(0, BLOCK_M)
            qt = tile_of(q_row, row, q_time, queries, dim, BLOCK_M, D, True, PAD)
            gt = tile_of(grad_row, row, grad_time, queries, value_dim, BLOCK_M, E, True, PAD)
            ot = tile_of(out_row, row, out_time, queries, value_dim, BLOCK_M, E, True, PAD)
            delta = tl.sum(gt.to(tl.float32) * ot.to(tl.float32), 1)
            keep = 0
            if DROPOUT:
                keep = kept(seed, offset, head, row, 0, threshold, BLOCK_M, BLOCK_N)
            kp, ds = weights_of(
                qt, kt, gt, vt, lse_of(lse_row, i, queries)[:, None], delta[:, None], i[:, None], j,
                queries, keys, low, high, scale * LOG2E, bias_row, bias_query, bias_key, slope,
                keep, keep_scale, True, LOW, HIGH, BIAS, ALIBI, DROPOUT, PRECISION)  # fmt: skip
            ds = ds.to(qt.dtype)
            dvt = product(tl.trans(kp.to(gt.dtype)), gt, dvt, PRECISION)
            dkt = product(tl.trans(ds), qt, dkt, PRECISION)
            dqt = product(ds, kt, None, PRECISION)
            store_tile(dq_row, row, dq_time, queries, dim, dqt * scale, BLOCK_M, D)
    store_tile(dk + b * dk_batch + kv * dk_head + first_key * dk_time, 0, dk_time, keys, dim,
               dkt * scale, BLOCK_N, D)  # fmt: skip
    store_tile(dv + b * dv_batch + kv * dv_head + first_key * dv_time, 0, dv_time, keys, value_dim,
               dvt, BLOCK_N, E)  # fmt: skip


@triton.jit
def add_queries(
    dqt, qt, gt, lse, delta, first, last, k, v, k_time, v_time, i, queries, keys, dim, value_dim,
    low, high, scale, bias, bias_query, bias_key, slope, seed, offset, head, row, threshold,
    keep_scale, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    PAD: tl.constexpr, HIDE: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    BIAS: tl.constexpr, ALIBI: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for n in range(first, last, BLOCK_N):
        kt = tile_of(k, n, k_time, keys, dim, BLOCK_N, D, HIDE, PAD)
        vt = tile_of(v, n, v_time, keys, value_dim, BLOCK_N, E, HIDE, PAD)
        keep = 0
        if DROPOUT:
            keep = kept(seed, offset, head, row, n, threshold, BLOCK_M, BLOCK_N)
        j = (n + tl.arange(0, BLOCK_N))[None, :]
        _, ds = weights_of(
            qt, kt, gt, vt, lse, delta, i, j, queries, keys, low, high, scale, bias, bias_query,
            bias_key, slope, keep, keep_scale, HIDE, LOW, HIGH, BIAS, ALIBI, DROPOUT,
            PRECISION)  # fmt: skip
        dqt = product(ds.to(kt.dtype), kt, dqt, PRECISION)
    return dqt


@triton.jit
def attention_backward_queries(
    grad, q, k, v, out, lse, dq, delta, bias, slopes, cu_queries, cu_keys,
    grad_batch, grad_head, grad_time, q_batch, q_head, q_time, k_batch, k_head, k_time,
    v_batch, v_head, v_time, out_batch, out_head, out_time, dq_batch, dq_head, dq_time,
    lse_batch, lse_head, bias_batch, bias_head, bias_query, bias_key, slope_batch, slope_head,
    heads, group, queries, keys, dim, value_dim, low, high, scale, seed, offset, threshold,
    keep_scale, blocks,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    PAD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, BIAS: tl.constexpr,
    ALIBI: tl.constexpr, DROPOUT: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq, and delta, laid out as the lse, for the kernel of dk and dv: a program per block of
    queries of a head."""
    program = tl.program_id(0)
    block = program % blocks
    if HIGH:
        block = blocks - 1 - block
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
    k += b * k_batch + (h // group) * k_head + first_key * k_time
    v += b * v_batch + (h // group) * v_head + first_key * v_time
    statistic = b * lse_batch + h * lse_head + first_query
    slope = 0.0
    if BIAS > 0:
        bias += b * bias_batch + h * bias_head
    if ALIBI:
        slope = tl.load(slopes + b * slope_batch + h * slope_head) * LOG2E
    if DROPOUT:
        seed, offset = drawn_from(seed, offset)
    i = row + tl.arange(0, BLOCK_M)
    qt = tile_of(q + b * q_batch + h * q_head + first_query * q_time, row, q_time, queries, dim,
                 BLOCK_M, D, True, PAD)  # fmt: skip
    gt = tile_of(grad + b * grad_batch + h * grad_head + first_query * grad_time, row, grad_time,
                 queries, value_dim, BLOCK_M, E, True, PAD)  # fmt: skip
    ot = tile_of(out + b * out_batch + h * out_head + first_query * out_time, row, out_time,
                 queries, value_dim, BLOCK_M, E, True, PAD)  # fmt: skip
    d = tl.sum(gt.to(tl.float32) * ot.to(tl.float32), 1)
    tl.store(delta + statistic + i, d, mask=i < queries)
    x = lse_of(lse + statistic, i, queries)[:, None]
    d = d[:, None]
    dqt = tl.zeros([BLOCK_M, D], tl.float32)
    begin, all_begin, all_end, end = key_range(
        row, queries, keys, low, high, BLOCK_M, BLOCK_N, LOW, HIGH
    )
    if LOW:
        dqt = add_queries(
            dqt, qt, gt, x, d, begin, all_begin, k, v, k_time, v_time, i[:, None], queries, keys,
            dim, value_dim, low, high, scale * LOG2E, bias, bias_query, bias_key, slope, seed,
            offset, head, row, threshold, keep_scale, BLOCK_M, BLOCK_N, D, E, PAD, True, LOW, HIGH,
            BIAS, ALIBI, DROPOUT, PRECISION)  # fmt: skip
    dqt = add_queries(
        dqt, qt, gt, x, d, all_begin, all_end, k, v, k_time, v_time, i[:, None], queries, keys, dim,
        value_dim, low, high, scale * LOG2E, bias, bias_query, bias_key, slope, seed, offset, head,
        row, threshold, keep_scale, BLOCK_M, BLOCK_N, D, E, PAD, False, LOW, HIGH, BIAS, ALIBI,
        DROPOUT, PRECISION)  # fmt: skip
    dqt = add_queries(
        dqt, qt, gt, x, d, all_end, end, k, v, k_time, v_time, i[:, None], queries, keys, dim,
        value_dim, low, high, scale * LOG2E, bias, bias_query, bias_key, slope, seed, offset, head,
        row, threshold, keep_scale, BLOCK_M, BLOCK_N, D, E, PAD, True, LOW, HIGH, BIAS, ALIBI,
        DROPOUT, PRECISION)  # fmt: skip
    store_tile(dq + b * dq_batch + h * dq_head + first_query * dq_time, row, dq_time, queries, dim,
               dqt * scale, BLOCK_M, D)  # fmt: skip


@triton.jit
def add_keys(
    dkt, dvt, kt, vt, first, last, q, grad, lse, delta, q_time, grad_time, j, queries, keys, dim,
    value_dim, low, high, scale, bias, bias_query, bias_key, slope, seed, offset, head, key,
    threshold, keep_scale,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    PAD: tl.constexpr, HIDE: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    BIAS: tl.constexpr, ALIBI: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # Tiles are transposed, so that P and dS are the left factors as they come from the registers.
    # Queries that do not exist have the lse inf, and so no weights.
    for row in range(first, last, BLOCK_M):
        i = row + tl.arange(0, BLOCK_M)
        qt = tile_of(q, row, q_time, queries, dim, BLOCK_M, D, True, PAD)
        gt = tile_of(grad, row, grad_time, queries, value_dim, BLOCK_M, E, True, PAD)
        x = lse_of(lse, i, queries)
        d = tl.load(delta + i, mask=i < queries, other=0.0)
        keep = 0
        if DROPOUT:
            keep = tl.trans(kept(seed, offset, head, row, key, threshold, BLOCK_M, BLOCK_N))
        kp, ds = weights_of(
            kt, qt, vt, gt, x[None, :], d[None, :], i[None, :], j, queries, keys, low, high, scale,
            bias, bias_query, bias_key, slope, keep, keep_scale, HIDE, LOW, HIGH, BIAS, ALIBI,
            DROPOUT, PRECISION)  # fmt: skip
        dvt = product(kp.to(gt.dtype), gt, dvt, PRECISION)
        dkt = product(ds.to(qt.dtype), qt, dkt, PRECISION)
    return dkt, dvt


@triton.jit
def attention_backward_keys(
    grad, q, k, v, lse, delta, dk, dv, bias, slopes, cu_queries, cu_keys,
    grad_batch, grad_head, grad_time, q_batch, q_head, q_time, k_batch, k_head, k_time,
    v_batch, v_head, v_time, dk_batch, dk_head, dk_time, dv_batch, dv_head, dv_time,
    lse_batch, lse_head, bias_batch, bias_head, bias_query, bias_key, slope_batch, slope_head,
    heads, group, queries, keys, dim, value_dim, low, high, scale, seed, offset, threshold,
    keep_scale, blocks,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    PAD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, BIAS: tl.constexpr,
    ALIBI: tl.constexpr, DROPOUT: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr,
    SPLIT: tl.constexpr,
):  # fmt: skip
    """dk and dv: a program per block of keys of a head of keys, over all heads of queries it has.
    SPLIT: blocks that are seen whole have a loop of their own, which hides nothing."""
    program = tl.program_id(0)
    block = program % blocks
    kv_heads = heads // group
    b = (program // blocks // kv_heads).to(tl.int64)
    kv = (program // blocks % kv_heads).to(tl.int64)
    first_query, first_key, queries, keys = sequence_of(
        cu_queries, cu_keys, b, queries, keys, PACKED
    )
    key = block * BLOCK_N
    if key >= keys:
        return
    low += keys - queries
    high += keys - queries
    if DROPOUT:
        seed, offset = drawn_from(seed, offset)
    j = (key + tl.arange(0, BLOCK_N))[:, None]
    kt = tile_of(k + b * k_batch + kv * k_head + first_key * k_time, key, k_time, keys, dim,
                 BLOCK_N, D, True, PAD)  # fmt: skip
    vt = tile_of(v + b * v_batch + kv * v_head + first_key * v_time, key, v_time, keys, value_dim,
                 BLOCK_N, E, True, PAD)  # fmt: skip
    dkt = tl.zeros([BLOCK_N, D], tl.float32)
    dvt = tl.zeros([BLOCK_N, E], tl.float32)
    begin, all_begin, all_end, end = query_range(
        key, queries, keys, low, high, BLOCK_N, BLOCK_M, LOW, HIGH
    )
    HIDE: tl.constexpr = (LOW or HIGH) and not SPLIT
    if HIDE:
        all_begin = begin
        all_end = end
    for member in range(group):
        h = kv * group + member
        head = (b * heads + h).to(tl.int32)
        statistic = b * lse_batch + h * lse_head + first_query
        q_row = q + b * q_batch + h * q_head + first_query * q_time
        grad_row = grad + b * grad_batch + h * grad_head + first_query * grad_time
        bias_row = bias
        slope = 0.0
        if BIAS > 0:
            bias_row = bias + b * bias_batch + h * bias_head
        if ALIBI:
            slope = tl.load(slopes + b * slope_batch + h * slope_head) * LOG2E
        if SPLIT and HIGH:
            dkt, dvt = add_keys(
                dkt, dvt, kt, vt, begin, all_begin, q_row, grad_row, lse + statistic,
                delta + statistic, q_time, grad_time, j, queries, keys, dim, value_dim, low, high,
                scale * LOG2E, bias_row, bias_query, bias_key, slope, seed, offset, head, key,
                threshold, keep_scale, BLOCK_M, BLOCK_N, D, E, PAD, True, LOW, HIGH, BIAS, ALIBI,
                DROPOUT, PRECISION)  # fmt: skip
        dkt, dvt = add_keys(
            dkt, dvt, kt, vt, all_begin, all_end, q_row, grad_row, lse + statistic,
            delta + statistic, q_time, grad_time, j, queries, keys, dim, value_dim, low, high,
            scale * LOG2E, bias_row, bias_query, bias_key, slope, seed, offset, head, key,
            threshold, keep_scale, BLOCK_M, BLOCK_N, D, E, PAD, HIDE, LOW, HIGH, BIAS, ALIBI,
            DROPOUT, PRECISION)  # fmt: skip
        if SPLIT and LOW:
            dkt, dvt = add_keys(
                dkt, dvt, kt, vt, all_end, end, q_row, grad_row, lse + statistic,
                delta + statistic, q_time, grad_time, j, queries, keys, dim, value_dim, low, high,
                scale * LOG2E, bias_row, bias_query, bias_key, slope, seed, offset, head, key,
                threshold, keep_scale, BLOCK_M, BLOCK_N, D, E, PAD, True, LOW, HIGH, BIAS, ALIBI,
                DROPOUT, PRECISION)  # fmt: skip
    store_tile(dk + b * dk_batch + kv * dk_head + first_key * dk_time, key, dk_time, keys, dim,
               dkt * scale, BLOCK_N, D)  # fmt: skip
    store_tile(dv + b * dv_batch + kv * dv_head + first_key * dv_time, key, dv_time, keys,
               value_dim, dvt, BLOCK_N, E)  # fmt: skip


@triton.jit
def attention_backward_bias(
    grad, q, k, v, out, lse, dbias, bias, slopes,
    grad_batch, grad_head, grad_time, q_batch, q_head, q_time, k_batch, k_head, k_time,
    v_batch, v_head, v_time, out_batch, out_head, out_time, lse_batch, lse_head,
    bias_batch, bias_head, bias_query, bias_key, slope_batch, slope_head,
    heads, group, queries, keys, dim, value_dim, low, high, scale, seed, offset, threshold,
    keep_scale, batch, bias_batches, bias_heads, blocks, key_blocks,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    PAD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, BIAS: tl.constexpr,
    ALIBI: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of an added bias, float32, contiguous, summed over the batches and heads that
    the bias is broadcast to: a program per tile of it."""
    program = tl.program_id(0)
    row = program % blocks * BLOCK_M
    key = program // blocks % key_blocks * BLOCK_N
    plane = program // blocks // key_blocks
    low += keys - queries
    high += keys - queries
    if DROPOUT:
        seed, offset = drawn_from(seed, offset)
    i = row + tl.arange(0, BLOCK_M)
    j = (key + tl.arange(0, BLOCK_N))[None, :]
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for head in range(batch * heads):
        b = (head // heads).to(tl.int64)
        h = (head % heads).to(tl.int64)
        mine = b % bias_batches * bias_heads + h % bias_heads == plane
        if mine:
            qt = tile_of(q + b * q_batch + h * q_head, row, q_time, queries, dim, BLOCK_M, D, True,
                         PAD)  # fmt: skip
            kt = tile_of(k + b * k_batch + h // group * k_head, key, k_time, keys, dim, BLOCK_N, D,
                         True, PAD)  # fmt: skip
            vt = tile_of(v + b * v_batch + h // group * v_head, key, v_time, keys, value_dim,
                         BLOCK_N, E, True, PAD)  # fmt: skip
            gt = tile_of(grad + b * grad_batch + h * grad_head, row, grad_time, queries, value_dim,
                         BLOCK_M, E, True, PAD)  # fmt: skip
            ot = tile_of(out + b * out_batch + h * out_head, row, out_time, queries, value_dim,
                         BLOCK_M, E, True, PAD)  # fmt: skip
            d = tl.sum(gt.to(tl.float32) * ot.to(tl.float32), 1)[:, None]
            x = lse_of(lse + b * lse_batch + h * lse_head, i, queries)[:, None]
            slope = 0.0
            if ALIBI:
                slope = tl.load(slopes + b * slope_batch + h * slope_head) * LOG2E
            keep = 0
            if DROPOUT:
                keep = kept(seed, offset, head, row, key, threshold, BLOCK_M, BLOCK_N)
            _, ds = weights_of(
                qt, kt, gt, vt, x, d, i[:, None], j, queries, keys, low, high, scale * LOG2E,
                bias + b * bias_batch + h * bias_head, bias_query, bias_key, slope, keep,
                keep_scale, True, LOW, HIGH, BIAS, ALIBI, DROPOUT, PRECISION)  # fmt: skip
            total += ds
    at = dbias + (plane.to(tl.int64) * queries + i[:, None]) * keys + j
    tl.store(at, total, mask=(i[:, None] < queries) & (j < keys))
