"""numpy and the buffer protocol: ``from_numpy``, ``Tensor.numpy``, ``frombuffer``.

numpy is imported only when it is used, and nothing here is compiled against it.
"""
import sys
import warnings

from cpython.buffer cimport (
    Py_buffer, PyBUF_FULL_RO, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

from vibetensor.core.dtype cimport dtype_code, dtype_name, dtype_scalar_name
from vibetensor.core.geometry cimport extent
from vibetensor.core.iterator cimport as_contiguous
from vibetensor.core.scalar cimport on_host
from vibetensor.core.tensor cimport itemsize, tensor_alloc, tensor_empty, tensor_update
from vibetensor.core.tensor import install
from vibetensor.core.types cimport *

cdef object _ndarray = None
cdef object _generic = None
cdef object _bool = None
cdef list _numpy_dtypes = None


cdef bint have_numpy() noexcept:
    """Whether numpy's types are known: no object is of theirs before numpy is imported."""
    global _ndarray, _generic, _bool
    if _ndarray is not None:
        return True
    numpy = sys.modules.get("numpy")
    # Half-way through its own import numpy may lack the names.
    if numpy is None or not hasattr(numpy, "bool_"):
        return False
    _generic = numpy.generic
    _bool = numpy.bool_
    _ndarray = numpy.ndarray
    return True


cdef bint is_numpy_array(object o) noexcept:
    return have_numpy() and isinstance(o, _ndarray)


cdef bint is_numpy_scalar(object o) noexcept:
    return have_numpy() and isinstance(o, _generic)


cdef bint is_numpy_bool(object o) noexcept:
    return have_numpy() and isinstance(o, _bool)


# --- foreign memory -------------------------------------------------------------------------------

cdef void release_owner(vt_storage* s) noexcept with gil:
    Py_DECREF(<object>s.context)


cdef int byte_range(int ndim, const int64_t* sizes, const int64_t* strides, int size, int64_t* low,
                    int64_t* nbytes) except -1:
    cdef int64_t high = 0
    cdef int i
    low[0] = nbytes[0] = 0
    for i in range(ndim):
        if sizes[i] == 0:
            return 0
    if not extent(ndim, sizes, strides, low, &high) or high - low[0] >= (1 << 60) // size:
        raise ValueError("the sizes and strides of the memory overflow")
    nbytes[0] = (high - low[0] + 1) * size
    low[0] *= size
    return 0


cdef Tensor tensor_over_memory(char* data, int ndim, const int64_t* sizes, const int64_t* strides,
                               int dtype, bint readonly, object owner, int device_type=VT_CPU,
                               int device_index=-1):
    cdef int64_t low = 0, nbytes = 0
    cdef int i
    cdef Tensor t
    byte_range(ndim, sizes, strides, itemsize(dtype), &low, &nbytes)
    t = tensor_alloc(ndim)
    t.storage = vt_storage_wrap(data + low, nbytes, <uint8_t>device_type, <int8_t>device_index,
                                release_owner, <void*>owner)
    if t.storage is NULL:
        raise MemoryError()
    Py_INCREF(owner)
    if readonly:
        t.storage.flags |= VT_STORAGE_READONLY
    t.data = data
    t.dtype = <uint8_t>dtype
    t.device_type = <uint8_t>device_type
    t.device_index = <int8_t>device_index
    t.keyset = KEYS_CUDA if device_type == VT_CUDA else KEYS_CPU
    for i in range(ndim):
        t.sizes[i] = sizes[i]
        t.strides[i] = strides[i]
    tensor_update(t)
    return t


# --- from numpy -----------------------------------------------------------------------------------

cdef int code_of_format(const char* f, Py_ssize_t size) noexcept:
    """The dtype of a buffer format of one native item; -1 if there is none."""
    cdef bint is_complex = False
    if f is NULL:
        return VT_U8
    if f[0] == b"@" or f[0] == b"=" or f[0] == b"<":  # x86-64 is little-endian
        f += 1
    if f[0] == b"Z":
        is_complex = True
        f += 1
    if f[0] == 0 or f[1] != 0:
        return -1
    if is_complex:
        return VT_C64 if f[0] == b"f" else VT_C128 if f[0] == b"d" else -1
    if f[0] == b"?":
        return VT_BOOL
    if f[0] == b"e":
        return VT_F16
    if f[0] == b"f":
        return VT_F32
    if f[0] == b"d":
        return VT_F64
    if f[0] == b"B":
        return VT_U8
    if f[0] == b"b" or f[0] == b"h" or f[0] == b"i" or f[0] == b"l" or f[0] == b"q":
        return VT_I8 if size == 1 else VT_I16 if size == 2 else VT_I32 if size == 4 else VT_I64
    return -1


cdef int unsupported_array(object array) except -1:
    if not array.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. "
                         "Conversion between byte orders is currently not supported.")
    raise TypeError(
        f"can't convert np.ndarray of type numpy.{array.dtype.type.__name__}. The only supported "
        "types are: float64, float32, float16, complex64, complex128, int64, int32, int16, int8, "
        "uint8, and bool.")


