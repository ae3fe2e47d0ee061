"""The operators that the engine itself calls, all in one place.

They go through the dispatcher, so under create_graph they are recorded like any other.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport *
from vibetensor.ops.entries cimport (
    op__to_device, op_add, op_add_, op_clone, op_copy_, op_fill_, op_real, op_sum_to_size, op_to_dtype, op_zero_,
)

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject*) noexcept


cdef inline Tensor add(Tensor a, Tensor b):
    return op_add(a, b, 1)


cdef inline int add_(Tensor a, Tensor b) except -1:
    op_add_(a, b, 1)
    return 0


cdef inline Tensor clone(Tensor t):
    return op_clone(t, None)


cdef inline int copy_(Tensor target, Tensor source) except -1:
    op_copy_(target, source, False)
    return 0


cdef inline int zero_(Tensor t) except -1:
    op_zero_(t)
    return 0


cdef inline int fill_(Tensor t, object value) except -1:
    op_fill_(t, tensor_wrap_number(value))
    return 0


cdef inline Tensor real_part(Tensor t):
    return op_real(t)


cdef inline Tensor cast(Tensor t, int dtype):
    return op_to_dtype(t, dtype)


cdef inline Tensor to_device(Tensor t, int device_type, int device_index):
    return op__to_device(t, t.dtype, device_type, device_index, False)


cdef inline Tensor sum_to(Tensor t, int ndim, const int64_t* sizes):
    """Sums `t` down to a shape that broadcasts to its own."""
    return op_sum_to_size(t, tuple([sizes[i] for i in range(ndim)]))


cdef inline bint sole_owner(PyObject* t) noexcept:
    """Nobody else holds the tensor or its memory, so that it may be written or given away."""
    return (
        Py_REFCNT(t) == 1 and (<Tensor>t).base is NULL and (<Tensor>t).storage.refcount == 1
    )
