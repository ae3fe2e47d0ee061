"""``vt.tensor``: reading numbers, nested sequences, arrays and tensors into new memory."""
import warnings

from cpython.complex cimport PyComplex_CheckExact
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject, PyTypeObject, Py_TYPE
from cpython.sequence cimport PySequence_Check, PySequence_Fast

from vibetensor.core.cuda_array cimport tensor_from_cuda_array
from vibetensor.core.device cimport parse_device
from vibetensor.core.dtype cimport (
    compute_code, default_complex_code, default_dtype_code, dtype_code, dtype_object, promote_codes,
)
from vibetensor.core.interop cimport is_numpy_array, is_numpy_scalar, tensor_from_numpy
from vibetensor.core.iterator cimport cast, copy_into
from vibetensor.core.scalar cimport store_element
from vibetensor.core.tensor cimport Tensor, itemsize, tensor_alias, tensor_new, tensor_new_like
from vibetensor.core.types cimport *

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept


# --- the shape ------------------------------------------------------------------------------------

cdef inline bint is_sequence(object o) noexcept:
    return isinstance(o, (list, tuple)) or (
        not isinstance(o, (str, bytes, Tensor, dict)) and PySequence_Check(o)
        and not (is_numpy_array(o) and o.ndim == 0) and not is_numpy_scalar(o))


cdef int find_shape(object data, int64_t* sizes) except -1:
    """The sizes that the first elements show; returns the rank."""
    cdef int ndim = 0
    while is_sequence(data):
        if ndim == VT_MAX_DIMS:
            raise ValueError(f"too many dimensions '{type(data).__name__}'")
        sizes[ndim] = len(data)
        ndim += 1
        if sizes[ndim - 1] == 0:
            break
        data = data[0]
    if ndim > 0 and isinstance(data, (str, bytes)):
        raise ValueError(f"too many dimensions '{type(data).__name__}'")
    return ndim


# --- the dtype ------------------------------------------------------------------------------------

cdef int scalar_dtype(object o) except -2:
    if PyFloat_CheckExact(o):
        return default_dtype_code()
    if PyLong_CheckExact(o):
        return VT_I64
    if isinstance(o, bool):
        return VT_BOOL
    if PyComplex_CheckExact(o):
        return default_complex_code()
    if isinstance(o, Tensor):
        return (<Tensor>o).dtype
    if is_numpy_scalar(o) or is_numpy_array(o):
        return tensor_from_numpy(o).dtype
    if isinstance(o, float):
        return default_dtype_code()
    if isinstance(o, int) or (hasattr(o, "__index__") and not isinstance(o, type)):
        return VT_I64
    if isinstance(o, complex):
        return default_complex_code()
    if isinstance(o, (str, bytes)):
        raise TypeError(f"new(): invalid data type '{type(o).__name__}'")
    raise RuntimeError(f"Could not infer dtype of {type(o).__name__}")


cdef int find_dtype(object data, int dim, int ndim, int found) except -2:
    """The promotion of all leaves with `found`; -1 where there are none."""
    cdef Py_ssize_t i, n
    cdef PyObject** items
    cdef PyTypeObject* last_type = NULL
    cdef int d
    if dim == ndim:
        d = scalar_dtype(data)
        return d if found < 0 else promote_codes(found, d)
    if not is_sequence(data):
        raise TypeError("not a sequence")
    data = PySequence_Fast(data, "not a sequence")
    n = PySequence_Fast_GET_SIZE(data)
    items = PySequence_Fast_ITEMS(data)
    for i in range(n):
        if dim + 1 < ndim:
            found = find_dtype(<object>items[i], dim + 1, ndim, found)
        elif PyFloat_CheckExact(<object>items[i]) or PyLong_CheckExact(<object>items[i]):
            # A run of numbers of one type promotes once.
            if Py_TYPE(<object>items[i]) is not last_type:
                last_type = Py_TYPE(<object>items[i])
                d = scalar_dtype(<object>items[i])
                found = d if found < 0 else promote_codes(found, d)
        else:
            if is_sequence(<object>items[i]):
                raise TypeError(f"expected a number at dim {dim + 1}, "
                                f"got {type(<object>items[i]).__name__}")
            d = scalar_dtype(<object>items[i])
            found = d if found < 0 else promote_codes(found, d)
    return found


