"""Attention forward for Hopper (sm_90a): TMA, wgmma and warp roles, in Gluon.

One persistent block per multiprocessor walks over tiles of query rows. Its warps have roles: two or
three consumer warpgroups of 64 query rows each, one warp that loads by TMA, one warp that fetches
the numbers of the next tiles from a counter in global memory. A consumer issues S_j = Q K_j^T, then
O += P_{j-1} V_{j-1}, and does the softmax of S_j while the second product runs. Key blocks are
walked from the diagonal down, so masks are needed in the first blocks only. The softmax is the
online one of Milakov and Gimelshein (2018), blocked as in FlashAttention (Dao et al., 2022); the
roles follow FlashAttention-3 (Shah et al., 2024).

Row i sees key j when j < Tk and, if CAUSAL, j <= i + offset: offset 0 is the upper left alignment
of `is_causal`, Tk - Tq the lower right one. A row that sees no key gives o = 0 and lse = -inf.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from vibetensor.kernels.attention.hopper_common import aggregate, ring, uniform

# A score that is masked out. Finite, so that a row whose first block is wholly masked needs no
# special case: what it gathers there is multiplied by exp2(MASKED - real) = 0 as soon as it meets a
# key it sees. A power of two, so that MASKED * scale is exact and the fused
# MASKED * scale - top * scale is 0 there, not the rounding of a large number.
MASKED = gl.constexpr(-(2.0**100))
LN2 = gl.constexpr(0.6931471805599453)


@aggregate
class Shape:
    """Lengths, and which key blocks the rows of a tile need."""

    Tq: gl.tensor
    Tk: gl.tensor
    offset: gl.tensor
    BM: gl.constexpr
    BN: gl.constexpr
    CAUSAL: gl.constexpr
    ALIGNED: gl.constexpr

    @gluon.constexpr_function
    def __init__(self, Tq, Tk, offset, BM, BN, CAUSAL, ALIGNED):
        self.Tq = Tq
        self.Tk = Tk
        self.offset = offset
        self.BM = gl.constexpr(BM)
        self.BN = gl.constexpr(BN)
        self.CAUSAL = gl.constexpr(CAUSAL)
        self.ALIGNED = gl.constexpr(ALIGNED)

    @gluon.jit
    def blocks(self, row, count: gl.constexpr):
        """How many key blocks the rows [row, row + count) need: at least 1, to write every row."""
        n = self.Tk
        if self.CAUSAL:
            n = gl.minimum(n, row + count + self.offset)
        return gl.maximum((n + self.BN - 1) // self.BN, 1)

    @gluon.jit
    def unmasked(self, row):
        """How many of the first key blocks are seen whole by `row` and the rows after it."""
        n = self.Tk
        if self.CAUSAL:
            n = gl.minimum(n, row + self.offset + 1)
        return gl.maximum(n, 0) // self.BN

    @gluon.jit
    def visible(self, row, col):
        ok = (col < self.Tk)[None, :]
        if self.CAUSAL:
            ok = ok & (row[:, None] + self.offset >= col[None, :])
        return ok


# A tile in the scheduler's ring: its first row (END after the last tile), its batch and its head.
ROW = gl.constexpr(0)
BATCH = gl.constexpr(1)
HEAD = gl.constexpr(2)
FIELDS = gl.constexpr(3)
END = gl.constexpr(-1)


@gluon.jit
def _put(tiles, i, field: gl.constexpr, value):
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [1], [0])
    slot = tiles.slots.index(i % tiles.stages * FIELDS + field)
    slot.store(gl.full([1], 0, gl.int32, layout) + value)


@gluon.jit
def _get(tiles, i, field: gl.constexpr, WARPS: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [WARPS], [0])
    slot = tiles.slots.index(i % tiles.stages * FIELDS + field)
    return uniform(gl.max(slot.load(layout), 0))


@gluon.jit
def _schedule(counter, tiles, shape, rows, heads, together):
    """Number the tiles and hand them out: first the program's own number, then the counter's.

    `together` rows of the (batch, head) table are walked at the same time, so that their keys and
    values stay in L2; within them the tiles with most keys come first, which keeps the end of the
    launch short.
    """
    row_tiles = (shape.Tq + shape.BM - 1) // shape.BM
    count = row_tiles * rows
    index = gl.program_id(0)
    i = 0
    while index < count:
        first = index // (together * row_tiles) * together
        rest = index - first * row_tiles
        width = gl.minimum(together, rows - first)
        m = rest // width
        bh = first + rest - m * width
        if shape.CAUSAL:
            m = row_tiles - 1 - m
        b = bh // heads
        tiles.wait_empty(i)
        _put(tiles, i, ROW, m * shape.BM)
        _put(tiles, i, BATCH, b)
        _put(tiles, i, HEAD, bh - b * heads)
        tiles.fill(i)
        index = gl.num_programs(0) + gl.atomic_add(counter, 1)
        i += 1
    tiles.wait_empty(i)
    _put(tiles, i, ROW, END)
    tiles.fill(i)
    if (
        index == count + gl.num_programs(0) - 1
    ):  # the last fetch of the launch: zero for the next one
        gl.store(counter, 0)


@gluon.jit
def _load(
    q_desc, k_desc, v_desc, queries, keys, values, tiles, shape, group, WARPGROUPS: gl.constexpr
):
    ROWS: gl.constexpr = shape.BM // WARPGROUPS
    item = 0
    tile = 0
    tiles.wait_full(0)
    row = _get(tiles, 0, ROW, 1)
    while row != END:
        b = _get(tiles, tile, BATCH, 1)
        h = _get(tiles, tile, HEAD, 1)
        tiles.release(tile)
        hk = h // group
        n = shape.blocks(row, shape.BM)
        full = queries.expect(tile, WARPGROUPS * q_desc.block_type.nbytes)
        for w in gl.static_range(WARPGROUPS):
            slot = queries.slots.index(tile % queries.stages * WARPGROUPS + w)
            tma.async_copy_global_to_shared(q_desc, [b, h, row + w * ROWS, 0], full, slot)
        keys.load(item, k_desc, [b, hk, (n - 1) * shape.BN, 0])
        for j in range(
            1, n
        ):  # a block's keys before the values of the block above it: the order of use
            col = (n - 1 - j) * shape.BN
            keys.load(item + 1, k_desc, [b, hk, col, 0])
            values.load(item, v_desc, [b, hk, col + shape.BN, 0])
            item += 1
        values.load(item, v_desc, [b, hk, 0, 0])
        item += 1
        tile += 1
        tiles.wait_full(tile)
        row = _get(tiles, tile, ROW, 1)


@gluon.jit
def _step(shape, q, keys, values, O, P, top, total, item, row, col, scale, MASK: gl.constexpr):
    """One more key block: scores of block `item`, values of the block before it."""
    S_LAYOUT: gl.constexpr = top.type.layout.parent
    O_LAYOUT: gl.constexpr = O.type.layout
    ROWS: gl.constexpr = q.shape[0]
    D: gl.constexpr = q.shape[1]
    zero = gl.zeros([ROWS, shape.BN], gl.float32, S_LAYOUT)
    keys.wait_full(item)
    k = keys.slot(item).reshape([shape.BN, D])
    S = warpgroup_mma(q, k.permute((1, 0)), zero, use_acc=False, is_async=True)
    values.wait_full(item - 1)
    v = values.slot(item - 1).reshape([shape.BN, D])
    Onext = warpgroup_mma(P, v, O, is_async=True)
    S = warpgroup_mma_wait(1, deps=(S,))
    keys.release(item)
    if MASK:
        S = gl.where(shape.visible(row, col), S, MASKED)
    new_top = gl.maximum(top, gl.max(S, 1))
    shift = new_top * scale
    decay = gl.exp2(top * scale - shift)
    p = gl.exp2(S * scale - gl.expand_dims(shift, 1))
    total = total * decay + gl.sum(p, 1)
    O, P = warpgroup_mma_wait(0, deps=(Onext, P))  # P is an operand in registers: kept until here
    values.release(item - 1)
    O = O * gl.expand_dims(gl.convert_layout(decay, gl.SliceLayout(1, O_LAYOUT)), 1)
    P = gl.convert_layout(p.to(P.dtype), P.type.layout)
    return O, P, new_top, total


@gluon.jit
def _attend(
    o_desc,
    lse_ptr,
    queries,
    keys,
    values,
    out,
    tiles,
    shape,
    heads,
    scale,
    WARPGROUPS: gl.constexpr,
    ME: gl.constexpr,
):
    BN: gl.constexpr = shape.BN
    ROWS: gl.constexpr = shape.BM // WARPGROUPS
    D: gl.constexpr = o_desc.block_type.shape[3]
    dtype: gl.constexpr = o_desc.dtype
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BN, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    my_out = out.index(ME)
    zero = gl.zeros([ROWS, BN], gl.float32, S_LAYOUT)
    item = 0
    tile = 0
    tiles.wait_full(0)
    tile_row = _get(tiles, 0, ROW, 4)
    while tile_row != END:
        n = shape.blocks(tile_row, shape.BM)
        first_row = tile_row + ME * ROWS
        row = first_row + gl.arange(0, ROWS, layout=gl.SliceLayout(1, S_LAYOUT))
        cols = gl.arange(0, BN, layout=gl.SliceLayout(0, S_LAYOUT))
        q = queries.slots.index(tile % queries.stages * WARPGROUPS + ME).reshape([ROWS, D])
        queries.wait_full(tile)
        if shape.CAUSAL:  # blocks that only the warpgroups after this one see: released unread
            mine = gl.minimum(shape.blocks(first_row, ROWS), n)
            for _ in range(mine, n):
                keys.wait_full(item)
                keys.release(item)
                values.wait_full(item)
                values.release(item)
                item += 1
            n = mine
        keys.wait_full(item)
        k = keys.slot(item).reshape([BN, D])
        S = warpgroup_mma(q, k.permute((1, 0)), zero, use_acc=False, is_async=True)
        S = warpgroup_mma_wait(0, deps=(S,))
        keys.release(item)
        S = gl.where(shape.visible(row, (n - 1) * BN + cols), S, MASKED)
        top = gl.max(S, 1)
        p = gl.exp2(S * scale - gl.expand_dims(top * scale, 1))
        total = gl.sum(p, 1)
        P = gl.convert_layout(p.to(dtype), P_LAYOUT)
        O = gl.zeros([ROWS, D], gl.float32, O_LAYOUT)
        item += 1
        done = 1
        if shape.CAUSAL and not shape.ALIGNED:  # the diagonal may cross a second block
            masked = n - shape.unmasked(first_row)
            for j in range(1, masked):
                col = (n - 1 - j) * BN + cols
                O, P, top, total = _step(
                    shape, q, keys, values, O, P, top, total, item, row, col, scale, True
                )
                item += 1
            done = gl.maximum(masked, 1)
        for _ in range(done, n):
            O, P, top, total = _step(
                shape, q, keys, values, O, P, top, total, item, row, cols, scale, False
            )
            item += 1
        queries.release(tile)
        values.wait_full(item - 1)
        v = values.slot(item - 1).reshape([BN, D])
        Onext = warpgroup_mma(P, v, O, is_async=True)
        O, P = warpgroup_mma_wait(0, deps=(Onext, P))
        values.release(item - 1)
        inverse = 1.0 / total
        lse = (top * scale + gl.log2(total)) * LN2
        if shape.CAUSAL:
            sees = row + shape.offset >= 0
            inverse = gl.where(sees, inverse, 0.0)
            lse = gl.where(sees, lse, float("-inf"))
        b = _get(tiles, tile, BATCH, 4)
        h = _get(tiles, tile, HEAD, 4)
        tiles.release(tile)
        gl.store(lse_ptr + (b * heads + h) * shape.Tq + row, lse, mask=row < shape.Tq)
        O = O * gl.expand_dims(gl.convert_layout(inverse, gl.SliceLayout(1, O_LAYOUT)), 1)
        tma.store_wait(0)
        my_out.reshape([ROWS, D]).store(O.to(dtype))
        fence_async_shared()
        tma.async_copy_shared_to_global(o_desc, [b, h, first_row, 0], my_out)
        tile += 1
        tiles.wait_full(tile)
        tile_row = _get(tiles, tile, ROW, 4)
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["Tq", "Tk", "offset", "rows", "heads", "group", "together"])
def attention_forward(
    q_desc,
    k_desc,
    v_desc,
    o_desc,
    lse_ptr,
    counter,
    Tq,
    Tk,
    offset,
    rows,
    heads,
    group,
    together,
    scale,
    BM: gl.constexpr,
    BN: gl.constexpr,
    STAGES: gl.constexpr,
    QUERY_STAGES: gl.constexpr,
    WARPGROUPS: gl.constexpr,
    CAUSAL: gl.constexpr,
    ALIGNED: gl.constexpr,
    REGISTERS: gl.constexpr,
):
    """o = softmax(s q k^T) v and lse, the log of the softmax's denominator.

    Over bf16 or fp16 tensors (B, H, T, D) of any strides that TMA takes: 1 for the last dimension,
    multiples of 16 bytes for the others. Persistent: any grid is right, one program per
    multiprocessor (or per tile, if these are fewer) is fast. num_warps 4.

    q_desc, o_desc: descriptors with box (1, 1, 64, D), D 64 or 128; k_desc, v_desc: (1, 1, BN, D).
    lse_ptr: float32 (B, H, Tq).
    counter: an int32 that is zero and will be zero again; not shared by launches that may overlap.
    Tq, Tk: at least 1. ALIGNED: offset is a multiple of 64.
    rows: B * H. heads: H. group: query heads per key head. together: see _schedule.
    scale: s * log2(e), above zero.
    """
    shape = Shape(Tq, Tk, offset, BM, BN, CAUSAL, ALIGNED)
    q_box: gl.constexpr = q_desc.block_type.shape
    k_box: gl.constexpr = k_desc.block_type.shape
    q_layout: gl.constexpr = q_desc.layout
    k_layout: gl.constexpr = k_desc.layout
    tile_layout: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    dtype: gl.constexpr = q_desc.dtype
    keys = ring(dtype, k_box, k_layout, STAGES, WARPGROUPS)
    values = ring(dtype, k_box, k_layout, STAGES, WARPGROUPS)
    queries = ring(dtype, q_box, q_layout, QUERY_STAGES, WARPGROUPS, WARPGROUPS)
    out = gl.allocate_shared_memory(dtype, [WARPGROUPS] + q_box, q_layout)  # noqa: RUF005
    tiles = ring(gl.int32, [1], tile_layout, 3, WARPGROUPS + 1, FIELDS)
    # Lists built by + lose their constexprs in Triton 3.6: the roles are spelled out.
    # fmt: off
    if WARPGROUPS == 2:
        gl.warp_specialize([
            (_attend, (o_desc, lse_ptr, queries, keys, values, out, tiles, shape, heads, scale,
                       WARPGROUPS, 0)),
            (_attend, (o_desc, lse_ptr, queries, keys, values, out, tiles, shape, heads, scale,
                       WARPGROUPS, 1)),
            (_load, (q_desc, k_desc, v_desc, queries, keys, values, tiles, shape, group,
                     WARPGROUPS)),
            (_schedule, (counter, tiles, shape, rows, heads, together)),
        ], [4, 1, 1], [REGISTERS, 24, 24])
    else:
        gl.warp_specialize([
            (_attend, (o_desc, lse_ptr, queries, keys, values, out, tiles, shape, heads, scale,
                       WARPGROUPS, 0)),
            (_attend, (o_desc, lse_ptr, queries, keys, values, out, tiles, shape, heads, scale,
                       WARPGROUPS, 1)),
            (_attend, (o_desc, lse_ptr, queries, keys, values, out, tiles, shape, heads, scale,
                       WARPGROUPS, 2)),
            (_load, (q_desc, k_desc, v_desc, queries, keys, values, tiles, shape, group,
                     WARPGROUPS)),
            (_schedule, (counter, tiles, shape, rows, heads, together)),
        ], [4, 4, 1, 1], [REGISTERS, REGISTERS, 24, 24])
    # fmt: on
