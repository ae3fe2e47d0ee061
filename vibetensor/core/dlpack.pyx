"""DLPack: exchange of tensors with other libraries without a copy.

An export hands out a structure that owns a reference to the storage; whoever consumed it calls its
deleter, on any thread. An import wraps the foreign memory in a storage whose end calls the
producer's deleter, once.
"""
from cpython.pycapsule cimport (
    PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetName,
)
from libc.stdlib cimport calloc, free

from vibetensor.core.device cimport device_object, parse_device
from vibetensor.core.interop cimport byte_range
from vibetensor.core.iterator cimport copy_into
from vibetensor.core.tensor cimport Tensor, itemsize, tensor_alloc, tensor_new_like, tensor_update
from vibetensor.core.tensor import install
from vibetensor.core.types cimport *

cdef extern from "core/dlpack_abi.h" nogil:
    enum:
        DLPACK_MAJOR, DLPACK_MINOR
        DL_CPU, DL_CUDA, DL_CUDA_HOST, DL_CUDA_MANAGED
        DL_INT, DL_UINT, DL_FLOAT, DL_BFLOAT, DL_COMPLEX, DL_BOOL
        DL_FLAG_READ_ONLY, DL_FLAG_IS_COPIED

    ctypedef struct DLDevice:
        int32_t device_type
        int32_t device_id

    ctypedef struct DLDataType:
        uint8_t code
        uint8_t bits
        uint16_t lanes

    ctypedef struct DLTensor:
        void* data
        DLDevice device
        int32_t ndim
        DLDataType dtype
        int64_t* shape
        int64_t* strides
        uint64_t byte_offset

    ctypedef struct DLManagedTensor:
        DLTensor dl_tensor
        void* manager_ctx
        void (*deleter)(DLManagedTensor*) noexcept nogil

    ctypedef struct DLPackVersion:
        uint32_t major
        uint32_t minor

    ctypedef struct DLManagedTensorVersioned:
        DLPackVersion version
        void* manager_ctx
        void (*deleter)(DLManagedTensorVersioned*) noexcept nogil
        uint64_t flags
        DLTensor dl_tensor

cdef extern from "Python.h":
    bint Py_IsInitialized() noexcept nogil


# --- export ---------------------------------------------------------------------------------------

cdef struct Export:
    # One of our exports: the structure the consumer sees, then what it rests on.
    DLManagedTensorVersioned versioned
    DLManagedTensor legacy
    vt_storage* storage
    int64_t dims[128]


cdef void free_export(void* context) noexcept with gil:
    vt_storage_decref((<Export*>context).storage)
    free(context)


cdef void delete_versioned(DLManagedTensorVersioned* managed) noexcept nogil:
    # At the very end of a process no interpreter is left; the memory goes with the process.
    if managed is not NULL and Py_IsInitialized():
        free_export(managed.manager_ctx)


cdef void delete_legacy(DLManagedTensor* managed) noexcept nogil:
    if managed is not NULL and Py_IsInitialized():
        free_export(managed.manager_ctx)


cdef void drop_capsule(object capsule) noexcept:
    """Runs when a capsule dies; one that nobody consumed still owns its tensor."""
    cdef DLManagedTensorVersioned* versioned
    cdef DLManagedTensor* legacy
    if PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <DLManagedTensorVersioned*>PyCapsule_GetPointer(capsule, "dltensor_versioned")
        versioned.deleter(versioned)
    elif PyCapsule_IsValid(capsule, "dltensor"):
        legacy = <DLManagedTensor*>PyCapsule_GetPointer(capsule, "dltensor")
        legacy.deleter(legacy)


cdef DLDataType dl_dtype(int code) noexcept:
    cdef DLDataType d
    d.lanes = 1
    d.bits = <uint8_t>(8 * itemsize(code))
    if code == VT_BOOL:
        d.code = DL_BOOL
    elif code == VT_U8:
        d.code = DL_UINT
    elif code <= VT_I64:
        d.code = DL_INT
    elif code == VT_BF16:
        d.code = DL_BFLOAT
    else:
        d.code = DL_FLOAT if code <= VT_F64 else DL_COMPLEX
    return d


