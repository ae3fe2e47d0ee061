"""Autocast: its state of this thread, and the casts of weights that the region keeps.

Note [Casts]: a weight that many operators of a step use is cast once. The casts lie in a hash table of
the thread, by address of the weight; the outermost region frees it. A cast counts only while the
weight has the memory and the version it had then, on the same stream, and, where gradients are
recorded, only if it has a history itself: it may come from a part of the step under no_grad.

A step casts the same weights as the one before. So the first cast of a region takes along those that the
last region used beside it: one kernel for all. A region that begins with another weight casts one by one.

The gradient of a cast weight is made in float32, where what makes it can do so: the product of a linear
layer stores its sums as they are, which saves the rounding and a cast (ops/autocast.pyx: pass_gradient).
"""
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from cpython.weakref cimport PyWeakref_NewRef
from libc.stdint cimport uint8_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free

from vibetensor.core.dtype cimport dtype_code, dtype_object
from vibetensor.core.tensor cimport F_REQUIRES_GRAD, Tensor
from vibetensor.core.types cimport *

cdef struct Cast:
    PyObject* source    # owned; NULL: a free slot
    PyObject* result    # owned
    char* data          # of the source when it was cast
    void* stream
    uint32_t version
    bint used

# Open addressing, never more than three quarters full.
cdef struct CastTable:
    Cast* slots
    size_t size         # a power of two
    size_t count

# Weak references to the weights whose casts the last region of a device used.
cdef list recent = []


cdef void* stream_of(Tensor t) noexcept:
    if t.device_type == VT_CPU:
        return NULL
    return vt_backends[t.device_type].current_stream(t.device_index)


cdef Cast* find(CastTable* table, PyObject* source) noexcept:
    """The slot of a weight, or the free one it would get."""
    cdef size_t i = (<uintptr_t>source >> 4) * <size_t>0x9E3779B97F4A7C15 >> 32
    while True:
        i &= table.size - 1
        if table.slots[i].source is source or table.slots[i].source is NULL:
            return &table.slots[i]
        i += 1


cdef PyObject* kept_cast(Tensor t, int dtype) noexcept:
    cdef Cast* c
    if vt_tls.casts is NULL:
        return NULL
    c = find(<CastTable*>vt_tls.casts, <PyObject*>t)
    if c.source is NULL or c.data != t.data or c.version != t.storage.version:
        return NULL
    if (<Tensor>c.result).dtype != dtype or c.stream is not stream_of(t):
        return NULL
    if vt_grad_enabled() and not (<Tensor>c.result).flags & F_REQUIRES_GRAD:
        return NULL
    c.used = True
    return c.result


cdef bint is_weight(Tensor t) noexcept:
    return (
        t.dtype == VT_F32 and t.flags & F_REQUIRES_GRAD and t.grad_fn is NULL and t.base is NULL
    )


cdef tuple cast_beside(Tensor t):
    cdef Tensor other
    if vt_tls.casts is not NULL or t.device_type == VT_CPU:
        return (t,)
    others = [reference() for reference in recent]
    if not any([other is t for other in others]):
        return (t,)
    weights = [t]
    for other in others:
        if (
            other is not None and other is not t and is_weight(other)
            and other.device_type == t.device_type and other.device_index == t.device_index
        ):
            weights.append(other)
    return tuple(weights)


cdef int grow(CastTable* table) except -1:
    cdef CastTable wider
    cdef size_t i
    wider.size = 2 * table.size if table.size else 64
    wider.count = table.count
    wider.slots = <Cast*>calloc(wider.size, sizeof(Cast))
    if wider.slots is NULL:
        raise MemoryError()
    for i in range(table.size):
        if table.slots[i].source is not NULL:
            find(&wider, table.slots[i].source)[0] = table.slots[i]
    free(table.slots)
    table[0] = wider
    return 0


