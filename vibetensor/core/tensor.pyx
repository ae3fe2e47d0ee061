"""The Tensor extension type: its memory, constructors and geometry attributes.

Operators, autograd attributes and conversions are installed on the type by the modules above this
one (see `install`); this module knows none of them.
"""
from cpython.complex cimport PyComplex_CheckExact
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from vibetensor.core.dtype cimport device_object, dtype_object
from vibetensor.core.errors cimport backend_out_of_memory

cdef extern from "core/object.h":
    ctypedef struct vt_tensor_layout:
        Py_ssize_t attributes, hooks, grad, grad_fn, base, accumulate
    PyObject* vt_tensor_pop() noexcept
    void vt_tensor_push(PyObject* o) noexcept
    void vt_clear(PyObject** field) noexcept
    uintptr_t vt_weakrefs(PyObject* o) noexcept
    void vt_clear_weakrefs(PyObject* o) noexcept
    bint vt_is_tracked(PyObject* o) noexcept
    int vt_tensor_type_setup(object type, vt_tensor_layout layout, void (*dealloc)(PyObject*) noexcept) except -1
    int vt_type_set(object type, object name, object value) except -1
    object vt_new_tuple_subclass(object type, Py_ssize_t n)
    int vt_type_getset(object type, const char* name, getter get, setter set, const char* doc) except -1

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject*)
    bint __builtin_mul_overflow(int64_t a, int64_t b, int64_t* r) nogil
    bint likely "__builtin_expect"(bint, long) nogil


class Size(tuple):
    """The shape of a tensor: a tuple of ints that prints as ``vibetensor.Size([2, 3])``."""

    __slots__ = ()

    def __repr__(self):
        return f"vibetensor.Size({list(self)})"

    def numel(self):
        """The number of elements of a tensor of this shape.

        >>> vt.Size((2, 3)).numel()
        6
        """
        n = 1
        for s in self:
            n *= s
        return n

    def __getitem__(self, index):
        item = tuple.__getitem__(self, index)
        return Size(item) if isinstance(index, slice) else item

    def __add__(self, other):
        return Size(tuple.__add__(self, other)) if isinstance(other, tuple) else NotImplemented


cdef class Tensor:
    """A strided array of one dtype on one device, with reverse-mode autograd.

    Made by the factories (``zeros``, ``tensor``, ``from_numpy`` ...), never by calling the type
    on sizes. ``Tensor(x)`` for a tensor ``x`` gives a tensor that shares its memory; it serves
    subclasses such as ``nn.Parameter``.

    >>> import vibetensor as vt
    >>> vt.zeros(2, 3).shape
    vibetensor.Size([2, 3])
    """

    def __init__(self, data=None):
        if data is None:
            data = tensor_empty((0,), VT_F32, VT_CPU, -1)
        if not isinstance(data, Tensor):
            raise TypeError(
                f"Tensor(): argument 'data' (position 1) must be Tensor, not {type(data).__name__}"
            )
        tensor_rebind(self, <Tensor>data)

    # --- geometry ---

    @property
    def shape(self):
        """The sizes, as a :class:`Size`."""
        return size_tuple(self)

    def size(self, dim=None):
        """The sizes as a :class:`Size`, or the size of dimension `dim`."""
        if dim is None:
            return size_tuple(self)
        return self.sizes[dim_index(dim, self.ndim)]

    def stride(self, dim=None):
        """The strides in elements as a tuple, or the stride of dimension `dim`."""
        if dim is None:
            return tensor_strides(self)
        return self.strides[dim_index(dim, self.ndim)]

    def dim(self):
        """The number of dimensions."""
        return self.ndim

    ndimension = dim

    def storage_offset(self):
        """Position of the first element in the storage, in elements."""
        return tensor_offset(self)

    def data_ptr(self):
        """The address of the first element."""
        return <size_t>self.data

    def element_size(self):
        """The size of one element in bytes."""
        return itemsize(self.dtype)

    @property
    def itemsize(self):
        """The size of one element in bytes."""
        return itemsize(self.dtype)

    @property
    def nbytes(self):
        """The bytes of all elements: ``numel() * itemsize``."""
        return self.numel * itemsize(self.dtype)

    def is_contiguous(self):
        """Whether the elements lie row-major without gaps."""
        return (self.flags & F_CONTIGUOUS) != 0

    # --- type and place ---

    @property
    def device(self):
        """The device that holds the memory."""
        return device_object(self.device_type, self.device_index)

    @property
    def is_cuda(self):
        """Whether the memory is a CUDA device's."""
        return self.device_type == VT_CUDA

    @property
    def is_cpu(self):
        """Whether the memory is the host's."""
        return self.device_type == VT_CPU

    def is_floating_point(self):
        """Whether the dtype is float16, bfloat16, float32 or float64."""
        return VT_F16 <= self.dtype <= VT_F64

    def is_complex(self):
        """Whether the dtype is complex64 or complex128."""
        return self.dtype == VT_C64 or self.dtype == VT_C128

    def is_signed(self):
        """Whether the dtype has negative values."""
        return self.dtype != VT_BOOL and self.dtype != VT_U8

    def is_set_to(self, Tensor tensor not None):
        """Whether both are the same view of the same storage."""
        return (
            self.storage is tensor.storage and self.data is tensor.data
            and self.dtype == tensor.dtype and tensor_same_shape(self, tensor)
            and tensor_strides(self) == tensor_strides(tensor)
        )

    def __hash__(self):
        return <Py_ssize_t>(<size_t><PyObject*>self >> 4)


