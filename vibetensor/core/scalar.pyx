"""Conversion between elements and Python numbers: ``item``, ``tolist``, and storing one number."""
from cpython.complex cimport PyComplex_AsCComplex, PyComplex_FromDoubles, Py_complex
from cpython.float cimport PyFloat_AsDouble
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_CheckExact, PyLong_FromLongLong
from cpython.ref cimport Py_INCREF
from libc.math cimport INFINITY, fabs, trunc
from libc.stdint cimport int16_t
from libc.string cimport memcpy

from vibetensor.core.dtype cimport dtype_name
from vibetensor.core.iterator cimport read_element
from vibetensor.core.tensor cimport itemsize
from vibetensor.core.tensor import install
from vibetensor.core.types cimport *

cdef extern from "Python.h":
    double PyFloat_Unpack2(const char* p, int little_endian) except? -1
    int64_t PyLong_AsLongLongAndOverflow(object i, int* overflow) except? -1


cdef inline double bfloat16_at(const char* p) noexcept:
    cdef uint16_t half = 0
    cdef uint32_t bits
    cdef float value = 0
    memcpy(&half, p, 2)
    bits = <uint32_t>half << 16
    memcpy(&value, &bits, 4)
    return value


cdef object element_at(const char* p, int dtype):
    if dtype == VT_F32:
        return (<const float*>p)[0]
    if dtype == VT_F64:
        return (<const double*>p)[0]
    if dtype == VT_I64:
        return PyLong_FromLongLong((<const int64_t*>p)[0])
    if dtype == VT_BOOL:
        return p[0] != 0
    if dtype == VT_U8:
        return (<const uint8_t*>p)[0]
    if dtype == VT_I8:
        return (<const int8_t*>p)[0]
    if dtype == VT_I16:
        return (<const int16_t*>p)[0]
    if dtype == VT_I32:
        return (<const int32_t*>p)[0]
    if dtype == VT_F16:
        return PyFloat_Unpack2(p, 1)
    if dtype == VT_BF16:
        return bfloat16_at(p)
    if dtype == VT_C64:
        return PyComplex_FromDoubles((<const float*>p)[0], (<const float*>p)[1])
    return PyComplex_FromDoubles((<const double*>p)[0], (<const double*>p)[1])


# --- ranges ---------------------------------------------------------------------------------------

# As PyTorch calls the types in its message; an assignment may give half types what fits in a double.
cdef tuple _range_names = (
    "bool", "uint8_t", "int8_t", "int16_t", "int", "int64_t", "double", "double", "float",
    "double", "c10::complex<float>", "c10::complex<double>",
)
cdef double FLOAT_MAX = 3.4028234663852886e38
cdef double HALF_MAX = 65504
cdef double BFLOAT16_MAX = 3.3895313892515355e38


cdef int refuse(int dtype) except -1:
    raise RuntimeError(
        f"value cannot be converted to type {_range_names[dtype]} without overflow")


cdef inline bint in_integer_range(double d, int dtype) noexcept:
    """Whether d, before it loses its fraction, lies in the range of an integer type."""
    if dtype == VT_I64:
        return -9223372036854775808.0 <= d < 9223372036854775808.0
    if dtype == VT_U8:
        return -255 <= d <= 255  # as in PyTorch a small negative number wraps around
    cdef double limit = <double>(<int64_t>1 << (8 * itemsize(dtype) - 1))
    return -limit <= d <= limit - 1


cdef int check_fits(object number, int dtype) except -1:
    cdef double re, im = 0
    if dtype == VT_BOOL or dtype == VT_C128:
        return 0
    if isinstance(number, complex):
        re, im = number.real, number.imag
        if dtype != VT_C64 and im != 0:
            refuse(dtype)
    elif dtype == VT_I64 and not isinstance(number, float):
        if not -9223372036854775808 <= number <= 9223372036854775807:
            refuse(dtype)
        return 0
    else:
        re = number
    if dtype <= VT_I64:
        if not in_integer_range(re, dtype):
            refuse(dtype)
    elif dtype == VT_F32 or dtype == VT_C64:
        if FLOAT_MAX < fabs(re) < INFINITY or FLOAT_MAX < fabs(im) < INFINITY:
            refuse(dtype)
    return 0


cdef int check_fill(object number, int dtype) except -1:
    cdef double limit = HALF_MAX if dtype == VT_F16 else BFLOAT16_MAX
    if isinstance(number, int) and not -9223372036854775808 <= number < 18446744073709551616:
        raise OverflowError("int too big to convert")
    if dtype == VT_F16 or dtype == VT_BF16:
        if limit < fabs(<double>number.real) < INFINITY or number.imag != 0:
            raise RuntimeError(
                f"value cannot be converted to type c10::{'Half' if dtype == VT_F16 else 'BFloat16'} "
                f"without overflow"
            )
        return 0
    return check_fits(number, dtype)


