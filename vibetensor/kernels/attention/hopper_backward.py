"""Attention backward for Hopper (sm_90a): a fused kernel between two light ones, Gluon and Triton.

attention_backward takes one block of BN keys per program: eight consumer warps, one warp that loads
by TMA, one that writes dQ by TMA. dK and dV stay in registers while the program walks over the
query blocks (of every query head of its key head); P^T and dS^T feed dV += P^T dO and dK += dS^T Q
straight from registers; dS goes through shared memory for dQ = dS K, which is summed in a float32
buffer, so five products do the work of seven. The order of these additions is not fixed: dQ is not
bitwise reproducible, dK and dV are.

The kernels around it are in hopper_backward_rows.py. Formulas: FlashAttention-2 (Dao, 2023),
section 3.1.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from vibetensor.kernels.attention.hopper_common import (
    aggregate,
    fence_async,
    ring,
    ring_beside,
    tma_complete,
    tma_reduce_add,
)


@aggregate
class Work:
    """The key block of this program and the query blocks that see it."""

    n: gl.tensor
    batch: gl.tensor
    key_head: gl.tensor
    heads: gl.tensor
    group: gl.tensor
    Tk: gl.tensor
    offset: gl.tensor
    first: gl.tensor
    whole: gl.tensor
    last: gl.tensor
    BM: gl.constexpr
    BN: gl.constexpr
    CAUSAL: gl.constexpr
    GROUPED: gl.constexpr

    @gluon.constexpr_function
    def __init__(
        self,
        n,
        batch,
        key_head,
        heads,
        group,
        Tk,
        offset,
        first,
        whole,
        last,
        BM,
        BN,
        CAUSAL,
        GROUPED,
    ):
        self.n = n
        self.batch = batch
        self.key_head = key_head
        self.heads = heads
        self.group = group
        self.Tk = Tk
        self.offset = offset
        self.first = first
        self.whole = whole
        self.last = last
        self.BM = gl.constexpr(BM)
        self.BN = gl.constexpr(BN)
        self.CAUSAL = gl.constexpr(CAUSAL)
        self.GROUPED = gl.constexpr(GROUPED)

    @gluon.jit
    def query_heads(self):
        n = 1
        if self.GROUPED:
            n = self.group
        return n


@gluon.jit
def _work(
    padded,
    Tk,
    offset,
    rows,
    heads,
    group,
    together,
    BM: gl.constexpr,
    BN: gl.constexpr,
    CAUSAL: gl.constexpr,
    GROUPED: gl.constexpr,
):
    """`together` rows of the (batch, key head) table are walked at the same time, and of these the
    first keys, which most rows see, first. Query blocks [first, whole) need a mask, [whole, last)
    none.
    """
    index = gl.program_id(0)
    key_blocks = (Tk + BN - 1) // BN
    first = index // (together * key_blocks) * together
    rest = index - first * key_blocks
    width = gl.minimum(together, rows - first)
    n = rest // width
    bh = first + rest - n * width
    key_heads = heads // group
    batch = bh // key_heads
    last = padded // BM
    seen = 0
    whole = 0
    if CAUSAL:
        seen = gl.minimum(gl.maximum(n * BN - offset, 0) // BM, last)
        seen = gl.where(n == 0, 0, seen)  # so that every query block has a contributor
        whole = (gl.maximum(n * BN + BN - 1 - offset, 0) + BM - 1) // BM
    whole = gl.where(n * BN + BN > Tk, last, gl.minimum(whole, last))
    return Work(
        n,
        batch,
        bh - batch * key_heads,
        heads,
        group,
        Tk,
        offset,
        seen,
        whole,
        last,
        BM,
        BN,
        CAUSAL,
        GROUPED,
    )


@gluon.jit
def _load(
    q_desc,
    k_desc,
    v_desc,
    do_desc,
    lse_desc,
    delta_desc,
    keys,
    queries,
    grads,
    lses,
    deltas,
    kv_full,
    work,
    padded,
):
    key = work.n * work.BN
    mbarrier.expect(kv_full, 2 * k_desc.block_type.nbytes)
    tma.async_copy_global_to_shared(
        k_desc, [work.batch, work.key_head, key, 0], kv_full, keys.index(0)
    )
    tma.async_copy_global_to_shared(
        v_desc, [work.batch, work.key_head, key, 0], kv_full, keys.index(1)
    )
    i = 0
    for g in range(work.query_heads()):
        h = work.key_head * work.group + g
        base = (work.batch * work.heads + h) * padded
        for j in range(work.first, work.last):
            row = (work.last - 1 - (j - work.first)) * work.BM
            full = queries.expect(i, q_desc.block_type.nbytes + lse_desc.block_type.nbytes)
            tma.async_copy_global_to_shared(q_desc, [work.batch, h, row, 0], full, queries.slot(i))
            tma.async_copy_global_to_shared(
                lse_desc, [base + row], full, lses.index(i % queries.stages)
            )
            full = grads.full.index(i % grads.stages)  # the slot was emptied with that of q
            mbarrier.expect(full, do_desc.block_type.nbytes + delta_desc.block_type.nbytes)
            tma.async_copy_global_to_shared(do_desc, [work.batch, h, row, 0], full, grads.slot(i))
            tma.async_copy_global_to_shared(
                delta_desc, [base + row], full, deltas.index(i % grads.stages)
            )
            i += 1


@gluon.jit
def _add(sum_desc, sums, stored_ptr, work, padded, CLEARED: gl.constexpr):
    """Sum the dQ tiles in memory, which is CLEARED or which the first key block stores to.

    Then the others add behind it: stored_ptr counts, per query head, the tiles that it has stored,
    and every block walks them in the same order. Programs start in the order of their numbers, so a
    block only waits for one that runs or has run.
    """
    i = 0
    for g in range(work.query_heads()):
        bh = work.batch * work.heads + work.key_head * work.group + g
        stored = 0
        for j in range(work.first, work.last):
            m = work.last - 1 - (j - work.first)
            at = bh * padded + m * work.BM
            sums.wait_full(i)
            if CLEARED:
                tma_reduce_add(sum_desc, [at, 0], sums.slot(i))
                tma.store_wait(0)
            elif work.n == 0:
                tma.async_copy_shared_to_global(sum_desc, [at, 0], sums.slot(i))
                tma_complete()
                gl.atomic_add(stored_ptr + bh, 1)
            else:
                while stored < work.last - m:
                    stored = gl.atomic_add(stored_ptr + bh, 0)
                    fence_async()
                tma_reduce_add(sum_desc, [at, 0], sums.slot(i))
                tma.store_wait(0)
            sums.release(i)
            i += 1


@gluon.jit
def _step(
    k, v, queries, grads, lses, deltas, ds_s, sums, dK, dV, i, work, row, scale, MASK: gl.constexpr
):
    """One query block: adds to dK and dV in registers and to dQ in memory."""
    BM: gl.constexpr = work.BM
    BN: gl.constexpr = work.BN
    D: gl.constexpr = k.shape[1]
    dtype: gl.constexpr = k.dtype
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, BM, 16])
    A_LAYOUT: gl.constexpr = gl.DotOperandLayout(
        0, gl.NVMMADistributedLayout([3, 0], [8, 1], [16, D, 16]), 2
    )
    DQ_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 2], [16, D // 2, 16])
    zero = gl.zeros([BN, BM], gl.float32, S_LAYOUT)
    q = queries.slot(i).reshape([BM, D])
    do = grads.slot(i).reshape([BM, D])
    queries.wait_full(i)
    S = warpgroup_mma(k, q.permute((1, 0)), zero, use_acc=False, is_async=True)
    lse = lses.index(i % queries.stages).load(gl.SliceLayout(0, S_LAYOUT))
    grads.wait_full(i)
    dP = warpgroup_mma(v, do.permute((1, 0)), zero, use_acc=False, is_async=True)
    S = warpgroup_mma_wait(1, deps=(S,))
    p = gl.exp2(S * scale - gl.expand_dims(lse, 0))
    if MASK:
        key = work.n * BN + gl.arange(0, BN, layout=gl.SliceLayout(1, S_LAYOUT))
        ok = (key < work.Tk)[:, None]
        if work.CAUSAL:
            query = row + work.offset + gl.arange(0, BM, layout=gl.SliceLayout(0, S_LAYOUT))
            ok = ok & (query[None, :] >= key[:, None])
        p = gl.where(ok, p, 0.0)
    P = gl.convert_layout(p.to(dtype), A_LAYOUT)
    delta = deltas.index(i % grads.stages).load(gl.SliceLayout(0, S_LAYOUT))
    dP = warpgroup_mma_wait(0, deps=(dP,))
    dV = warpgroup_mma(P, do, dV, is_async=True)
    ds = (p * (dP - gl.expand_dims(delta, 0))).to(dtype)
    ds_s.store(ds)
    dS = gl.convert_layout(ds, A_LAYOUT)
    fence_async_shared()
    gl.thread_barrier()
    dQ = gl.zeros([BM, D], gl.float32, DQ_LAYOUT)
    dQ = warpgroup_mma(ds_s.permute((1, 0)), k, dQ, use_acc=False, is_async=True)
    dK = warpgroup_mma(dS, q, dK, is_async=True)
    dQ, dV, P = warpgroup_mma_wait(1, deps=(dQ, dV, P))
    sums.wait_empty(i)
    sums.slot(i).store(dQ)
    fence_async_shared()
    sums.fill(i)
    dK, dS = warpgroup_mma_wait(0, deps=(dK, dS))
    queries.release(i)
    return dK, dV


@gluon.jit
def _accumulate(
    dk_desc, dv_desc, keys, queries, grads, lses, deltas, ds_s, sums, kv_full, work, scale, scale2
):
    BM: gl.constexpr = work.BM
    BN: gl.constexpr = work.BN
    D: gl.constexpr = dk_desc.block_type.shape[3]
    dtype: gl.constexpr = dk_desc.dtype
    KV_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, D, 16])
    dK = gl.zeros([BN, D], gl.float32, KV_LAYOUT)
    dV = gl.zeros([BN, D], gl.float32, KV_LAYOUT)
    k = keys.index(0).reshape([BN, D])
    v = keys.index(1).reshape([BN, D])
    mbarrier.wait(kv_full, 0)
    i = 0
    for _ in range(work.query_heads()):
        for _ in range(gl.maximum(work.first, work.whole), work.last):
            dK, dV = _step(
                k, v, queries, grads, lses, deltas, ds_s, sums, dK, dV, i, work, 0, scale2, False
            )
            i += 1
        for j in range(work.first, work.whole):
            row = (work.whole - 1 - (j - work.first)) * BM
            dK, dV = _step(
                k, v, queries, grads, lses, deltas, ds_s, sums, dK, dV, i, work, row, scale2, True
            )
            i += 1
    k.store((dK * scale).to(dtype))
    v.store(dV.to(dtype))
    fence_async_shared()
    key = work.n * BN
    tma.async_copy_shared_to_global(dk_desc, [work.batch, work.key_head, key, 0], keys.index(0))
    tma.async_copy_shared_to_global(dv_desc, [work.batch, work.key_head, key, 0], keys.index(1))
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["Tk", "padded", "offset", "rows", "heads", "group", "together"])
def attention_backward(
    q_desc,
    k_desc,
    v_desc,
    do_desc,
    dk_desc,
    dv_desc,
    sum_desc,
    lse_desc,
    delta_desc,
    stored_ptr,
    Tk,
    padded,
    offset,
    rows,
    heads,
    group,
    together,
    scale,
    scale2,
    BM: gl.constexpr,
    BN: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    GROUPED: gl.constexpr,
    CLEARED: gl.constexpr,
    SUM_STAGES: gl.constexpr,
):
    """Gradients of k and v, and the float32 sum of that of q. num_warps 8.

    Grid: ceil(Tk / BN) * B * key heads. Descriptors over (B, H, T, D): q_desc, do_desc with box
    (1, 1, BM, D); k_desc, v_desc, dk_desc, dv_desc with box (1, 1, BN, D).
    sum_desc: float32 (B * H * padded, D), box (BM, D). lse_desc (lse2), delta_desc: float32
    (B * H * padded), box (BM). stored_ptr: int32 (B * H), zeros; CLEARED: unused, the sum is zeros.
    padded: Tq rounded up to BM. rows: B * key heads. heads: query heads. group: query heads per key
    head; GROUPED: more than 1. together: see _work. scale: that of the softmax, above zero.
    scale2: scale * log2(e).
    """
    q_box: gl.constexpr = q_desc.block_type.shape
    k_box: gl.constexpr = k_desc.block_type.shape
    D: gl.constexpr = q_desc.block_type.shape[3]
    q_layout: gl.constexpr = q_desc.layout
    do_layout: gl.constexpr = do_desc.layout
    dtype: gl.constexpr = q_desc.dtype
    ds_layout: gl.constexpr = gl.NVMMASharedLayout.get_default_for([BN, BM], dtype)
    keys = gl.allocate_shared_memory(dtype, [2] + k_box, k_desc.layout)  # noqa: RUF005
    queries = ring(dtype, q_box, q_layout, STAGES, 1)
    grads = ring_beside(queries, dtype, q_box, do_layout)
    lses = gl.allocate_shared_memory(gl.float32, [STAGES, BM], lse_desc.layout)
    deltas = gl.allocate_shared_memory(gl.float32, [STAGES, BM], delta_desc.layout)
    ds_s = gl.allocate_shared_memory(dtype, [BN, BM], ds_layout)
    sum_layout: gl.constexpr = sum_desc.layout
    sums = ring(gl.float32, [BM, D], sum_layout, SUM_STAGES, 1)
    kv_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(kv_full, count=1)
    work = _work(padded, Tk, offset, rows, heads, group, together, BM, BN, CAUSAL, GROUPED)
    # fmt: off
    gl.warp_specialize([
        (_accumulate, (dk_desc, dv_desc, keys, queries, grads, lses, deltas, ds_s, sums, kv_full,
                       work, scale, scale2)),
        (_load, (q_desc, k_desc, v_desc, do_desc, lse_desc, delta_desc, keys, queries, grads, lses,
                 deltas, kv_full, work, padded)),
        (_add, (sum_desc, sums, stored_ptr, work, padded, CLEARED)),
    ], [1, 1], [24, 24])
    # fmt: on