cdef Tensor tensor_from_numpy(object array):
    cdef Py_buffer view
    cdef int64_t sizes[64]
    cdef int64_t strides[64]
    cdef int code, i
    if is_numpy_scalar(array):
        import numpy
        array = numpy.asarray(array)
    try:
        PyObject_GetBuffer(array, &view, PyBUF_FULL_RO)
    except (ValueError, BufferError):
        unsupported_array(array)  # dtypes that have no buffer format, such as datetime64
    try:
        code = code_of_format(view.format, view.itemsize)
        if code < 0 or view.itemsize != itemsize(code):
            unsupported_array(array)
        if view.ndim > VT_MAX_DIMS:
            raise ValueError(f"a tensor has at most {VT_MAX_DIMS} dimensions, got {view.ndim}")
        for i in range(view.ndim):
            sizes[i] = view.shape[i]
            if view.strides[i] % view.itemsize != 0:
                if sizes[i] > 1:
                    raise ValueError("given numpy array strides not a multiple of the element byte "
                                     "size. Copy the numpy array to reallocate the memory.")
            strides[i] = view.strides[i] // view.itemsize
        return tensor_over_memory(<char*>view.buf, view.ndim, sizes, strides, code, view.readonly,
                                  array)
    finally:
        PyBuffer_Release(&view)


cdef int warn_readonly(str what) except -1:
    warnings.warn(
        f"The given {what} is not writable, and vibetensor does not support non-writable tensors: "
        "do not write to this tensor. Copy the data to get one that may be written.",
        UserWarning, stacklevel=2)
    return 0


def from_numpy(ndarray, /):
    """A tensor that shares the memory of a numpy array, whatever its strides.

    TypeError for a dtype that has no counterpart, ValueError for one of foreign byte order.

    >>> vt.from_numpy(numpy.arange(3)[::-1])
    tensor([2, 1, 0])
    """
    cdef Tensor t
    if not is_numpy_array(ndarray):
        kind = type(ndarray)
        where = "" if kind.__module__ == "builtins" else kind.__module__ + "."
        raise TypeError(f"expected np.ndarray (got {where}{kind.__name__})")
    t = tensor_from_numpy(ndarray)
    if t.storage.flags & VT_STORAGE_READONLY:
        warn_readonly("NumPy array")
    return t


def frombuffer(
    buffer, *, dtype, Py_ssize_t count=-1, Py_ssize_t offset=0, bint requires_grad=False
):
    """A 1-d tensor that shares the memory of an object with the buffer protocol.

    Parameters
    ----------
    buffer : bytes-like
        Contiguous memory.
    dtype : dtype
        How to read it.
    count : int
        How many elements; -1 takes all behind `offset`.
    offset : int
        Where to start, in bytes.

    Example
    -------
    >>> vt.frombuffer(bytearray(b"abcd"), dtype=vt.int16).numel()
    2
    """
    cdef Py_buffer view
    cdef int code = dtype_code(dtype), size = itemsize(code)
    cdef int64_t n, step = 1
    cdef object t
    if code < 0:
        raise TypeError("frombuffer(): argument 'dtype' must be vibetensor.dtype, not NoneType")
    if not PyObject_CheckBuffer(buffer):
        raise ValueError("object does not implement Python buffer protocol.")
    owner = memoryview(buffer)  # holds the buffer, so that a bytearray cannot be resized
    PyObject_GetBuffer(owner, &view, PyBUF_SIMPLE)
    try:
        if view.len == 0 or count == 0:
            raise ValueError(f"both buffer length ({view.len}) and count ({count}) must not be 0")
        if offset < 0 or offset >= view.len:
            raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than "
                             f"buffer length ({view.len} bytes) minus 1")
        n = count
        if count < 0:
            if (view.len - offset) % size != 0:
                raise ValueError(f"buffer length ({view.len - offset} bytes) after offset "
                                 f"({offset} bytes) must be a multiple of element size ({size})")
            n = (view.len - offset) // size
        elif count > (view.len - offset) // size:
            raise ValueError(f"requested buffer length ({count} * {size} bytes) after offset "
                             f"({offset} bytes) must not be greater than actual buffer length "
                             f"({view.len} bytes)")
        t = tensor_over_memory(<char*>view.buf + offset, 1, &n, &step, code, view.readonly, owner)
    finally:
        PyBuffer_Release(&view)
    if view.readonly:
        warn_readonly("buffer")
    if requires_grad:
        t.requires_grad_(True)
    return t