# --- storing --------------------------------------------------------------------------------------

cdef int out_of_range(int dtype) except -1:
    raise RuntimeError(f"value cannot be converted to type {dtype_name(dtype)} without overflow")


cdef int64_t integer_value(object value, int dtype) except? -1:
    """An int, or the whole part of a float, that fits in 64 bits."""
    cdef double d
    cdef int overflow = 0
    cdef int64_t i
    if not PyLong_CheckExact(value) and isinstance(value, Tensor):
        if (<Tensor>value).numel != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        value = item_of(<Tensor>value)
    if isinstance(value, float) or (
            not hasattr(value, "__index__") and hasattr(value, "__float__")):
        d = PyFloat_AsDouble(value)
        if not in_integer_range(d, dtype):
            out_of_range(dtype)
        return <int64_t>trunc(d)
    if not PyLong_CheckExact(value):
        if not hasattr(value, "__index__"):
            raise TypeError(
                f"'{type(value).__name__}' object cannot be interpreted as an integer")
        value = value.__index__()
    i = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow != 0:
        raise ValueError("Overflow when unpacking long long")
    return i


cdef int store_element(char* p, int dtype, object value) except -1:
    cdef int64_t i
    cdef Py_complex z
    if dtype == VT_F32:
        (<float*>p)[0] = <float>PyFloat_AsDouble(value)
    elif dtype == VT_F64:
        (<double*>p)[0] = PyFloat_AsDouble(value)
    elif dtype == VT_BOOL:
        p[0] = bool(value)
    elif dtype == VT_C64 or dtype == VT_C128:
        z = PyComplex_AsCComplex(value)
        if dtype == VT_C64:
            (<float*>p)[0] = <float>z.real
            (<float*>p)[1] = <float>z.imag
        else:
            (<double*>p)[0] = z.real
            (<double*>p)[1] = z.imag
    else:
        i = integer_value(value, dtype)
        if dtype == VT_I64:
            (<int64_t*>p)[0] = i
        elif dtype == VT_I32:
            if i != <int32_t>i:
                out_of_range(dtype)
            (<int32_t*>p)[0] = <int32_t>i
        elif dtype == VT_I16:
            if i != <int16_t>i:
                out_of_range(dtype)
            (<int16_t*>p)[0] = <int16_t>i
        elif dtype == VT_I8:
            if i != <int8_t>i:
                out_of_range(dtype)
            (<int8_t*>p)[0] = <int8_t>i
        else:
            # As in PyTorch a small negative number wraps around.
            if i < -255 or i > 255:
                out_of_range(dtype)
            (<uint8_t*>p)[0] = <uint8_t>i
    return 0


# --- reading --------------------------------------------------------------------------------------

cdef Tensor on_host(Tensor t):
    if t.device_type == VT_CPU:
        return t
    if t.device_type == VT_META:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    return t.detach().cpu()


cdef object item_of(Tensor t):
    if t.numel != 1:
        raise RuntimeError(f"a Tensor with {t.numel} elements cannot be converted to Scalar")
    if t.device_type == VT_CPU:
        return element_at(t.data, t.dtype)
    if t.device_type == VT_META:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")
    cdef char element[16]
    read_element(t, element)
    return element_at(element, t.dtype)


cdef list nested_list(Tensor t, int dim, const char* p):
    cdef int64_t n = t.sizes[dim], step = t.strides[dim] * itemsize(t.dtype), i
    cdef list out = PyList_New(n)
    cdef object item
    for i in range(n):
        if dim + 1 == t.ndim:
            item = element_at(p, t.dtype)
        else:
            item = nested_list(t, dim + 1, p)
        Py_INCREF(item)
        PyList_SET_ITEM(out, i, item)
        p += step
    return out


def item(Tensor self not None):
    """The only element as a Python bool, int, float or complex.

    RuntimeError if the tensor has another number of elements.

    >>> vt.tensor([2.5]).item()
    2.5
    """
    return item_of(self)


def tolist(Tensor self not None):
    """The elements as nested lists of Python numbers; of a 0-d tensor the number itself.

    >>> vt.tensor([[1, 2], [3, 4]]).tolist()
    [[1, 2], [3, 4]]
    """
    cdef Tensor t = on_host(self)
    return item_of(t) if t.ndim == 0 else nested_list(t, 0, t.data)


install("item", item)
install("tolist", tolist)