# --- memory --------------------------------------------------------------------------------------

cdef void dealloc(PyObject* o) noexcept:
    """The deallocator of the type. Written over the borrowed pointer: nothing here may take a
    reference to a dying object."""
    if vt_is_tracked(o):
        PyObject_GC_UnTrack(o)
    vt_clear(&(<Tensor>o).grad_fn)
    vt_clear(&(<Tensor>o).base)
    if (
        <uintptr_t>(<Tensor>o).grad | <uintptr_t>(<Tensor>o).hooks | <uintptr_t>(<Tensor>o).attributes
        | <uintptr_t>(<Tensor>o).accumulate | vt_weakrefs(o)
    ):
        vt_clear_weakrefs(o)
        vt_clear(&(<Tensor>o).grad)
        vt_clear(&(<Tensor>o).hooks)
        vt_clear(&(<Tensor>o).attributes)
        vt_clear(&(<Tensor>o).accumulate)
    if (<Tensor>o).flags & F_HEAP_DIMS:
        free((<Tensor>o).sizes)
    if likely((<Tensor>o).storage is not NULL, 1):
        vt_storage_decref((<Tensor>o).storage)
    vt_tensor_push(o)


cdef int setup_type() except -1:
    cdef vt_tensor_layout l
    cdef Tensor probe = Tensor.__new__(Tensor)
    cdef char* p = <char*><PyObject*>probe
    l.attributes = <char*>&probe.attributes - p
    l.hooks = <char*>&probe.hooks - p
    l.grad = <char*>&probe.grad - p
    l.grad_fn = <char*>&probe.grad_fn - p
    l.base = <char*>&probe.base - p
    l.accumulate = <char*>&probe.accumulate - p
    # The probe was allocated before the type had a collector header; it must never be freed.
    Py_INCREF(probe)
    return vt_tensor_type_setup(Tensor, l, dealloc)

setup_type()


cdef inline Tensor alloc_object():
    cdef PyObject* p = vt_tensor_pop()
    if likely(p is not NULL, 1):
        return <Tensor>p  # the reference taken here is its only one
    cdef Tensor t = Tensor.__new__(Tensor)
    PyObject_GC_UnTrack(<PyObject*>t)  # Note [Late tracking] in object.h
    return t


cdef inline int set_rank(Tensor t, int ndim) except -1:
    """Gives t room for `ndim` dimensions, on the heap beyond INLINE_DIMS."""
    t.ndim = <uint8_t>ndim
    if likely(ndim <= INLINE_DIMS, 1):
        t.sizes = &t.dims[0]
        t.strides = &t.dims[INLINE_DIMS]
        return 0
    return take_heap_dims(t, ndim)


cdef int take_heap_dims(Tensor t, int ndim) except -1:
    if ndim > VT_MAX_DIMS:
        raise RuntimeError(f"a tensor has at most {VT_MAX_DIMS} dimensions, got {ndim}")
    cdef int64_t* p = <int64_t*>malloc(2 * ndim * sizeof(int64_t))
    if p is NULL:
        raise MemoryError()
    t.sizes = p
    t.strides = p + ndim
    t.flags |= F_HEAP_DIMS
    return 0