# --- to numpy -------------------------------------------------------------------------------------

cdef class StorageBuffer:
    """The bytes of a storage as a buffer: what a numpy array made from a tensor rests on."""

    cdef vt_storage* storage
    cdef Py_ssize_t nbytes
    cdef Py_ssize_t step

    def __dealloc__(self):
        if self.storage is not NULL:
            vt_storage_decref(self.storage)

    def __getbuffer__(self, Py_buffer* view, int flags):
        view.readonly = self.storage.flags & VT_STORAGE_READONLY
        if view.readonly and flags & PyBUF_WRITABLE:
            raise BufferError("the memory of this tensor is read-only")
        view.buf = self.storage.data
        view.obj = self
        view.len = self.nbytes
        view.itemsize = self.step
        view.format = NULL  # unsigned bytes
        view.ndim = 1
        view.shape = &self.nbytes
        view.strides = &self.step
        view.suboffsets = NULL
        view.internal = NULL


cdef StorageBuffer buffer_over(Tensor t):
    cdef StorageBuffer buffer = StorageBuffer.__new__(StorageBuffer)
    buffer.storage = t.storage
    buffer.nbytes = t.storage.nbytes
    buffer.step = 1
    vt_storage_incref(t.storage)
    return buffer


cdef object numpy_dtype(int code):
    """numpy's dtype of a code."""
    global _numpy_dtypes
    if _numpy_dtypes is None:
        import numpy
        _numpy_dtypes = [
            None if c == VT_BF16 else numpy.dtype(dtype_name(c)) for c in range(VT_NUM_DTYPES)
        ]
        have_numpy()
    if code == VT_BF16:
        raise TypeError(f"Got unsupported ScalarType {dtype_scalar_name(code)}")
    return _numpy_dtypes[code]


cdef object array_over(Tensor t):
    """The numpy array that shares the memory of a CPU tensor."""
    cdef int size = itemsize(t.dtype)
    cdef object dtype = numpy_dtype(t.dtype)
    shape = tuple([t.sizes[i] for i in range(t.ndim)])
    if t.numel == 0:
        return _ndarray(shape, dtype)
    strides = tuple([t.strides[i] * size for i in range(t.ndim)])
    return _ndarray(shape, dtype, buffer_over(t), t.data - t.storage.data, strides)


def numpy_method(Tensor self not None, *, bint force=False):
    """A numpy array that shares the memory of this tensor.

    The tensor must lie on the CPU and not require grad; with ``force=True`` it is detached, and
    copied to the CPU, where that is needed.

    TypeError for bfloat16, which numpy lacks.

    >>> vt.arange(3).numpy()
    array([0, 1, 2])
    """
    if self.requires_grad and not force:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use "
                           "tensor.detach().numpy() instead.")
    if self.device_type != VT_CPU:
        if not force:
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use "
                            "Tensor.cpu() to copy the tensor to host memory first.")
        return array_over(on_host(self))
    return array_over(self)


def array_method(Tensor self not None, dtype=None, *, copy=None):
    """numpy's conversion protocol: shares memory unless `dtype` or `copy` ask for a copy."""
    array = numpy_method(self)
    if dtype is None or dtype == array.dtype:
        return array.copy() if copy else array
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    return array.astype(dtype)


numpy_method.__name__ = "numpy"
numpy_method.__qualname__ = "Tensor.numpy"
array_method.__name__ = "__array__"
array_method.__qualname__ = "Tensor.__array__"
install("numpy", numpy_method)
install("__array__", array_method)
# numpy's binary operators leave the work to ours: array * tensor is a tensor.
install("__array_priority__", 1000)


# --- raw bytes ------------------------------------------------------------------------------------

def tensor_bytes(Tensor t not None):
    """The elements in row-major order as a memoryview of bytes; shares memory where it can."""
    cdef Tensor c = as_contiguous(on_host(t))
    cdef Py_ssize_t start = c.data - c.storage.data
    if c.numel == 0:
        return memoryview(b"")
    return memoryview(buffer_over(c))[start:start + c.numel * itemsize(c.dtype)]


def tensor_from_bytes(buffer, dtype, tuple shape):
    """A new tensor with a copy of the bytes that :func:`tensor_bytes` gave."""
    cdef Tensor t = tensor_empty(shape, dtype_code(dtype), VT_CPU, -1)
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if view.len != t.numel * itemsize(t.dtype):
            raise ValueError(
                f"{view.len} bytes do not make a tensor of shape {list(shape)} and {dtype}")
        memcpy(t.data, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return t
