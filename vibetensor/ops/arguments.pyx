"""Argument conversion (see arguments.pxd)."""
from cpython.float cimport PyFloat_CheckExact, PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_CheckExact
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_GET_SIZE

from vibetensor.core.errors cimport read_only, wrong_choice, wrong_type
from vibetensor.core.iterator cimport check_no_internal_overlap, copy_into, prepare_out
from vibetensor.core.random cimport Generator
from vibetensor.core.interop cimport is_numpy_array, tensor_from_numpy
from vibetensor.core.tensor cimport bump_version, tensor_wrap_number
from vibetensor.core.types cimport VT_STORAGE_READONLY, vt_grad_enabled
from vibetensor.autograd.node cimport needs_grad

cdef extern from "Python.h":
    PyObject* PyTuple_GET_ITEM(tuple t, Py_ssize_t i)  # borrowed
    long long PyLong_AsLongLongAndOverflow(PyObject* o, int* overflow) noexcept  # of an int


cdef int64_t int_arg(str op, str name, int position, object value) except? -1:
    if PyLong_CheckExact(value):
        return value
    if isinstance(value, bool) or isinstance(value, float) or not hasattr(value, "__index__"):
        wrong_type(op, name, position, "int", value)
    return value.__index__()


cdef double float_arg(str op, str name, int position, object value) except? -1:
    if PyFloat_CheckExact(value):
        return PyFloat_AS_DOUBLE(value)
    if isinstance(value, str) or isinstance(value, complex) or not hasattr(value, "__float__"):
        if not isinstance(value, int):
            wrong_type(op, name, position, "float", value)
    return float(value)


cdef bint bool_arg(str op, str name, int position, object value) except? -1:
    if value is True:
        return True
    if value is not False:
        if type(value).__name__ in ("bool_", "bool"):
            return bool(value)
        wrong_type(op, name, position, "bool", value)
    return False


cdef inline bint exact_ints(tuple t) noexcept:
    cdef Py_ssize_t i
    for i in range(PyTuple_GET_SIZE(t)):
        if not PyLong_CheckExact(<object>PyTuple_GET_ITEM(t, i)):
            return False
    return True


cdef tuple ints_arg(str op, str name, int position, object value):
    if type(value) is tuple and exact_ints(<tuple>value):
        return <tuple>value
    if isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            if not PyLong_CheckExact(item):
                if isinstance(item, (bool, float, str)) or not hasattr(item, "__index__"):
                    raise TypeError(
                        f"{op}(): argument '{name}' (position {position}) must be tuple of ints, "
                        f"but found element of type {type(item).__name__} at pos {i}"
                    )
                return tuple([int(x.__index__()) for x in value])
        return tuple(value) if type(value) is not tuple else value
    if isinstance(value, (bool, float)) or not hasattr(value, "__index__"):
        wrong_type(op, name, position, "tuple of ints", value)
    return (value.__index__(),)


cdef bint read_sizes(PyObject** args, Py_ssize_t n, int64_t* out) noexcept:
    cdef Py_ssize_t i
    cdef int overflow = 0
    for i in range(n):
        if not PyLong_CheckExact(<object>args[i]):
            return False
        out[i] = PyLong_AsLongLongAndOverflow(args[i], &overflow)
        if overflow:
            return False
    return True


cdef object varargs(str op, str name, tuple args):
    if len(args) == 1 and not PyLong_CheckExact(args[0]):
        return args[0]
    return args


cdef tuple tensors_arg(str op, str name, int position, object value):
    if not isinstance(value, (tuple, list)):
        wrong_type(op, name, position, "tuple of Tensors", value)
    for i, item in enumerate(value):
        if not isinstance(item, Tensor):
            raise TypeError(
                f"expected Tensor as element {i} in argument {max(position - 1, 0)}, "
                f"but got {type(item).__name__}"
            )
    return tuple(value)


cdef tuple optional_tensors_arg(str op, str name, int position, object value):
    if not isinstance(value, (tuple, list)):
        wrong_type(op, name, position, "tuple of Tensors", value)
    for item in value:
        if item is not None and not isinstance(item, Tensor):
            wrong_type(op, name, position, "tuple of Tensors", item)
    return tuple(value)


cdef object any_scalar_arg(str op, str name, int position, object value):
    if isinstance(value, (int, float, complex)):
        return value
    if isinstance(value, Tensor):
        if (<Tensor>value).ndim == 0 and not needs_grad(<Tensor>value):
            return value.item()
        wrong_type(op, name, position, "Number", value)
    if not isinstance(value, str) and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    wrong_type(op, name, position, "Number", value)


cdef object optional_scalar_arg(str op, str name, int position, object value):
    return None if value is None else scalar_arg(op, name, position, value)


cdef object optional_int_arg(str op, str name, int position, object value):
    return None if value is None else int_arg(op, name, position, value)


cdef object optional_float_arg(str op, str name, int position, object value):
    return None if value is None else float_arg(op, name, position, value)


cdef object dims_arg(str op, str name, int position, object value):
    if value is None or PyLong_CheckExact(value):
        return value
    if isinstance(value, (tuple, list)):
        return ints_arg(op, name, position, value)
    return int_arg(op, name, position, value)


cdef object generator_arg(str op, str name, int position, object value):
    if value is not None and not isinstance(value, Generator):
        wrong_type(op, name, position, "Generator", value)
    return value


cdef int choice_arg(str op, str name, int position, tuple choices, object value) except -1:
    if not isinstance(value, str):
        wrong_type(op, name, position, "str", value)
    if value not in choices:
        wrong_choice(op, name, choices, value)
    return choices.index(value)


cdef Tensor number_tensor_arg(str op, str name, int position, object value):
    cdef Tensor t = tensor_wrap_number(value)
    if t is None:
        wrong_type(op, name, position, "Tensor", value)
    return t


cdef Tensor operand(object value):
    cdef Tensor t = tensor_wrap_number(value)
    if t is None and is_numpy_array(value):
        return tensor_from_numpy(value)
    return t


cdef Tensor out_arg(str op, tuple inputs, object out):
    if not isinstance(out, Tensor):
        wrong_type(op, "out", 0, "Tensor", out)
    if (<Tensor>out).storage.flags & VT_STORAGE_READONLY:
        read_only()
    check_differentiable(op, inputs, <Tensor>out)
    return <Tensor>out


cdef int check_differentiable(str op, tuple inputs, Tensor out) except -1:
    if not vt_grad_enabled():
        return 0
    for t in inputs + (out,):
        if t is not None and needs_grad(<Tensor>t):
            raise RuntimeError(
                f"{op}(): functions with out=... arguments don't support automatic "
                f"differentiation, but one of the arguments requires grad."
            )
    return 0


cdef object write_out(str op, tuple inputs, Tensor out):
    bump_version(out)
    return out


cdef object store_out(str op, object result, object out):
    cdef Tensor source
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            wrong_type(op, "out", 0, "tuple of Tensors", out)
        return tuple([store_out(op, r, o) for r, o in zip(result, out)])
    source = <Tensor>result
    out_arg(op, (source,), out)
    prepare_out(op.encode(), <Tensor>out, source.ndim, source.sizes, source.dtype, source.device_type)
    check_no_internal_overlap(<Tensor>out)
    copy_into(<Tensor>out, source)
    bump_version(<Tensor>out)
    return out