# --- the elements ---------------------------------------------------------------------------------

cdef char* fill(object data, int dim, Tensor t, char* p) except NULL:
    """Stores the leaves below `data` from `p` on; returns the place behind them."""
    cdef Py_ssize_t i, n
    cdef PyObject** items
    cdef int size = itemsize(t.dtype), code = t.dtype
    if not is_sequence(data):
        raise TypeError("not a sequence")
    data = PySequence_Fast(data, "not a sequence")
    n = PySequence_Fast_GET_SIZE(data)
    items = PySequence_Fast_ITEMS(data)
    if n != t.sizes[dim]:
        raise ValueError(f"expected sequence of length {t.sizes[dim]} at dim {dim} (got {n})")
    if dim + 1 < t.ndim:
        for i in range(n):
            p = fill(<object>items[i], dim + 1, t, p)
        return p
    for i in range(n):
        if code == VT_F32 and PyFloat_CheckExact(<object>items[i]):
            (<float*>p)[0] = <float>PyFloat_AS_DOUBLE(<object>items[i])
        else:
            store_element(p, code, <object>items[i])
        p += size
    return p


cdef Tensor from_sequence(object data, int dtype):
    cdef int64_t sizes[64]
    cdef int ndim = find_shape(data, sizes)
    cdef Tensor t
    if dtype < 0:
        dtype = find_dtype(data, 0, ndim, -1)
        if dtype < 0:
            dtype = default_dtype_code()
    # The half types have no Python conversion of their own: they are rounded from float32.
    t = tensor_new(ndim, sizes, compute_code(dtype), VT_CPU, -1)
    if ndim == 0:
        store_element(t.data, t.dtype, data)
    else:
        fill(data, 0, t, t.data)
    return cast(t, dtype)


cdef Tensor copied(Tensor t, int dtype):
    """A new contiguous tensor with the elements of t and no history."""
    cdef Tensor out = tensor_new_like(t, t.dtype if dtype < 0 else dtype)
    copy_into(out, t)
    return out


cdef Tensor tensor_from_data(object data, int dtype):
    if isinstance(data, Tensor):
        return copied(<Tensor>data, dtype)
    if is_numpy_array(data) or is_numpy_scalar(data):
        return copied(tensor_from_numpy(data), dtype)
    if isinstance(data, (list, tuple)) and len(data) > 0 and is_numpy_array(data[0]) \
            and data[0].ndim > 0:
        import numpy
        return copied(tensor_from_numpy(numpy.array(data)), dtype)
    if hasattr(data, "__cuda_array_interface__"):
        return copied(tensor_from_cuda_array(data), dtype)
    if hasattr(data, "__array__") and not PySequence_Check(data):
        import numpy
        return copied(tensor_from_numpy(numpy.asarray(data)), dtype)
    return from_sequence(data, dtype)


cdef object finish(Tensor t, object device, bint requires_grad):
    """Moves a tensor made on the CPU to `device` and makes it a leaf that requires grad."""
    cdef int device_type = VT_CPU
    cdef int8_t index = -1
    cdef object out = t
    parse_device(device, &device_type, &index)
    if device_type != t.device_type or index != t.device_index:
        out = out.to(device)
    if requires_grad:
        out.requires_grad_(True)
    return out


