"""Fitting, summing and accumulating gradients (see gradients.pxd)."""
from vibetensor.autograd.basics cimport *
from vibetensor.autograd.node cimport Node
from vibetensor.core.dtype cimport device_object, is_complex_code
from vibetensor.core.tensor cimport *

cdef extern from "Python.h":
    void incref "Py_INCREF"(PyObject*) noexcept
    void decref "Py_DECREF"(PyObject*) noexcept
    unsigned long PyThread_get_thread_ident() noexcept

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int microseconds)


# --- fitting --------------------------------------------------------------------------------------

cdef str describe(PyObject* source):
    if source is NULL:
        return "invalid gradient"
    return f"Function {(<Node>source).name.decode()} returned an invalid gradient"


cdef bint expandable(const vt_meta* meta, Tensor g) noexcept:
    """Whether a tensor of meta's shape broadcasts to the shape of `g`."""
    cdef int i, offset = g.ndim - meta.ndim
    if offset < 0:
        return False
    for i in range(meta.ndim):
        if meta.sizes[i] != 1 and meta.sizes[i] != g.sizes[offset + i]:
            return False
    return True


cdef bint same_sizes(const vt_meta* meta, Tensor g) noexcept:
    cdef int i
    if g.ndim != meta.ndim:
        return False
    for i in range(g.ndim):
        if g.sizes[i] != meta.sizes[i]:
            return False
    return True


cdef PyObject* conform(PyObject* g, const vt_meta* meta, PyObject* source, int index) except NULL:
    cdef Tensor t = <Tensor>g
    decref(g)  # `t` holds it now
    if meta.ndim == 0 and t.device_type != meta.device_type and meta.device_type == VT_CPU:
        # A 0-d tensor of the host took part in an operator of a device.
        t = to_device(t if t.ndim == 0 else sum_to(t, 0, NULL), VT_CPU, -1)
    if t.device_type != meta.device_type or t.device_index != meta.device_index:
        raise RuntimeError(
            f"{describe(source)} at index {index} - expected device "
            f"{device_object(meta.device_type, meta.device_index)} but got "
            f"{device_object(t.device_type, t.device_index)}"
        )
    if not same_sizes(meta, t):
        if not expandable(meta, t):
            raise RuntimeError(
                f"{describe(source)} at index {index} - got {list(tensor_shape(t))} but expected "
                f"shape compatible with {[meta.sizes[i] for i in range(meta.ndim)]}"
            )
        t = sum_to(t, meta.ndim, meta.sizes)
    if t.dtype != meta.dtype:
        if is_complex_code(t.dtype) and not is_complex_code(meta.dtype):
            t = real_part(t)
        if t.dtype != meta.dtype:
            t = cast(t, meta.dtype)
    incref(<PyObject*>t)
    return <PyObject*>t


# --- summing --------------------------------------------------------------------------------------

cdef inline bint may_write(PyObject* g) noexcept:
    """Nobody can notice if the engine writes into this gradient."""
    cdef vt_storage* s = (<Tensor>g).storage
    return (
        sole_owner(g) and not (<Tensor>g).flags & (F_REQUIRES_GRAD | F_UNTRACKED | F_INFERENCE)
        and vt_storage_is_own(s) and not s.flags & VT_STORAGE_READONLY
    )


cdef int sum_into(PyObject** slot, PyObject* g) except -1:
    cdef PyObject* old = slot[0]
    cdef Tensor total
    if old is NULL:
        slot[0] = g
        return 0
    try:
        if not vt_grad_enabled() and may_write(old) and tensor_is_dense(<Tensor>old):
            add_(<Tensor>old, <Tensor>g)
            return 0
        if not vt_grad_enabled() and may_write(g) and tensor_is_dense(<Tensor>g):
            add_(<Tensor>g, <Tensor>old)
            total = <Tensor>g
        else:
            total = add(<Tensor>old, <Tensor>g)
        incref(<PyObject*>total)
        slot[0] = <PyObject*>total
        decref(old)
    finally:
        decref(g)
    return 0


