"""What the plain attention kernels share: sequences, scores, the choice of dropout.

Tiles are (queries, keys); functions that take the positions `i` of queries and `j` of keys
broadcast them, so they serve transposed tiles as well. Scores are in units of log 2, because exp2
is what the hardware has. A query i sees keys i + low to i + high.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def rounded(x, PRECISION: tl.constexpr):
    """The operand of a product by TF32, to the nearest of its numbers: the hardware cuts the bits
    off that it does not take, which makes every product smaller."""
    if PRECISION == "tf32":
        bits = (x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000
        x = tl.where(x == x, bits.to(tl.float32, bitcast=True), x)
    return x


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr):
    """``a b``, added to `total` if that is not None."""
    a, b = rounded(a, PRECISION), rounded(b, PRECISION)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def sequence_of(cu_queries, cu_keys, b, queries, keys, PACKED: tl.constexpr):
    """First query, first key and the two lengths of sequence `b`."""
    first_query = 0
    first_key = 0
    if PACKED:
        first_query = tl.load(cu_queries + b)
        first_key = tl.load(cu_keys + b)
        queries = tl.load(cu_queries + b + 1) - first_query
        keys = tl.load(cu_keys + b + 1) - first_key
    return first_query, first_key, queries, keys


@triton.jit
def tile_of(
    base,
    row,
    stride,
    rows,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHECK_ROWS: tl.constexpr,
    CHECK_COLUMNS: tl.constexpr,
):
    """Rows `row` to row + ROWS - 1 of a matrix; what lies outside is zero."""
    r = tl.arange(0, ROWS)
    t = row + r
    c = tl.arange(0, COLUMNS)
    # Beyond a scalar, distances within a tile fit 32 bits.
    at = base + row * stride + (r[:, None] * stride.to(tl.int32) + c[None, :])
    if CHECK_ROWS:
        if CHECK_COLUMNS:
            x = tl.load(at, mask=(t < rows)[:, None] & (c < columns)[None, :], other=0.0)
        else:
            x = tl.load(at, mask=(t < rows)[:, None], other=0.0)
    elif CHECK_COLUMNS:
        x = tl.load(at, mask=(c < columns)[None, :], other=0.0)
    else:
        x = tl.load(at)
    return x


@triton.jit
def store_tile(base, row, stride, rows, columns, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r = tl.arange(0, ROWS)
    t = row + r
    c = tl.arange(0, COLUMNS)
    # Beyond a scalar, distances within a tile fit 32 bits.
    at = base + row * stride + (r[:, None] * stride.to(tl.int32) + c[None, :])
    tl.store(at, x.to(base.dtype.element_ty), mask=(t < rows)[:, None] & (c < columns)[None, :])


@triton.jit
def biased(
    s,
    i,
    j,
    queries,
    keys,
    low,
    high,
    bias,
    bias_query,
    bias_key,
    slope,
    HIDE: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    BIAS: tl.constexpr,
    ALIBI: tl.constexpr,
):
    """The scores with the bias (1: boolean, 2: added) and ALiBi; -inf where HIDE hides what is not
    seen."""
    if BIAS > 0:
        inside = (i < queries) & (j < keys)
        at = bias + i.to(tl.int64) * bias_query + j.to(tl.int64) * bias_key
        b = tl.load(at, mask=inside, other=0)
        if BIAS == 1:
            s = tl.where(b != 0, s, float("-inf"))
        else:
            s += b.to(tl.float32) * LOG2E
    if ALIBI:
        s -= slope * tl.abs((j - keys - (i - queries)).to(tl.float32))
    if HIDE:
        seen = j < keys
        if HIGH:
            seen = seen & (j <= i + high)
        if LOW:
            seen = seen & (j >= i + low)
        s = tl.where(seen, s, float("-inf"))
    return s


@triton.jit
def drawn_from(seed, offset):
    """Seed and offset; in a captured graph they are in a record on the device
    (vt/philox_args.h)."""
    if offset < 0:
        # Not as two scalars: Triton 3.6 would give the loaded seed the register of its own address,
        # which it clears before it loads.
        i = tl.arange(0, 2)
        record = tl.load(seed.to(tl.pointer_type(tl.int64)) + i)
        seed = tl.sum(tl.where(i == 0, record, 0), 0)
        offset = (offset & 0x7FFFFFFFFFFFFFFF) + tl.sum(tl.where(i == 1, record, 0), 0)
    return seed, offset


@triton.jit
def kept(
    seed, offset, head, first_query, first_key, threshold, QUERIES: tl.constexpr, KEYS: tl.constexpr
):
    """Which weights dropout keeps (vt/attention_dropout.h); `first_key` is a multiple of 64."""
    counter = (offset + head).to(tl.uint64)
    i = (first_query + tl.arange(0, QUERIES)).to(tl.uint32)
    group = (first_key // 8 + tl.arange(0, KEYS // 8)).to(tl.uint32)
    i, group = tl.broadcast(i[:, None], group[None, :])
    c0 = tl.zeros_like(i) + (counter & 0xFFFFFFFF).to(tl.uint32)
    c1 = tl.zeros_like(i) + (counter >> 32).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed.to(tl.uint64), c0, c1, i, group)
    # Pieces of the words, as (queries, periods, 8 keys); then key = 64 period + 8 piece + the last.
    p01 = tl.join((w0 & 0xFFFF) < threshold, (w0 >> 16) < threshold)
    p23 = tl.join((w1 & 0xFFFF) < threshold, (w1 >> 16) < threshold)
    p45 = tl.join((w2 & 0xFFFF) < threshold, (w2 >> 16) < threshold)
    p67 = tl.join((w3 & 0xFFFF) < threshold, (w3 >> 16) < threshold)
    pieces = tl.join(tl.join(p01, p23), tl.join(p45, p67))
    pieces = tl.reshape(pieces, (QUERIES, KEYS // 64, 8, 2, 2, 2))
    return tl.reshape(tl.permute(pieces, (0, 1, 5, 4, 3, 2)), (QUERIES, KEYS))


@triton.jit
def floor_to(x, block: tl.constexpr):
    return x // block * block


@triton.jit
def key_range(
    row,
    queries,
    keys,
    low,
    high,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
):
    """For the queries row to row + ROWS - 1: blocks of keys [begin, end) are seen by some, and of
    these [all_begin, all_end) by all of them."""
    last = tl.minimum(row + ROWS, queries) - 1
    begin = 0
    all_begin = 0
    end = keys
    all_end = floor_to(keys, BLOCK)
    if HIGH:
        end = tl.maximum(tl.minimum(keys, last + high + 1), 0)
        all_end = floor_to(tl.maximum(tl.minimum(keys, row + high + 1), 0), BLOCK)
    if LOW:
        begin = floor_to(tl.maximum(tl.minimum(keys, row + low), 0), BLOCK)
        all_begin = tl.minimum(floor_to(tl.maximum(last + low, 0) + BLOCK - 1, BLOCK), end)
        all_begin = floor_to(all_begin + BLOCK - 1, BLOCK)
        all_end = tl.maximum(all_end, all_begin)
    return begin, all_begin, all_end, end


@triton.jit
def query_range(key, queries, keys, low, high, KEYS: tl.constexpr, BLOCK: tl.constexpr,
                LOW: tl.constexpr, HIGH: tl.constexpr):  # fmt: skip
    """For the keys `key` to key + KEYS - 1: blocks of queries [begin, end) see some of them, and of
    these [all_begin, all_end) all of them."""
    last = tl.minimum(key + KEYS, keys) - 1
    begin = 0
    all_begin = 0
    end = queries
    all_end = queries
    if HIGH:
        begin = floor_to(tl.maximum(tl.minimum(queries, key - high), 0), BLOCK)
        all_begin = floor_to(tl.maximum(last - high, 0) + BLOCK - 1, BLOCK)
    if LOW:
        end = tl.maximum(tl.minimum(queries, last - low + 1), 0)
        all_end = floor_to(tl.maximum(tl.minimum(queries, key - low + 1), 0), BLOCK)
    if HIGH or LOW:
        all_begin = tl.minimum(all_begin, floor_to(end + BLOCK - 1, BLOCK))
        all_end = tl.maximum(all_end, all_begin)
    return begin, all_begin, all_end, end
