"""Factories: tensors from sizes, ranges and random numbers."""
from cpython.ref cimport PyObject
from libc.math cimport ceil
from libc.stdint cimport int8_t, int64_t

from vibetensor.core.device cimport parse_device
from vibetensor.core.dtype cimport default_complex_code, default_dtype_code, dtype_code, dtype_name, is_floating_code
from vibetensor.core.errors cimport wrong_type
from vibetensor.core.tensor cimport (
    INLINE_DIMS, Tensor, itemsize, tensor_empty, tensor_new, tensor_rebind, tensor_shape,
)
from vibetensor.core.tensor import install
from vibetensor.core.types cimport *
from vibetensor.core.scalar cimport check_fill
from vibetensor.ops.arguments cimport int_arg, ints_arg, read_sizes, scalar_arg
from vibetensor.ops.devices cimport pinned_like
from vibetensor.ops.entries cimport *
from vibetensor.ops.support cimport PyVectorcall_NARGS, vt_plain_call, vt_set_fast_call
from vibetensor.ops.support import publish

cdef extern from "Python.h":
    bint PyTuple_CheckExact(PyObject* o) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject* o) noexcept
    PyObject* PyTuple_GET_ITEM(PyObject* o, Py_ssize_t i) noexcept  # borrowed
    PyObject** tuple_items "&PyTuple_GET_ITEM"(PyObject* o, Py_ssize_t i) noexcept


cdef tuple sizes_of(str op, tuple size, object keyword=None):
    """The sizes of ``op(2, 3)``, ``op((2, 3))`` or ``op(size=(2, 3))``."""
    if keyword is not None:
        if size:
            raise TypeError(f"{op}() got multiple values for argument 'size'")
        return ints_arg(op, "size", 1, keyword)
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        return ints_arg(op, "size", 1, size[0])
    return ints_arg(op, "size", 1, size)


cdef Tensor make(tuple sizes, int code, object device, bint pinned=False):
    cdef int device_type
    cdef int8_t index
    parse_device(device, &device_type, &index)
    cdef Tensor t = tensor_empty(sizes, code, device_type, index)
    if not pinned:
        return t
    if device_type != VT_CPU:
        raise RuntimeError("Only dense CPU tensors can be pinned")
    return pinned_like(t)


cdef object finish(Tensor t, object out, bint requires_grad):
    """Stores into out= where given; makes the result a leaf."""
    if out is not None:
        if not isinstance(out, Tensor):
            wrong_type("factory", "out", 0, "Tensor", out)
        if tensor_shape(<Tensor>out) != tensor_shape(t):
            tensor_rebind(<Tensor>out, tensor_empty(tensor_shape(t), (<Tensor>out).dtype,
                                                    (<Tensor>out).device_type, (<Tensor>out).device_index))
        t = op_copy_(<Tensor>out, t, False)
    else:
        t.storage.version = 0  # filling it was no in-place write to the user
    if requires_grad:
        t.requires_grad = True
    return t


cdef int code_or_default(object dtype) except -2:
    cdef int code = dtype_code(dtype)
    return default_dtype_code() if code < 0 else code