cdef int keep_cast(Tensor t, Tensor cast, bint used) except -1:
    cdef CastTable* table
    cdef PyObject* old
    cdef Cast* c
    if vt_tls.casts is NULL:
        vt_tls.casts = calloc(1, sizeof(CastTable))
        if vt_tls.casts is NULL:
            raise MemoryError()
    table = <CastTable*>vt_tls.casts
    if 4 * (table.count + 1) > 3 * table.size:
        grow(table)
    c = find(table, <PyObject*>t)
    old = c.result
    if c.source is NULL:
        Py_INCREF(t)
        c.source = <PyObject*>t
        table.count += 1
    Py_INCREF(cast)
    c.result = <PyObject*>cast
    c.data = t.data
    c.version = t.storage.version
    c.stream = stream_of(t)
    c.used = used
    if old is not NULL:
        Py_DECREF(<object>old)  # last: it may run code that comes here
    return 0


def clear_autocast_cache():
    """Forgets all casts of weights. Outermost regions do so when they end."""
    global recent
    cdef CastTable* table = <CastTable*>vt_tls.casts
    cdef list used = []
    cdef size_t i
    vt_tls.casts = NULL
    if table is NULL:
        return
    for i in range(table.size):
        if table.slots[i].source is not NULL:
            if table.slots[i].used and (<Tensor>table.slots[i].source).device_type != VT_CPU:
                used.append(PyWeakref_NewRef(<object>table.slots[i].source, None))
            Py_DECREF(<object>table.slots[i].result)
            Py_DECREF(<object>table.slots[i].source)
    free(table.slots)
    free(table)
    if used:
        recent = used


# --- state ---------------------------------------------------------------------------------------------

cdef int device_code(object device_type) except -1:
    if device_type == "cuda":
        return VT_CUDA
    if device_type == "cpu":
        return VT_CPU
    if not isinstance(device_type, str):
        raise TypeError(f"autocast: device_type must be str, not {type(device_type).__name__}")
    raise RuntimeError(f"unknown device type for autocast: '{device_type}' (expected 'cuda' or 'cpu')")


def is_autocast_available(device_type):
    """Whether there is autocast for a type of device: for "cuda" and "cpu".

    >>> vt.amp.is_autocast_available("cpu")
    True
    """
    return device_type in ("cuda", "cpu")


def is_autocast_enabled(device_type="cuda"):
    """Whether this thread is in a region of autocast for `device_type`, "cuda" or "cpu".

    >>> with vt.autocast("cpu"):
    ...     vt.is_autocast_enabled("cpu"), vt.is_autocast_enabled("cuda")
    (True, False)
    """
    return vt_tls.autocast_devices >> device_code(device_type) & 1 != 0


def set_autocast_enabled(device_type, enabled):
    """Switches autocast on or off for `device_type`, for this thread."""
    cdef uint32_t bit = <uint32_t>1 << device_code(device_type)
    if not isinstance(enabled, bool):
        raise TypeError(
            "set_autocast_enabled(): argument 'enabled' (position 2) must be bool, not "
            f"{type(enabled).__name__}"
        )
    vt_autocast_exchange(
        vt_tls.autocast_devices | bit if enabled else vt_tls.autocast_devices & ~bit
    )


def get_autocast_dtype(device_type):
    """The low precision that autocast uses on `device_type`.

    >>> vt.get_autocast_dtype("cuda"), vt.get_autocast_dtype("cpu")
    (vibetensor.float16, vibetensor.bfloat16)
    """
    return dtype_object(vt_tls.autocast_dtype[device_code(device_type)])


def set_autocast_dtype(device_type, dtype):
    """Sets the low precision that autocast uses on `device_type`: float16 or bfloat16."""
    cdef int device = device_code(device_type)
    cdef int code = dtype_code(dtype)
    if code != VT_F16 and code != VT_BF16:
        raise RuntimeError(f"autocast runs in float16 or bfloat16, not in {dtype}")
    vt_tls.autocast_dtype[device] = <uint8_t>code


def is_autocast_cache_enabled():
    """Whether regions keep the casts of weights."""
    return not vt_tls.autocast_uncached


def set_autocast_cache_enabled(enabled):
    """Lets regions keep the casts of weights, or not."""
    vt_tls.autocast_uncached = not enabled


def autocast_increment_nesting():
    """Counts a region that begins; the number of regions this thread is in."""
    vt_tls.autocast_nesting += 1
    return vt_tls.autocast_nesting


def autocast_decrement_nesting():
    """Counts a region that ends; the number of regions this thread is still in."""
    vt_tls.autocast_nesting -= 1
    return vt_tls.autocast_nesting