cdef DLDevice dl_device_of(Tensor t) except *:
    cdef DLDevice d
    if t.device_type == VT_META:
        raise BufferError("a meta tensor has no data to exchange")
    d.device_type = DL_CUDA if t.device_type == VT_CUDA else DL_CPU
    d.device_id = t.device_index if t.device_type == VT_CUDA else 0
    return d


cdef object export(Tensor t, bint versioned, uint64_t flags):
    cdef DLTensor d
    cdef Export* e
    cdef int i
    if t.storage.flags & VT_STORAGE_READONLY:
        if not versioned:
            raise BufferError("a read-only tensor can only be exported by DLPack 1.0 or newer")
        flags |= DL_FLAG_READ_ONLY
    d.device = dl_device_of(t)
    e = <Export*>calloc(1, sizeof(Export))
    if e is NULL:
        raise MemoryError()
    for i in range(t.ndim):
        e.dims[i] = t.sizes[i]
        e.dims[t.ndim + i] = t.strides[i]
    d.data = t.data if t.numel > 0 else NULL
    d.ndim = t.ndim
    d.dtype = dl_dtype(t.dtype)
    d.shape = &e.dims[0]
    d.strides = &e.dims[t.ndim]
    d.byte_offset = 0
    e.storage = t.storage
    vt_storage_incref(t.storage)
    if versioned:
        e.versioned.version.major = DLPACK_MAJOR
        e.versioned.version.minor = DLPACK_MINOR
        e.versioned.manager_ctx = e
        e.versioned.deleter = delete_versioned
        e.versioned.flags = flags
        e.versioned.dl_tensor = d
        return PyCapsule_New(&e.versioned, "dltensor_versioned", drop_capsule)
    e.legacy.dl_tensor = d
    e.legacy.manager_ctx = e
    e.legacy.deleter = delete_legacy
    return PyCapsule_New(&e.legacy, "dltensor", drop_capsule)


def dlpack_method(
    Tensor self not None, *, stream=None, max_version=None, dl_device=None, copy=None
):
    """A DLPack capsule that shares the memory of this tensor, for the ``from_dlpack`` of another
    library.

    Parameters
    ----------
    stream : int, optional
        The stream on which the consumer will use a CUDA tensor; None for CPU tensors.
    max_version : (int, int), optional
        The newest protocol the consumer knows; (1, 0) and above give a versioned capsule.
    dl_device : (int, int), optional
        Where the consumer wants the data: the tensor's own device, or (1, 0), the CPU, which needs
        a copy.
    copy : bool, optional
        True exports a copy; False never copies; None copies only to the CPU.

    BufferError if the tensor requires grad or cannot be exported.
    """
    cdef Tensor t = self
    cdef DLDevice device = dl_device_of(self)
    cdef bint versioned = max_version is not None and tuple(max_version) >= (1, 0)
    cdef uint64_t flags = 0
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if stream is not None and not isinstance(stream, int):
        raise TypeError(f"__dlpack__(): stream must be int or None, not {type(stream).__name__}")
    if stream is not None and self.device_type == VT_CPU and stream != -1:
        raise BufferError(f"__dlpack__(): a CPU tensor takes no stream, got {stream}")
    if stream == 0 and self.device_type == VT_CUDA:
        raise BufferError("__dlpack__(): stream 0 is ambiguous: 1 is the legacy default stream, 2 that "
                          "of the thread")
    if dl_device is not None and tuple(dl_device) != (device.device_type, device.device_id):
        if tuple(dl_device) == (DL_CPU, 0) and (copy is None or copy):
            return export(<Tensor>self.cpu(), versioned, DL_FLAG_IS_COPIED)
        raise BufferError(f"__dlpack__(): the tensor is on {self.device}, it cannot be exported to "
                          f"DLPack device {tuple(dl_device)}")
    if copy:
        t = tensor_new_like(self, self.dtype)
        copy_into(t, self)
        flags |= DL_FLAG_IS_COPIED
    if self.device_type == VT_CUDA and stream != -1:
        hand_over(t, 1 if stream is None else stream)
    return export(t, versioned, flags)