def empty(*args, size=None, out=None, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """Uninitialised memory of shape `size` (ints or one sequence)."""
    return finish(make(sizes_of("empty", args, size), code_or_default(dtype), device, pin_memory), out, requires_grad)


cdef object name_of_dtype = "dtype", name_of_device = "device"


cdef Tensor usual_new(PyObject** args, size_t n, PyObject* names):
    """``empty(2, 3)`` or ``empty((2, 3))`` with no keyword but dtype and device; else None. Names and
    values are compared by identity and read in place: parsing them would cost more than the memory."""
    cdef int64_t sizes[INLINE_DIMS]
    cdef Py_ssize_t positional = PyVectorcall_NARGS(n), rank = positional, i
    cdef PyObject** given = args
    cdef PyObject* dtype = <PyObject*>None
    cdef PyObject* device = <PyObject*>None
    cdef int device_type = VT_CPU, code
    cdef int8_t index = -1
    if positional == 1 and PyTuple_CheckExact(args[0]):
        given = tuple_items(args[0], 0)
        rank = PyTuple_GET_SIZE(args[0])
    if rank == 0 or rank > INLINE_DIMS or not read_sizes(given, rank, sizes):
        return None
    for i in range(rank):
        if sizes[i] < 0:
            return None
    if names is not NULL:
        for i in range(PyTuple_GET_SIZE(names)):
            if PyTuple_GET_ITEM(names, i) is <PyObject*>name_of_dtype:
                dtype = args[positional + i]
            elif PyTuple_GET_ITEM(names, i) is <PyObject*>name_of_device:
                device = args[positional + i]
            else:
                return None
    code = code_or_default(<object>dtype)
    parse_device(<object>device, &device_type, &index)
    return tensor_new(<int>rank, sizes, code, device_type, index)


cdef object fast_empty(PyObject* f, PyObject** args, size_t n, PyObject* names):
    cdef Tensor t = usual_new(args, n, names)
    return t if t is not None else vt_plain_call(f, args, n, names)


vt_set_fast_call(empty, fast_empty)


def zeros(*args, size=None, out=None, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """Zeros of shape `size` (ints or one sequence).

    >>> vt.zeros(2)
    tensor([0., 0.])
    """
    t = op_zero_(make(sizes_of("zeros", args, size), code_or_default(dtype), device, pin_memory))
    return finish(t, out, requires_grad)


def ones(*args, size=None, out=None, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """Ones of shape `size` (ints or one sequence)."""
    t = op__fill_(make(sizes_of("ones", args, size), code_or_default(dtype), device, pin_memory), 1)
    return finish(t, out, requires_grad)


cdef int code_of_number(object value) except -2:
    if isinstance(value, bool):
        return VT_BOOL
    if isinstance(value, int):
        return VT_I64
    return default_complex_code() if isinstance(value, complex) else default_dtype_code()


def full(size, fill_value, *, out=None, dtype=None, device=None, requires_grad=False):
    """`fill_value` everywhere, of shape `size`; the dtype follows the value unless given."""
    if isinstance(size, int):
        wrong_type("full", "size", 1, "tuple of ints", size)
    fill_value = scalar_arg("full", "fill_value", 2, fill_value)
    cdef int code = dtype_code(dtype)
    if code < 0:
        code = code_of_number(fill_value)
    check_fill(fill_value, code)
    t = op__fill_(make(ints_arg("full", "size", 1, size), code, device), fill_value)
    return finish(t, out, requires_grad)


cdef object real_number(str op, str name, object x):
    x = scalar_arg(op, name, 0, x)
    if isinstance(x, complex):
        raise RuntimeError("value cannot be converted to type double without overflow")
    return x


def arange(start=None, end=None, step=1, *, out=None, dtype=None, device=None, requires_grad=False):
    """``start, start + step, ...`` up to `end`, which is not included; int64 if all are ints.

    >>> vt.arange(3)
    tensor([0, 1, 2])
    """
    cdef int code = dtype_code(dtype)
    if end is None:
        start, end = 0, start
    start = real_number("arange", "start", 0 if start is None else start)
    end, step = real_number("arange", "end", end), real_number("arange", "step", step)
    integers = isinstance(start, int) and isinstance(end, int) and isinstance(step, int)
    if code < 0:
        code = VT_I64 if integers else default_dtype_code()
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (step > 0 and start > end) or (step < 0 and start < end):
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if not integers and not (abs(start) < float("inf") and abs(end) < float("inf")):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if integers:
        n = -(-(end - start) // step)
    else:
        n = <long long>ceil((<double>end - <double>start) / <double>step)
    t = op_arange_(make((n,), code, device), start, step)
    return finish(t, out, requires_grad)


def linspace(start, end, steps, *, out=None, dtype=None, device=None, requires_grad=False):
    """`steps` evenly spaced values from `start` to `end`, both included."""
    cdef int code = code_or_default(dtype)
    steps = int_arg("linspace", "steps", 3, steps)
    start, end = scalar_arg("linspace", "start", 1, start), scalar_arg("linspace", "end", 2, end)
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    check_fill(start, code)
    check_fill(end, code)
    return finish(op_linspace_(make((steps,), code, device), start, end), out, requires_grad)


def eye(n, m=None, *, out=None, dtype=None, device=None, requires_grad=False):
    """The (n, m) matrix with ones on the diagonal, zeros elsewhere."""
    n = int_arg("eye", "n", 1, n)
    m = n if m is None else int_arg("eye", "m", 2, m)
    if n < 0 or m < 0:
        raise RuntimeError(f"n and m must be greater or equal to 0, got {n} and {m}")
    t = op_zero_(make((n, m), code_or_default(dtype), device))
    op__fill_(op_diagonal(t, 0, 0, 1), 1)
    return finish(t, out, requires_grad)


cdef Tensor random_memory(str op, tuple size, object dtype, object device, bint pinned=False):
    cdef int code = code_or_default(dtype)
    if not is_floating_code(code):
        raise NotImplementedError(f'"{op}" not implemented for dtype {dtype}')
    return make(size, code, device, pinned)


def rand(*args, size=None, generator=None, out=None, dtype=None, device=None, requires_grad=False,
         pin_memory=False):
    """Numbers drawn uniformly from [0, 1)."""
    t = op_uniform_(random_memory("rand", sizes_of("rand", args, size), dtype, device, pin_memory), 0, 1, generator)
    return finish(t, out, requires_grad)


def randn(*args, size=None, generator=None, out=None, dtype=None, device=None, requires_grad=False,
          pin_memory=False):
    """Numbers drawn from the standard normal distribution."""
    t = op_normal_(random_memory("randn", sizes_of("randn", args, size), dtype, device, pin_memory), 0, 1, generator)
    return finish(t, out, requires_grad)


def normal(mean, std, size, *, generator=None, out=None, dtype=None, device=None,
           requires_grad=False):
    """Numbers drawn from the normal distribution of `mean` and `std`."""
    t = op_normal_(random_memory("normal", ints_arg("normal", "size", 3, size), dtype, device), mean, std, generator)
    return finish(t, out, requires_grad)


def randint(low, high=None, size=None, *, generator=None, out=None, dtype=None, device=None,
            requires_grad=False):
    """Integers drawn uniformly from [low, high); ``randint(high, size)`` starts at 0. int64 by
    default."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    low, high = int_arg("randint", "low", 1, low), int_arg("randint", "high", 2, high)
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    cdef int code = dtype_code(dtype)
    code = VT_I64 if code < 0 else code
    if code <= VT_I64:
        bits = <object>(1 if code == VT_BOOL else 8 * itemsize(code))
        unsigned = code == VT_BOOL or code == VT_U8
        least = 0 if unsigned else -(1 << (bits - 1))
        most = (1 << bits) - 1 + least
        if not least <= low <= most:
            raise RuntimeError(f"from is out of bounds for {dtype_name(code)}")
        if not least <= high - 1 <= most:
            raise RuntimeError(f"to - 1 is out of bounds for {dtype_name(code)}")
    t = make(ints_arg("randint", "size", 3, size), code, device)
    return finish(op__randint_(t, low, high, generator), out, requires_grad)


def randperm(n, *, generator=None, out=None, dtype=None, device=None, requires_grad=False):
    """A random permutation of ``0 ... n - 1``; int64 by default."""
    cdef int code = dtype_code(dtype)
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    t = make((n,), VT_I64 if code < 0 else code, device)
    return finish(op__randperm_(t, generator), out, requires_grad)


# --- like a tensor, but of another shape -----------------------------------------------------------------

cdef Tensor made_like(Tensor self, str op, tuple size, object dtype, object device):
    cdef int code = dtype_code(dtype)
    return make(sizes_of(op, size), self.dtype if code < 0 else code,
                self.device if device is None else device)


def new_empty(self, *size, dtype=None, device=None, requires_grad=False):
    """Uninitialised memory of shape `size`, with the dtype and device of the tensor."""
    return finish(made_like(<Tensor?>self, "new_empty", size, dtype, device), None, requires_grad)


def new_zeros(self, *size, dtype=None, device=None, requires_grad=False):
    """Zeros of shape `size`, with the dtype and device of the tensor."""
    t = op_zero_(made_like(<Tensor?>self, "new_zeros", size, dtype, device))
    return finish(t, None, requires_grad)


def new_ones(self, *size, dtype=None, device=None, requires_grad=False):
    """Ones of shape `size`, with the dtype and device of the tensor."""
    t = op__fill_(made_like(<Tensor?>self, "new_ones", size, dtype, device), 1)
    return finish(t, None, requires_grad)


def new_full(self, size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """`fill_value` everywhere, of shape `size`, with the dtype and device of the tensor."""
    fill_value = scalar_arg("new_full", "fill_value", 2, fill_value)
    t = made_like(<Tensor?>self, "new_full", (size,), dtype, device)
    check_fill(fill_value, (<Tensor>t).dtype)
    op__fill_(<Tensor>t, fill_value)
    return finish(t, None, requires_grad)


for _f in (empty, zeros, ones, full, arange, linspace, eye, rand, randn, normal, randint, randperm):
    publish("vt", _f.__name__, _f)
for _f in (new_empty, new_zeros, new_ones, new_full):
    install(_f.__name__, _f)