cdef Tensor tensor_alloc(int ndim):
    cdef Tensor t = alloc_object()
    t.flags = 0
    t.output_nr = 0
    t.storage = NULL
    set_rank(t, ndim)
    return t


cdef int out_of_range(const int64_t* sizes, int ndim) except -1:
    raise RuntimeError(f"Storage size calculation overflowed with sizes={[sizes[i] for i in range(ndim)]}")


cdef inline vt_storage* allocate(int64_t nbytes, int device_type, int device_index) except NULL:
    cdef vt_storage* s = NULL
    if likely(device_type == VT_CPU, 1):
        s = vt_storage_new(nbytes)
    elif vt_backends[device_type].ready:
        s = vt_backends[device_type].allocate(device_index, nbytes)
    if s is NULL:
        allocation_failed(nbytes, device_type)
    return s


cdef int allocation_failed(int64_t nbytes, int device_type) except -1:
    if vt_backends[device_type].ready:
        backend_out_of_memory(device_type)
    raise RuntimeError(f"can't allocate memory: you tried to allocate {nbytes} bytes")


cdef Tensor tensor_new(int ndim, const int64_t* sizes, int dtype, int device_type, int device_index):
    cdef Tensor t = tensor_alloc(ndim)
    cdef int64_t nbytes, numel = 1, step = 1
    cdef int i
    for i in range(ndim - 1, -1, -1):
        t.sizes[i] = sizes[i]
        t.strides[i] = step
        if __builtin_mul_overflow(numel, sizes[i], &numel):
            out_of_range(sizes, ndim)
        if sizes[i] > 1:
            step *= sizes[i]
    if __builtin_mul_overflow(numel, itemsize(dtype), &nbytes):
        out_of_range(sizes, ndim)
    t.storage = allocate(nbytes, device_type, device_index)
    t.data = t.storage.data
    t.numel = numel
    t.dtype = <uint8_t>dtype
    t.device_type = <uint8_t>device_type
    t.device_index = <int8_t>device_index
    t.flags |= F_CONTIGUOUS
    t.keyset = device_key(device_type)
    if vt_tls.inference:
        t.flags |= F_INFERENCE
    return t


cdef inline uint32_t device_key(int device_type) noexcept:
    return 1 << VT_KEY_META if device_type == VT_META else 2 << device_type


cdef Tensor tensor_new_like(Tensor a, int dtype):
    return new_like(<PyObject*>a, dtype)


cdef Tensor new_like(PyObject* like, int dtype):
    if not (<Tensor>like).flags & F_CONTIGUOUS or (<Tensor>like).ndim > INLINE_DIMS:
        return new_like_general(<Tensor>like, dtype)
    cdef vt_storage* storage = allocate(
        (<Tensor>like).numel * itemsize(dtype), (<Tensor>like).device_type,
        (<Tensor>like).device_index
    )
    cdef Tensor t = alloc_object()
    cdef int64_t step = 1, size
    cdef int i
    # The strides of dimensions without a second element may be odd.
    for i in range((<Tensor>like).ndim - 1, -1, -1):
        size = (<Tensor>like).sizes[i]
        t.dims[i] = size
        t.dims[INLINE_DIMS + i] = step
        step *= size if size > 1 else 1
    t.data = storage.data
    t.sizes = &t.dims[0]
    t.strides = &t.dims[INLINE_DIMS]
    t.numel = (<Tensor>like).numel
    (<uint32_t*>&t.ndim)[0] = (<uint32_t*>&(<Tensor>like).ndim)[0]  # rank, dtype and device
    t.dtype = <uint8_t>dtype
    t.flags = F_CONTIGUOUS if likely(vt_tls.inference == 0, 1) else F_CONTIGUOUS | F_INFERENCE
    t.output_nr = 0
    t.keyset = (<Tensor>like).keyset & ~<uint32_t>KEYS_AUTOGRAD
    t.storage = storage
    return t


cdef Tensor new_like_general(Tensor a, int dtype):
    return tensor_new(a.ndim, a.sizes, dtype, a.device_type, a.device_index)


cdef Tensor tensor_empty(tuple sizes, int dtype, int device_type, int device_index):
    cdef int64_t dims[64]
    cdef Py_ssize_t n = PyTuple_GET_SIZE(sizes), i
    if n > VT_MAX_DIMS:
        raise RuntimeError(f"a tensor has at most {VT_MAX_DIMS} dimensions, got {n}")
    for i in range(n):
        dims[i] = sizes[i]
        if dims[i] < 0:
            raise RuntimeError(
                f"Trying to create tensor with negative dimension {dims[i]}: {list(sizes)}"
            )
    return tensor_new(<int>n, dims, dtype, device_type, device_index)


