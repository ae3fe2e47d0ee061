"""What the Hopper attention kernels share: rings of slots, and the instructions that Gluon lacks.

Gluon is Triton's lower level: layouts, shared memory, barriers and warp roles are spelled out.
`_aggregate` and the builder method behind `tma_reduce_add` are private names of Triton 3.6, which
the package pins.
"""

from triton._C.libtriton import ir
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language._core import builtin
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma
from triton.language.core import _aggregate as aggregate


@aggregate
class Ring:
    """Slots of shared memory used in turn: item i lies in slot i % stages.

    One partition of the warps fills a slot once it is empty; its readers wait until it is full and
    release it. Each slot has two barriers, whose phase flips on every round of the ring.
    """

    slots: gl.shared_memory_descriptor
    full: gl.shared_memory_descriptor
    empty: gl.shared_memory_descriptor
    stages: gl.constexpr

    @gluon.constexpr_function
    def __init__(self, slots, full, empty, stages):
        self.slots = slots
        self.full = full
        self.empty = empty
        self.stages = gl.constexpr(stages)

    @gluon.jit
    def slot(self, i):
        return self.slots.index(i % self.stages)

    @gluon.jit
    def wait_full(self, i):
        mbarrier.wait(self.full.index(i % self.stages), (i // self.stages) & 1)

    @gluon.jit
    def wait_empty(self, i):
        mbarrier.wait(self.empty.index(i % self.stages), ((i // self.stages) & 1) ^ 1)

    @gluon.jit
    def fill(self, i):
        """The slot of item i, written by ordinary stores, is full."""
        mbarrier.arrive(self.full.index(i % self.stages), count=1)

    @gluon.jit
    def release(self, i):
        mbarrier.arrive(self.empty.index(i % self.stages), count=1)

    @gluon.jit
    def expect(self, i, nbytes: gl.constexpr):
        """Wait for the slot of item i, announce the bytes to come; returns its full barrier."""
        self.wait_empty(i)
        full = self.full.index(i % self.stages)
        mbarrier.expect(full, nbytes)
        return full

    @gluon.jit
    def load(self, i, desc, coord):
        """Fill the slot of item i with one TMA box."""
        full = self.expect(i, desc.block_type.nbytes)
        tma.async_copy_global_to_shared(desc, coord, full, self.slot(i))


@gluon.jit
def _barriers(stages: gl.constexpr, arrivals: gl.constexpr):
    """A barrier for each slot of a ring; so many arrivals complete its phase.

    Somebody must use them. The compiler gives the memory of barriers that nobody waits for to other
    data, and where a barrier was initialised nothing else may lie: when another process preempts
    the kernel, an H100 changes these bytes.
    """
    barriers = gl.allocate_shared_memory(gl.int64, [stages, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(stages):
        mbarrier.init(barriers.index(i), count=arrivals)
    return barriers


@gluon.jit
def ring(
    dtype: gl.constexpr,
    box: gl.constexpr,
    layout: gl.constexpr,
    stages: gl.constexpr,
    readers: gl.constexpr,
    boxes: gl.constexpr = 1,
):
    """A ring of `stages` slots of `boxes` boxes each, for `readers` partitions that release it."""
    shape: gl.constexpr = [stages * boxes] + box  # noqa: RUF005 (no * in kernels)
    slots = gl.allocate_shared_memory(dtype, shape, layout)
    return Ring(slots, _barriers(stages, 1), _barriers(stages, readers), stages)


@gluon.jit
def ring_beside(other, dtype: gl.constexpr, box: gl.constexpr, layout: gl.constexpr):
    """A ring whose slots are emptied together with those of `other`."""
    shape: gl.constexpr = [other.stages] + box  # noqa: RUF005
    slots = gl.allocate_shared_memory(dtype, shape, layout)
    return Ring(slots, _barriers(other.stages, 1), other.empty, other.stages)


@gluon.jit
def uniform(x):
    """The same number, known to be equal in all lanes.

    A value read back from shared memory is per-thread to ptxas: every loop and descriptor that
    depends on it then pays for divergence (R2UR, BSSY, WARPSYNC). A shuffle from lane 0 ends that.
    """
    return gl.inline_asm_elementwise(
        "shfl.sync.idx.b32 $0, $1, 0, 31, 0xffffffff;",
        "=r,r",
        [x],
        dtype=gl.int32,
        is_pure=True,
        pack=1,
    )


@builtin
def tma_reduce_add(tensor_desc, coord, src, _semantic=None):
    """Add a tile of shared memory to global memory: tma.async_copy_shared_to_global, but adding."""
    coord = _semantic._convert_to_ir_values(coord, require_i64=False)
    kind = ir.DESCRIPTOR_REDUCE_KIND.ADD
    _semantic.builder.create_async_tma_reduce(kind, tensor_desc.handle, coord, src.handle)


@gluon.jit
def tma_complete():
    """Wait until this warp's TMA writes are performed; tma.store_wait: until they are read."""
    gl.inline_asm_elementwise(
        "cp.async.bulk.wait_group 0; mov.b32 $0, $1;",
        "=r,r",
        [gl.to_tensor(0)],
        dtype=gl.int32,
        is_pure=False,
        pack=1,
    )
    gl.thread_barrier()


@gluon.jit
def fence_async():
    """Order what this thread has seen before its later TMA accesses of global memory."""
    gl.inline_asm_elementwise(
        "fence.proxy.async.global; mov.b32 $0, $1;",
        "=r,r",
        [gl.to_tensor(0)],
        dtype=gl.int32,
        is_pure=False,
        pack=1,
    )
