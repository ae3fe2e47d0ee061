"""Methods about place and type: ``to``, ``cuda``, ``cpu``, ``float`` ..., pinned memory, streams."""
from vibetensor.core.device cimport parse_device
from vibetensor.core.dtype cimport dtype, dtype_code, dtype_name
from vibetensor.core.errors cimport backend_out_of_memory
from vibetensor.core.iterator cimport copy_into
from vibetensor.core.tensor cimport Tensor, tensor_alloc, tensor_update
from vibetensor.core.tensor import install
from vibetensor.core.types cimport *
from vibetensor.ops.entries cimport op__clone, op__to_copy, op__to_device

dtype_type = dtype  # `to` has a parameter of that name


cdef Tensor convert(Tensor self, object device, int code, bint non_blocking, bint copy):
    cdef int device_type
    cdef int8_t index
    if device is not None:
        parse_device(device, &device_type, &index)
        if device_type == VT_META:
            raise NotImplementedError("to(): tensors without data (device 'meta') are not supported")
        if device_type != self.device_type or index != self.device_index:
            return op__to_device(self, self.dtype if code < 0 else code, device_type, index,
                                 non_blocking)
    if code >= 0 and code != self.dtype:
        return op__to_copy(self, code)
    return op__clone(self, False) if copy else self


def to(self, *args, device=None, dtype=None, non_blocking=False, copy=False, memory_format=None):
    """The tensor with another dtype or on another device: ``to(dtype)``, ``to(device, dtype)`` or
    ``to(other)``, each followed by ``non_blocking`` and ``copy``. It is the tensor itself where nothing
    changes, unless `copy`.

    With ``non_blocking=True`` a copy between a device and pinned host memory is only enqueued on the
    current stream. The memory is kept until the copy is done; what it holds must not be read (or, of a
    copy to the device, changed) before the stream has been waited for.

    >>> vt.ones(1).to(vt.int64)
    tensor([1])
    """
    cdef int flags = 0
    for a in args:
        if isinstance(a, Tensor):
            device, dtype = a.device, a.dtype
        elif isinstance(a, bool):
            if flags == 0:
                non_blocking = a
            else:
                copy = a
            flags += 1
        elif isinstance(a, dtype_type):
            dtype = a
        elif a is not None:
            device = a
    return convert(<Tensor?>self, device, dtype_code(dtype), non_blocking, copy)


def _conversion(name, int code):
    def method(self):
        return convert(<Tensor?>self, None, code, False, False)

    method.__name__ = name
    method.__qualname__ = f"Tensor.{name}"
    method.__doc__ = f"``self.to(vibetensor.{dtype_name(code)})``."
    install(name, method)


def cpu(self, memory_format=None):
    """The tensor in host memory."""
    return convert(<Tensor?>self, "cpu", -1, False, False)


def cuda(self, device=None, non_blocking=False, memory_format=None):
    """The tensor on a CUDA device, by default the current one.

    RuntimeError, with the reason, where there is none.
    """
    if device is None:
        device = "cuda"
    return convert(<Tensor?>self, device, -1, non_blocking, False)


def type_as(self, other):
    """The tensor in the dtype and on the device of `other`."""
    cdef Tensor like = <Tensor?>other
    return convert(<Tensor?>self, like.device, like.dtype, False, False)


def get_device(self):
    """The index of the tensor's CUDA device; -1 on the CPU."""
    return (<Tensor?>self).device_index


# --- pinned memory ---------------------------------------------------------------------------------------

cdef int need_cuda() except -1:
    cdef int device_type
    cdef int8_t index
    return parse_device("cuda", &device_type, &index)


cdef Tensor pinned_like(Tensor like):
    """An uninitialised contiguous CPU tensor in page-locked memory."""
    cdef Tensor t
    cdef int i
    cdef int64_t step = 1
    need_cuda()
    t = tensor_alloc(like.ndim)
    for i in range(like.ndim - 1, -1, -1):
        t.sizes[i] = like.sizes[i]
        t.strides[i] = step
        step *= like.sizes[i] if like.sizes[i] > 1 else 1
    t.storage = vt_backends[VT_CUDA].allocate_pinned(like.numel * like.itemsize)
    if t.storage is NULL:
        backend_out_of_memory(VT_CUDA)
    t.data = t.storage.data
    t.dtype = like.dtype
    t.device_type = VT_CPU
    t.device_index = -1
    t.keyset = KEYS_CPU
    tensor_update(t)
    return t


cdef bint in_pinned_memory(Tensor t) noexcept:
    if t.device_type != VT_CPU:
        return False
    if t.storage.flags & VT_STORAGE_PINNED:
        return True
    return vt_backends[VT_CUDA].ready and vt_backends[VT_CUDA].is_pinned(t.data)


def is_pinned(self, device=None):
    """Whether the tensor lies in page-locked host memory."""
    return in_pinned_memory(<Tensor?>self)


def pin_memory(self, device=None):
    """The tensor in page-locked host memory, from which copies to a device need not block: itself if it
    lies there, else a copy. RuntimeError for a tensor of a device."""
    cdef Tensor t = <Tensor?>self
    if t.device_type != VT_CPU:
        raise RuntimeError(f"cannot pin '{t.device.type}' tensor: only dense CPU tensors can be pinned")
    if in_pinned_memory(t):
        return t
    out = pinned_like(t)
    copy_into(out, t)
    return out


# --- streams ---------------------------------------------------------------------------------------------

def record_stream(self, stream):
    """Tells the allocator that `stream` uses this tensor too: once the tensor is gone, its memory is not
    handed out again before the work enqueued on `stream` so far is done.

    Needed where a tensor is used on another stream than the one it was allocated on.
    """
    cdef Tensor t = <Tensor?>self
    cdef void* handle
    if t.device_type != VT_CUDA:
        raise RuntimeError(f"record_stream(): expected a CUDA tensor, got one on {t.device}")
    handle = <void*><size_t>stream.cuda_stream
    vt_backends[VT_CUDA].record_stream(t.storage, handle)


for _name, _code in (
    ("float", VT_F32), ("double", VT_F64), ("half", VT_F16), ("bfloat16", VT_BF16),
    ("int", VT_I32), ("long", VT_I64), ("short", VT_I16), ("char", VT_I8), ("byte", VT_U8),
    ("bool", VT_BOOL), ("cfloat", VT_C64), ("cdouble", VT_C128),
):
    _conversion(_name, _code)

for _f in (to, cpu, cuda, type_as, get_device, is_pinned, pin_memory, record_stream):
    install(_f.__name__, _f)