cdef bint dense_order(Tensor a, int* order) noexcept:
    """Sorts the dimensions by stride, largest first; True where `a` fills its memory without
    overlap, so that its layout can be kept."""
    cdef int i, j, k, n = a.ndim
    cdef int64_t expected = 1
    for i in range(n):
        order[i] = i
    for i in range(1, n):
        k = order[i]
        j = i - 1
        while j >= 0 and (
            a.strides[order[j]] < a.strides[k]
            or (a.strides[order[j]] == a.strides[k] and a.sizes[order[j]] < a.sizes[k])
        ):
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = k
    for i in range(n - 1, -1, -1):
        k = order[i]
        if a.sizes[k] > 1:
            if a.strides[k] != expected:
                return False
            expected *= a.sizes[k]
    return True


cdef bint tensor_is_dense(Tensor t) noexcept:
    cdef int order[64]
    return (t.flags & F_CONTIGUOUS) != 0 or dense_order(t, order)


cdef Tensor tensor_empty_like(Tensor a, int dtype):
    cdef int order[64]
    cdef Tensor t = tensor_new_like(a, dtype)
    if a.flags & F_CONTIGUOUS and a.numel > 0:
        memcpy(t.strides, a.strides, a.ndim * sizeof(int64_t))
    elif dense_order(a, order):
        memcpy(t.strides, a.strides, a.ndim * sizeof(int64_t))
        tensor_update(t)
    return t


cdef Tensor tensor_alias(Tensor a):
    cdef Tensor t = alloc_object()
    t.data = a.data
    t.numel = a.numel
    t.dtype = a.dtype
    t.device_type = a.device_type
    t.device_index = a.device_index
    t.flags = a.flags & (F_CONTIGUOUS | F_UNTRACKED | F_INFERENCE)
    t.output_nr = 0
    t.keyset = a.keyset & ~<uint32_t>KEYS_AUTOGRAD
    t.storage = a.storage
    a.storage.refcount += 1
    if likely(a.ndim <= INLINE_DIMS, 1):
        t.ndim = a.ndim
        t.sizes = &t.dims[0]
        t.strides = &t.dims[INLINE_DIMS]
        memcpy(t.dims, a.dims, sizeof(t.dims))
    else:
        set_rank(t, a.ndim)
        memcpy(t.sizes, a.sizes, a.ndim * sizeof(int64_t))
        memcpy(t.strides, a.strides, a.ndim * sizeof(int64_t))
    return t


cdef Tensor tensor_alias_dims(Tensor a, int ndim):
    cdef Tensor t = alloc_object()
    t.flags = a.flags & (F_UNTRACKED | F_INFERENCE)
    t.output_nr = 0
    t.storage = NULL
    set_rank(t, ndim)
    t.data = a.data
    t.numel = a.numel
    t.dtype = a.dtype
    t.device_type = a.device_type
    t.device_index = a.device_index
    t.keyset = a.keyset & ~<uint32_t>KEYS_AUTOGRAD
    t.storage = a.storage
    a.storage.refcount += 1
    return t


cdef Tensor tensor_wrap_number(object value):
    cdef Tensor t
    if PyFloat_CheckExact(value):
        t = tensor_new(0, NULL, VT_F64, VT_CPU, -1)
        (<double*>t.data)[0] = value
    elif value is True or value is False:
        t = tensor_new(0, NULL, VT_BOOL, VT_CPU, -1)
        (<uint8_t*>t.data)[0] = value is True
    elif PyLong_CheckExact(value):
        t = tensor_new(0, NULL, VT_I64, VT_CPU, -1)
        try:
            (<int64_t*>t.data)[0] = value
        except OverflowError:
            raise OverflowError("int too big to convert") from None
    elif PyComplex_CheckExact(value):
        t = tensor_new(0, NULL, VT_C128, VT_CPU, -1)
        (<double*>t.data)[0] = value.real
        (<double*>t.data)[1] = value.imag
    elif isinstance(value, float):
        return tensor_wrap_number(float(value))
    elif isinstance(value, complex):
        return tensor_wrap_number(complex(value))
    elif hasattr(value, "__index__") and not isinstance(value, Tensor):
        try:
            return tensor_wrap_number(value.__index__())
        except TypeError:
            return None  # a numpy array of several elements has the method, too
    elif hasattr(value, "__float__") and getattr(value, "shape", None) == () and \
            not isinstance(value, Tensor):
        return tensor_wrap_number(value.item())  # a numpy scalar
    else:
        return None
    t.flags |= F_WRAPPED_NUMBER
    return t