cdef int hand_over(Tensor t, size_t consumer) except -1:
    """The consumer's stream (1: the legacy default one) waits for ours; the allocator knows of it."""
    cdef void* theirs = NULL if consumer == 1 else <void*>consumer
    cdef void* ours = vt_backends[VT_CUDA].current_stream(t.device_index)
    if theirs is ours:
        return 0
    if vt_backends[VT_CUDA].order_streams(t.device_index, theirs, t.device_index, ours) != VT_OK:
        raise BufferError(f"__dlpack__(): {vt_backends[VT_CUDA].last_error().decode()}")
    vt_backends[VT_CUDA].record_stream(t.storage, theirs)
    return 0


cdef int add_stream(object producer, dict options) except -1:
    """Names the stream that a tensor from a CUDA device will be used on."""
    cdef int device_type = 0
    cdef int8_t index = -1
    cdef size_t stream
    if not hasattr(producer, "__dlpack_device__"):
        return 0
    kind, number = producer.__dlpack_device__()
    if int(kind) != DL_CUDA:
        return 0
    parse_device(device_object(VT_CUDA, number), &device_type, &index)
    stream = <size_t>vt_backends[VT_CUDA].current_stream(index)
    options["stream"] = stream if stream != 0 else 1
    return 0


def dlpack_device_method(Tensor self not None):
    """The DLPack device type and number: (1, 0) for the CPU, (2, k) for CUDA device k."""
    cdef DLDevice d = dl_device_of(self)
    return d.device_type, d.device_id


# --- import ---------------------------------------------------------------------------------------

cdef void release_versioned(vt_storage* s) noexcept nogil:
    cdef DLManagedTensorVersioned* m = <DLManagedTensorVersioned*>s.context
    if m.deleter is not NULL:
        m.deleter(m)


cdef void release_legacy(vt_storage* s) noexcept nogil:
    cdef DLManagedTensor* m = <DLManagedTensor*>s.context
    if m.deleter is not NULL:
        m.deleter(m)


cdef int code_of(DLDataType d) except -1:
    cdef int code
    cdef DLDataType known
    for code in range(VT_NUM_DTYPES):
        known = dl_dtype(code)
        if known.code == d.code and known.bits == d.bits and d.lanes == 1:
            return code
    raise BufferError(f"from_dlpack(): no dtype for DLPack type code {d.code} with {d.bits} bits "
                      f"and {d.lanes} lanes")


cdef Tensor wrap(DLTensor* d, void (*release)(vt_storage*) noexcept nogil, void* managed,
                 uint64_t flags):
    """A tensor over the memory that `d` describes. Where it raises, nothing was taken over."""
    cdef Tensor t
    cdef int64_t low = 0, nbytes = 0, step = 1
    cdef int code = code_of(d.dtype), device_type = VT_CPU, i
    cdef int8_t index = -1
    cdef char* data = <char*>d.data + d.byte_offset
    if d.ndim < 0 or d.ndim > VT_MAX_DIMS:
        raise BufferError(
            f"from_dlpack(): a tensor has at most {VT_MAX_DIMS} dimensions, got {d.ndim}")
    if d.device.device_type == DL_CUDA or d.device.device_type == DL_CUDA_MANAGED:
        parse_device(device_object(VT_CUDA, d.device.device_id), &device_type, &index)
    elif d.device.device_type != DL_CPU and d.device.device_type != DL_CUDA_HOST:
        raise BufferError(f"from_dlpack(): unsupported DLPack device type {d.device.device_type}")
    t = tensor_alloc(d.ndim)
    for i in range(d.ndim):
        if d.shape[i] < 0:
            raise BufferError(f"from_dlpack(): negative size {d.shape[i]} at dimension {i}")
        t.sizes[i] = d.shape[i]
    for i in range(d.ndim - 1, -1, -1):
        t.strides[i] = d.strides[i] if d.strides is not NULL else step
        step *= t.sizes[i] if t.sizes[i] > 1 else 1
    byte_range(d.ndim, t.sizes, t.strides, itemsize(code), &low, &nbytes)
    t.dtype = <uint8_t>code
    t.device_type = <uint8_t>device_type
    t.device_index = index
    t.keyset = KEYS_CUDA if device_type == VT_CUDA else KEYS_CPU
    t.storage = vt_storage_wrap(data + low, nbytes, <uint8_t>device_type, index, release, managed)
    if t.storage is NULL:
        raise MemoryError()
    if flags & DL_FLAG_READ_ONLY:
        t.storage.flags |= VT_STORAGE_READONLY
    t.data = data
    tensor_update(t)
    return t