# --- leaves ---------------------------------------------------------------------------------------
# Two threads may accumulate into one leaf, and an operator on large tensors releases the GIL. A
# leaf that a thread is working on stands in this list; another thread waits until it does not.

cdef enum:
    MAX_BUSY = 64

cdef PyObject* busy[MAX_BUSY]
cdef unsigned long busy_thread[MAX_BUSY]
cdef int num_busy = 0


cdef bint must_wait(PyObject* leaf, unsigned long thread) noexcept:
    cdef int i
    for i in range(num_busy):
        if busy[i] is leaf and busy_thread[i] != thread:
            return True
    return num_busy == MAX_BUSY


cdef int acquire(PyObject* leaf) except -1:
    global num_busy
    cdef unsigned long thread = PyThread_get_thread_ident()
    while num_busy > 0 and must_wait(leaf, thread):
        with nogil:
            usleep(20)
    busy[num_busy] = leaf
    busy_thread[num_busy] = thread
    num_busy += 1
    return 0


cdef void release(PyObject* leaf) noexcept:
    global num_busy
    cdef unsigned long thread = PyThread_get_thread_ident()
    cdef int i = num_busy - 1
    while busy[i] is not leaf or busy_thread[i] != thread:
        i -= 1
    num_busy -= 1
    busy[i] = busy[num_busy]
    busy_thread[i] = busy_thread[num_busy]


cdef bint obeys_layout(Tensor g, Tensor leaf) noexcept:
    """The gradient has the strides of a dense leaf, and is contiguous for any other leaf."""
    cdef int i
    if g.flags & F_CONTIGUOUS and leaf.flags & F_CONTIGUOUS:
        return True
    if not tensor_is_dense(leaf):
        return g.flags & F_CONTIGUOUS != 0
    for i in range(g.ndim):
        if g.strides[i] != leaf.strides[i] and g.sizes[i] != 1:
            return False
    return True


cdef bint may_steal(PyObject* g, Tensor leaf) noexcept:
    """Nobody else holds the gradient or its memory, which is no larger than it must be."""
    cdef Tensor t = <Tensor>g  # one reference more than the caller's
    cdef vt_storage* s = t.storage
    cdef intptr_t owners = 1 if t.base is NULL else 2
    return (
        Py_REFCNT(g) == 2 and s.refcount == owners
        and (t.base is NULL or Py_REFCNT(t.base) == 1)
        and not t.flags & (F_REQUIRES_GRAD | F_UNTRACKED | F_INFERENCE)
        and vt_storage_is_own(s) and not s.flags & VT_STORAGE_READONLY
        and s.nbytes == <size_t>(t.numel * itemsize(t.dtype))
        and obeys_layout(t, leaf)
    )


cdef void make_plain(PyObject* g) noexcept:
    """A stolen gradient is a view of nothing."""
    cdef PyObject* base = (<Tensor>g).base
    (<Tensor>g).flags &= ~(F_VIEW_FLAGS | F_WRAPPED_NUMBER)
    (<Tensor>g).keyset &= ~<uint32_t>KEYS_AUTOGRAD
    if base is not NULL:
        (<Tensor>g).base = NULL
        decref(base)


cdef int accumulate_leaf(Tensor leaf, PyObject* g) except -1:
    cdef PyObject* me = <PyObject*>leaf
    cdef PyObject* old
    cdef Tensor t
    acquire(me)
    try:
        old = leaf.grad
        if old is NULL and not vt_grad_enabled() and may_steal(g, leaf):
            make_plain(g)
            leaf.grad = g
            g = NULL
            return 0
        if old is not NULL and not vt_grad_enabled():
            add_(<Tensor>old, <Tensor>g)
            return 0
        if old is not NULL:
            t = add(<Tensor>old, <Tensor>g)
        elif vt_grad_enabled():
            t = clone(<Tensor>g)
        else:
            t = tensor_empty_like(leaf, (<Tensor>g).dtype)
            copy_(t, <Tensor>g)
        incref(<PyObject*>t)
        old = leaf.grad  # the user may have set it meanwhile
        leaf.grad = <PyObject*>t
        if old is not NULL:
            decref(old)
    finally:
        release(me)
        if g is not NULL:
            decref(g)
    return 0