cdef void tensor_update(Tensor t) noexcept:
    cdef int64_t expected = 1
    cdef int i
    cdef bint contiguous = True
    for i in range(t.ndim - 1, -1, -1):
        if t.sizes[i] != 1:
            if t.strides[i] != expected:
                contiguous = False
            expected *= t.sizes[i]
    t.numel = expected
    if contiguous or expected == 0:
        t.flags |= F_CONTIGUOUS
    else:
        t.flags &= ~F_CONTIGUOUS


cdef int tensor_rebind(Tensor t, Tensor source) except -1:
    if t is source:
        return 0
    source.storage.refcount += 1
    if t.storage is not NULL:
        vt_storage_decref(t.storage)
    if t.flags & F_HEAP_DIMS:
        free(t.sizes)
        t.flags &= ~F_HEAP_DIMS
    set_rank(t, source.ndim)
    memcpy(t.sizes, source.sizes, source.ndim * sizeof(int64_t))
    memcpy(t.strides, source.strides, source.ndim * sizeof(int64_t))
    t.storage = source.storage
    t.data = source.data
    t.numel = source.numel
    t.dtype = source.dtype
    t.device_type = source.device_type
    t.device_index = source.device_index
    t.flags = (t.flags & ~(F_CONTIGUOUS | F_UNTRACKED)) | (source.flags & F_CONTIGUOUS)
    t.keyset = device_key(t.device_type) | (t.keyset & KEYS_AUTOGRAD)
    return 0


cdef bint tensor_same_shape(Tensor a, Tensor b) noexcept:
    cdef int i
    if a.ndim != b.ndim:
        return False
    for i in range(a.ndim):
        if a.sizes[i] != b.sizes[i]:
            return False
    return True


# --- geometry as Python objects --------------------------------------------------------------------

cdef inline object fill_tuple(object t, int n, const int64_t* values):
    cdef int i
    cdef object o
    for i in range(n):
        o = values[i]
        Py_INCREF(o)
        PyTuple_SET_ITEM(<tuple>t, i, o)
    return t


cdef tuple tensor_shape(Tensor t):
    return fill_tuple(PyTuple_New(t.ndim), t.ndim, t.sizes)


cdef tuple fill_sizes(int n, const int64_t* sizes):
    return fill_tuple(PyTuple_New(n), n, sizes)


cdef tuple tensor_strides(Tensor t):
    return fill_tuple(PyTuple_New(t.ndim), t.ndim, t.strides)


cdef object size_tuple(Tensor t):
    return fill_tuple(vt_new_tuple_subclass(Size, t.ndim), t.ndim, t.sizes)


cdef int dim_index(object dim, int ndim) except -1:
    cdef int64_t d = dim
    cdef int64_t limit = ndim if ndim > 0 else 1
    if d < -limit or d >= limit:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], but got {d})"
        )
    if ndim == 0:
        raise IndexError(f"Dimension specified as {d} but tensor has no dimensions")
    return <int>(d + ndim if d < 0 else d)


# --- attributes --------------------------------------------------------------------------------------
# A Python attribute that shares its name with a C field cannot stand in the class body.

def install(str name, object value):
    """Makes `value` the attribute `name` of the Tensor type. For the modules of this package."""
    vt_type_set(Tensor, name, value)


cdef int install_property(const char* name, getter get, setter set, const char* doc) except -1:
    return vt_type_getset(Tensor, name, get, set, doc)


cdef object get_ndim(PyObject* self, void* closure):
    return (<Tensor>self).ndim


cdef object get_dtype(PyObject* self, void* closure):
    return dtype_object((<Tensor>self).dtype)


def numel(Tensor self not None):
    """The number of elements."""
    return self.numel


install("numel", numel)
install("nelement", numel)
install_property(b"ndim", get_ndim, NULL, b"The number of dimensions.")
install_property(b"dtype", get_dtype, NULL, b"The element type.")


ABI_VERSION = 1  # VT_ABI_VERSION of include/vibetensor/tensor.h