cdef Tensor consume(object capsule):
    cdef DLManagedTensorVersioned* versioned
    cdef DLManagedTensor* legacy
    cdef Tensor t
    if PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <DLManagedTensorVersioned*>PyCapsule_GetPointer(capsule, "dltensor_versioned")
        if versioned.version.major > DLPACK_MAJOR:
            raise BufferError(f"from_dlpack(): DLPack version {versioned.version.major}."
                              f"{versioned.version.minor} is newer than {DLPACK_MAJOR}.x")
        t = wrap(&versioned.dl_tensor, release_versioned, versioned, versioned.flags)
        PyCapsule_SetName(capsule, "used_dltensor_versioned")
    elif PyCapsule_IsValid(capsule, "dltensor"):
        legacy = <DLManagedTensor*>PyCapsule_GetPointer(capsule, "dltensor")
        t = wrap(&legacy.dl_tensor, release_legacy, legacy, 0)
        PyCapsule_SetName(capsule, "used_dltensor")
    else:
        raise RuntimeError("from_dlpack(): the capsule holds no DLPack tensor, or was consumed "
                           f"already: its name is {PyCapsule_GetName(capsule).decode()!r}")
    return t


def from_dlpack(ext_tensor, *, device=None, copy=None):
    """A tensor that shares the memory of a tensor or array of another library.

    Parameters
    ----------
    ext_tensor : object
        Anything with ``__dlpack__`` and ``__dlpack_device__``, or a DLPack capsule.
    device : device, optional
        Where the result must lie; by default where the data is.
    copy : bool, optional
        Passed on to the producer: True asks for a copy, False forbids one.

    Example
    -------
    >>> vt.from_dlpack(numpy.arange(3))
    tensor([0, 1, 2])
    """
    cdef dict options = {}
    if not hasattr(ext_tensor, "__dlpack__"):
        if type(ext_tensor).__name__ != "PyCapsule":
            raise TypeError("from_dlpack(): expected an object with __dlpack__ or a capsule, got "
                            f"{type(ext_tensor).__name__}")
        return place(consume(ext_tensor), device)
    add_stream(ext_tensor, options)
    if copy is not None:
        options["copy"] = copy
    try:
        capsule = ext_tensor.__dlpack__(max_version=(DLPACK_MAJOR, DLPACK_MINOR), **options)
    except TypeError:
        # A producer of the time before versions knows no such argument.
        if copy is not None:
            raise
        capsule = ext_tensor.__dlpack__(**options)
    return place(consume(capsule), device)


cdef object place(object t, object device):
    return t if device is None else t.to(device)


dlpack_method.__name__ = "__dlpack__"
dlpack_method.__qualname__ = "Tensor.__dlpack__"
dlpack_device_method.__name__ = "__dlpack_device__"
dlpack_device_method.__qualname__ = "Tensor.__dlpack_device__"
install("__dlpack__", dlpack_method)
install("__dlpack_device__", dlpack_device_method)
