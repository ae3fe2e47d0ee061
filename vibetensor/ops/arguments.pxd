"""Python arguments to what the C entries take; every failure names operator, argument, got, expected.

`position` counts from 1; 0 stands for a keyword-only argument.
"""
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor


cdef int64_t int_arg(str op, str name, int position, object value) except? -1
cdef double float_arg(str op, str name, int position, object value) except? -1
cdef bint bool_arg(str op, str name, int position, object value) except? -1
cdef tuple ints_arg(str op, str name, int position, object value)
# Fills `out` with `n` sizes; False where one is no int or is out of range: the usual way has the words.
cdef bint read_sizes(PyObject** args, Py_ssize_t n, int64_t* out) noexcept
cdef tuple tensors_arg(str op, str name, int position, object value)
cdef tuple optional_tensors_arg(str op, str name, int position, object value)
cdef object any_scalar_arg(str op, str name, int position, object value)
cdef inline object scalar_arg(str op, str name, int position, object value):
    if PyLong_CheckExact(value) or PyFloat_CheckExact(value):
        return value
    return any_scalar_arg(op, name, position, value)
cdef object optional_scalar_arg(str op, str name, int position, object value)
cdef object optional_int_arg(str op, str name, int position, object value)
cdef object optional_float_arg(str op, str name, int position, object value)
cdef object dims_arg(str op, str name, int position, object value)
cdef object generator_arg(str op, str name, int position, object value)
cdef int choice_arg(str op, str name, int position, tuple choices, object value) except -1
# A number where a tensor may stand: a wrapped 0-d tensor.
cdef Tensor number_tensor_arg(str op, str name, int position, object value)
# The same for a Python operator; None when `value` is no number.
cdef Tensor operand(object value)
# What *args of a method stand for: one list, or its items.
cdef object varargs(str op, str name, tuple args)
# Checks out= and that no gradient is asked of it.
cdef Tensor out_arg(str op, tuple inputs, object out)
# Counts a write to an out= argument.
cdef object write_out(str op, tuple inputs, Tensor out)
# Copies a result (or several) into out=.
cdef object store_out(str op, object result, object out)