def tensor(data, *, dtype=None, device=None, bint requires_grad=False, pin_memory=False):
    """A new tensor with the elements of `data`.

    Parameters
    ----------
    data : number, nested sequence, numpy array, tensor
        Always copied. Nested sequences must not be ragged (ValueError).
    dtype : dtype, optional
        By default that of the data: Python floats give the default dtype, ints int64.
    device : device, optional
        Where to put it; a tensor stays on its own device by default.
    requires_grad : bool
        Whether operations on the result are recorded.

    Example
    -------
    >>> vt.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    cdef int code = dtype_code(dtype)
    if isinstance(data, Tensor):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use "
            "sourceTensor.detach().clone() or "
            "sourceTensor.detach().clone().requires_grad_(True), rather than "
            "vibetensor.tensor(sourceTensor).", UserWarning, stacklevel=2)
        if device is None:
            device = (<Tensor>data).device
    if device is None and hasattr(data, "__cuda_array_interface__") and not isinstance(data, Tensor):
        made = tensor_from_data(data, code)
        device = made.device
    else:
        made = tensor_from_data(data, code)
    out = finish(made, device, requires_grad)
    return out.pin_memory() if pin_memory else out


def as_tensor(data, dtype=None, device=None):
    """`data` as a tensor, sharing memory where dtype and device allow it.

    A tensor is returned as it is, a numpy array without a copy; anything else is read as by
    :func:`tensor`.

    >>> a = numpy.zeros(3)
    >>> vt.as_tensor(a).dtype
    vibetensor.float64
    """
    cdef int code = dtype_code(dtype)
    cdef Tensor t
    if isinstance(data, Tensor):
        t = <Tensor>data
        if (code < 0 or code == t.dtype) and (device is None or same_device(t, device)):
            return t
        return data.to(device=t.device if device is None else device,
                       dtype=dtype_object(t.dtype) if code < 0 else dtype)
    if is_numpy_array(data):
        t = tensor_from_numpy(data)
        return finish(cast(t, t.dtype if code < 0 else code), device, False)
    if hasattr(data, "__cuda_array_interface__"):
        return as_tensor(tensor_from_cuda_array(data), dtype, device)
    return finish(tensor_from_data(data, code), device, False)


cdef bint same_device(Tensor t, object device) except -1:
    cdef int device_type = VT_CPU
    cdef int8_t index = -1
    parse_device(device, &device_type, &index)
    return device_type == t.device_type and index == t.device_index


def asarray(obj, *, dtype=None, device=None, copy=None, bint requires_grad=False):
    """`obj` as a tensor: tensors, arrays, DLPack producers and buffers share their memory.

    Parameters
    ----------
    obj : object
        A tensor, a numpy array, an object with ``__dlpack__``, a buffer, a number or a sequence.
    dtype, device : optional
        What the result must be; a conversion copies.
    copy : bool, optional
        True always copies, False never does (ValueError where it would have to).
    requires_grad : bool
        False detaches a tensor.

    Example
    -------
    >>> vt.asarray([1, 2], dtype=vt.float32)
    tensor([1., 2.])
    """
    cdef int code = dtype_code(dtype)
    cdef Tensor t
    if isinstance(obj, Tensor):
        t = <Tensor>obj
    elif is_numpy_array(obj) or is_numpy_scalar(obj):
        t = tensor_from_numpy(obj)
    elif hasattr(obj, "__dlpack__"):
        from vibetensor.core.dlpack import from_dlpack
        t = from_dlpack(obj)
    elif hasattr(obj, "__cuda_array_interface__"):
        t = tensor_from_cuda_array(obj)
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        from vibetensor.core.interop import frombuffer
        t = frombuffer(obj, dtype=dtype_object(default_dtype_code() if code < 0 else code))
    else:
        if copy is False:
            raise ValueError("asarray(): can't alias arbitrary sequence into a tensor.")
        return finish(tensor_from_data(obj, code), device, requires_grad)
    same = (code < 0 or code == t.dtype) and (device is None or same_device(t, device))
    if copy is False and not same:
        raise ValueError(f"asarray(): can't alias a tensor of dtype {dtype_object(t.dtype)} on "
                         f"{t.device} into dtype {dtype} on {device}")
    if same and not copy:
        if t is not obj:
            return finish(t, t.device, requires_grad)
        if requires_grad == obj.requires_grad:
            return t
        return finish(tensor_alias(t), t.device, requires_grad)
    return finish(copied(t, code), t.device if device is None else device, requires_grad)
