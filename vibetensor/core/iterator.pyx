"""Pointwise and reduction operators: from tensors to a kernel call (see iterator.pxd)."""
import warnings

from cpython.complex cimport PyComplex_CheckExact
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.ref cimport PyObject
from libc.string cimport memchr, memcpy

from vibetensor.core.device cimport device_object
from vibetensor.core.dtype cimport (
    can_cast_codes, category_code, complex_code, default_complex_code, default_dtype_code,
    dtype_scalar_name, is_complex_code, is_floating_code, promote_codes, real_code,
)
from vibetensor.core.errors cimport (
    broadcast_mismatch, cannot_cast_result, device_mismatch, output_shape_mismatch, raise_status,
    read_only, unsupported_dtype, wrong_dim,
)
from vibetensor.core.geometry cimport broadcast_shapes, extent, internal_overlap
from vibetensor.core.tensor cimport (
    F_CONTIGUOUS, F_WRAPPED_NUMBER, itemsize, new_like, tensor_array, tensor_empty_like, tensor_is_dense,
    tensor_new, tensor_new_like, tensor_rebind, tensor_same_shape, tensor_shape, tensor_update,
)

cdef extern from *:
    bint likely "__builtin_expect"(bint, long) nogil

cdef enum:
    # Above this many elements a kernel outlasts giving up and taking back the GIL (about 40 ns)
    # many times over, so that other threads should run meanwhile.
    RELEASE_GIL_NUMEL = 32768


# --- promotion -----------------------------------------------------------------------------------

cdef inline int combine(int higher, int lower) noexcept nogil:
    """The dtype of a group of operands with priority over another; -1 is an empty group."""
    if higher < 0 or lower < 0:
        return lower if higher < 0 else higher
    if is_complex_code(higher):
        return higher
    if is_floating_code(higher):
        return complex_code(higher) if is_complex_code(lower) else higher
    if higher == VT_BOOL or category_code(lower) > 1:
        return promote_codes(higher, lower)
    return higher


cdef int result_type(PyObject** inputs, int n, uint32_t skip) noexcept:
    """The dtype that operands meet in: those with dimensions outrank 0-d tensors, which outrank
    Python numbers; a lower group matters only where it is of a higher category. Numbers among
    themselves keep their full precision."""
    cdef int dims = -1, zero = -1, wrapped = -1, exact = -1, i, d
    cdef Tensor t
    for i in range(n):
        if skip >> i & 1:
            continue
        t = <Tensor>inputs[i]
        d = t.dtype
        if t.flags & F_WRAPPED_NUMBER:
            exact = d if exact < 0 else promote_codes(exact, d)
            if is_complex_code(d):
                d = default_complex_code()
            elif is_floating_code(d):
                d = default_dtype_code()
            wrapped = d if wrapped < 0 else promote_codes(wrapped, d)
        elif t.ndim > 0:
            dims = d if dims < 0 else promote_codes(dims, d)
        else:
            zero = d if zero < 0 else promote_codes(zero, d)
    if dims < 0 and zero < 0:
        return exact
    return combine(dims, combine(zero, wrapped))


cdef inline int output_dtype(int rule, int dtype) noexcept nogil:
    if rule == RESULT_BOOL:
        return VT_BOOL
    if rule == RESULT_REAL:
        return real_code(dtype)
    return dtype


# --- checks ----------------------------------------------------------------------------------------

cdef int check_devices(const char* name, PyObject** inputs, int n) except -1:
    cdef Tensor first = <Tensor>inputs[0], t
    cdef int i
    for i in range(1, n):
        t = <Tensor>inputs[i]
        if t is None:
            continue
        if t.device_type == first.device_type and t.device_index == first.device_index:
            continue
        if t.ndim == 0 and t.device_type == VT_CPU:
            continue
        if first.ndim == 0 and first.device_type == VT_CPU:
            first = t
            continue
        device_mismatch(name.decode(), first.device, t.device)
    return 0


cdef int check_no_internal_overlap(Tensor t) except -1:
    if not t.flags & F_CONTIGUOUS and internal_overlap(t.ndim, t.sizes, t.strides) == 1:
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )
    return 0


cdef int check_no_partial_overlap(Tensor out, Tensor input) except -1:
    """Refuses an output that shares memory with an input at other indices. Elements at equal
    indices are safe: each is read before it is written. As in PyTorch, views with gaps pass."""
    cdef int64_t low, high, in_low, in_high
    cdef int i
    cdef bint same = True
    if out.storage is not input.storage or out.numel == 0 or input.numel == 0 or out is input:
        return 0
    if out.data is input.data and tensor_same_shape(out, input) and out.dtype == input.dtype:
        for i in range(out.ndim):
            same = same and (out.strides[i] == input.strides[i] or out.sizes[i] == 1)
        if same:
            return 0
    if not (tensor_is_dense(out) and tensor_is_dense(input)):
        return 0
    extent(out.ndim, out.sizes, out.strides, &low, &high)
    extent(input.ndim, input.sizes, input.strides, &in_low, &in_high)
    if (
        out.data + (high + 1) * itemsize(out.dtype) <= input.data + in_low * itemsize(input.dtype)
        or input.data + (in_high + 1) * itemsize(input.dtype) <= out.data + low * itemsize(out.dtype)
    ):
        return 0
    raise RuntimeError(
        "unsupported operation: some elements of the input tensor and the written-to tensor refer "
        "to a single memory location. Please clone() the tensor before performing the operation."
    )


cdef int prepare_out(const char* name, Tensor out, int ndim, const int64_t* sizes, int dtype,
                     int device_type) except -1:
    cdef int i
    cdef bint same = out.ndim == ndim
    if out.storage.flags & VT_STORAGE_READONLY:
        read_only()
    if out.device_type != device_type:
        raise RuntimeError(
            f"{name.decode()}(): Expected out tensor to have the device of the inputs, but found "
            f"{out.device}"
        )
    if not can_cast_codes(dtype, out.dtype):
        cannot_cast_result(dtype, out.dtype)
    if same:
        for i in range(ndim):
            same = same and out.sizes[i] == sizes[i]
    if same:
        return 0
    if out.numel != 0:
        warnings.warn(
            f"An output with one or more elements was resized since it had shape "
            f"{list(tensor_shape(out))}, which does not match the required output shape "
            f"{[sizes[i] for i in range(ndim)]}. This behavior is deprecated; explicitly reuse an "
            f"out tensor t by resizing it, inplace, to zero elements with t.resize_(0).",
            UserWarning, stacklevel=2,
        )
    tensor_rebind(out, tensor_new(ndim, sizes, out.dtype, out.device_type, out.device_index))
    return 0


# --- the plan --------------------------------------------------------------------------------------

cdef inline int64_t magnitude(int64_t x) noexcept nogil:
    return x if x >= 0 else -x


cdef inline int compare_dims(const vt_iter* it, int a, int b, int first) noexcept nogil:
    """1 if dimension b should lie inside a, -1 if outside, 0 if no operand has an opinion. An
    operand that is broadcast along either says nothing."""
    cdef int k
    cdef int64_t sa, sb
    for k in range(first, it.noperands):
        sa = magnitude(it.strides[k][a])
        sb = magnitude(it.strides[k][b])
        if sa == 0 or sb == 0:
            continue
        if sa != sb:
            return 1 if sa > sb else -1
        if it.sizes[a] > it.sizes[b]:
            return 1
    return 0


cdef void order_dims(vt_iter* it, int first) noexcept nogil:
    """Sorts the dimensions of the plan so that dimension 0 has the smallest strides; operand `first`
    is asked first. An insertion sort that steps over undecided pairs: PyTorch's rule, since the
    layout of a new output follows from it."""
    cdef int i, lower, moving, verdict
    for i in range(1, it.ndim):
        moving = i
        for lower in range(i - 1, -1, -1):
            verdict = compare_dims(it, lower, moving, first)
            if verdict > 0:
                swap_dims(it, lower, moving)
                moving = lower
            elif verdict < 0:
                break


cdef inline void swap_dims(vt_iter* it, int a, int b) noexcept nogil:
    cdef int k
    cdef int64_t t = it.sizes[a]
    it.sizes[a] = it.sizes[b]
    it.sizes[b] = t
    for k in range(it.noperands):
        t = it.strides[k][a]
        it.strides[k][a] = it.strides[k][b]
        it.strides[k][b] = t


cdef void coalesce(vt_iter* it) noexcept nogil:
    """Drops unit dimensions and merges neighbours that every operand walks without a jump."""
    cdef int d = -1, i, k
    cdef bint merge
    for i in range(it.ndim):
        if it.sizes[i] == 1:
            continue
        merge = d >= 0
        if merge:
            for k in range(it.noperands):
                merge = merge and it.strides[k][i] == it.sizes[d] * it.strides[k][d]
        if merge:
            it.sizes[d] *= it.sizes[i]
            continue
        d += 1
        it.sizes[d] = it.sizes[i]
        for k in range(it.noperands):
            it.strides[k][d] = it.strides[k][i]
    if d < 0:  # one element
        d = 0
        it.sizes[0] = 1
        for k in range(it.noperands):
            it.strides[k][0] = 0
    it.ndim = d + 1


cdef inline void add_operand(vt_iter* it, int k, Tensor t, int loop_dtype) noexcept:
    """Operand k, its dimensions reversed (innermost first) and broadcast to the plan's sizes."""
    cdef int64_t size = itemsize(t.dtype)
    cdef int i, j
    it.data[k] = t.data
    it.host[k] = 0
    it.dtype[k] = t.dtype
    it.loop_dtype[k] = <uint8_t>loop_dtype
    it.host[k] = False
    for i in range(it.ndim):
        j = t.ndim - 1 - i
        if j < 0 or (t.sizes[j] == 1 and it.sizes[i] != 1):
            it.strides[k][i] = 0
        else:
            it.strides[k][i] = t.strides[j] * size


# --- pointwise ---------------------------------------------------------------------------------------

cdef inline uint32_t kind(PyObject* t) noexcept:
    """Rank, dtype and device as one number."""
    return (<uint32_t*>&(<Tensor>t).ndim)[0]


cdef inline bint joins(PyObject* a, PyObject* b) noexcept:
    """Whether b is a contiguous operand with the dtype, the device and the shape of a."""
    cdef int i
    if not (<Tensor>b).flags & F_CONTIGUOUS or kind(a) != kind(b):
        return False
    for i in range((<Tensor>a).ndim):
        if (<Tensor>a).sizes[i] != (<Tensor>b).sizes[i]:
            return False
    return True


cdef inline bint direct(const vt_pointwise* op, PyObject** inputs) noexcept:
    """The common case: contiguous operands of one dtype, shape and device, which the loop takes as
    they are. Written over borrowed references; a reference count per operand would cost a tenth."""
    cdef int k
    if not (
        (<Tensor>inputs[0]).flags & F_CONTIGUOUS
        and op.direct >> (<Tensor>inputs[0]).dtype & 1
    ):
        return False
    for k in range(1, op.ninputs):
        if not joins(inputs[0], inputs[k]):
            return False
    return True


cdef inline bint writes_first(const vt_pointwise* op, PyObject** inputs, Tensor out) noexcept:
    """Whether `out` is the first operand, overwritten in its dtype, and no other one shares its
    memory, which could overlap in part."""
    cdef int k
    if <PyObject*>out is not inputs[0] or op.result != RESULT_SAME:
        return False
    for k in range(1, op.ninputs):
        if (<Tensor>inputs[k]).storage == out.storage and inputs[k] is not inputs[0]:
            return False
    return True


cdef inline void run_direct(const vt_pointwise* op, PyObject** inputs, const vt_value* params,
                            Tensor out) noexcept:
    cdef char* data[VT_MAX_OPERANDS]
    cdef int64_t steps[VT_MAX_OPERANDS]
    cdef int dtype = (<Tensor>inputs[0]).dtype, k
    cdef vt_loop loop = vt_cpu_loops[op.functor][dtype]
    data[0] = out.data
    steps[0] = itemsize(out.dtype)
    for k in range(op.ninputs):
        data[k + 1] = (<Tensor>inputs[k]).data
        steps[k + 1] = itemsize(dtype)
    if likely(out.numel < RELEASE_GIL_NUMEL, 1):
        loop(data, steps, out.numel, 1, params)
    else:
        run_flat(loop, op.ninputs + 1, data, steps, out.numel, params)


cdef Tensor pointwise(const vt_pointwise* op, PyObject** inputs, const vt_value* params, Tensor out):
    if not direct(op, inputs):
        return general(op, inputs, params, out)
    if out is not None:
        if not writes_first(op, inputs, out):
            return general(op, inputs, params, out)
        if not likely(out.device_type == VT_CPU, 1):
            return device_flat(op, inputs, params, out)
        run_direct(op, inputs, params, out)
        return out
    cdef Tensor result = new_like(
        inputs[0], output_dtype(op.result, (<Tensor>inputs[0]).dtype)
    )
    if not likely(result.device_type == VT_CPU, 1):
        return device_flat(op, inputs, params, result)
    run_direct(op, inputs, params, result)
    return result


cdef void run_flat(vt_loop loop, int n, char** data, const int64_t* steps, int64_t numel,
                   const vt_value* params) noexcept:
    with nogil:
        vt_cpu_pointwise_flat(loop, n, data, steps, numel, params)


cdef Tensor general(const vt_pointwise* op, PyObject** inputs, const vt_value* params, Tensor out):
    cdef int64_t sizes[VT_MAX_DIMS]
    cdef int64_t merged[VT_MAX_DIMS]
    cdef vt_iter it
    cdef vt_loop loop
    cdef Tensor t, like = <Tensor>inputs[0]
    cdef int n = op.ninputs, ndim, i, k, dtype, out_dtype, device_type
    t = <Tensor>inputs[0]
    if n > 1:
        check_devices(op.name, inputs, n)
    dtype = result_type(inputs, n, op.bool_mask)
    if op.promote == PROMOTE_FLOAT and dtype < VT_F16:
        dtype = default_dtype_code()
    if op.promote == PROMOTE_INTEGER and dtype == VT_BOOL:
        dtype = VT_I64
    out_dtype = output_dtype(op.result, dtype)

    ndim = t.ndim
    memcpy(sizes, t.sizes, ndim * sizeof(int64_t))
    for k in range(1, n):
        t = <Tensor>inputs[k]
        if t.device_type != VT_CPU:
            like = t
        i = broadcast_shapes(ndim, sizes, t.ndim, t.sizes, merged)
        if i < 0:
            i = -1 - i
            broadcast_error(ndim, sizes, t, i)
        ndim = i
        memcpy(sizes, merged, ndim * sizeof(int64_t))

    device_type = like.device_type
    loop = vt_cpu_loops[op.functor][dtype]
    if out is not None and out is <Tensor>inputs[0]:
        check_inplace_result(out, ndim, sizes, out_dtype)
    if not op.dtypes >> dtype & 1:
        unsupported_dtype(op.name.decode(), device_type, dtype)
    # On a device, as in PyTorch, a zero divisor gives no error: looking for one would have to wait.
    if op.flags & CHECK_ZERO_DIVISOR and dtype < VT_F16 and device_type == VT_CPU and has_zero(
            <Tensor>inputs[n - 1]):
        raise RuntimeError("ZeroDivisionError")
    if out is not None:
        if out.device_type != device_type or out.device_index != like.device_index:
            device_mismatch(op.name.decode(), out.device, like.device)
        if out is not <Tensor>inputs[0]:
            prepare_out(op.name, out, ndim, sizes, out_dtype, device_type)
        check_no_internal_overlap(out)
        for k in range(n):
            check_no_partial_overlap(out, <Tensor>inputs[k])

    it.noperands = n + 1
    it.ndim = ndim
    it.numel = 1
    for i in range(ndim):
        it.sizes[i] = sizes[ndim - 1 - i]
        it.numel *= sizes[i]
    for k in range(n):
        add_operand(&it, k + 1, <Tensor>inputs[k], VT_BOOL if op.bool_mask >> k & 1 else dtype)
        it.host[k + 1] = (<Tensor>inputs[k]).device_type != device_type
    if out is None and contiguous_alike(inputs, n):
        out = tensor_new_like(like, out_dtype)
        add_operand(&it, 0, out, out_dtype)  # the dimensions are in order already
    elif out is None:
        out = allocate_output(&it, ndim, sizes, out_dtype, like)
    else:
        add_operand(&it, 0, out, out_dtype)
        order_dims(&it, 0)
    if it.numel == 0:
        return out
    coalesce(&it)
    if device_type != VT_CPU:
        run_plan(op, device_type, like.device_index, &it, dtype, params)
    elif it.numel < RELEASE_GIL_NUMEL:
        vt_cpu_pointwise(&it, loop, params)
    else:
        with nogil:
            vt_cpu_pointwise(&it, loop, params)
    return out


cdef bint contiguous_alike(PyObject** inputs, int n) noexcept:
    """Whether all operands are contiguous and of one shape."""
    cdef int k
    for k in range(n):
        if not (<Tensor>inputs[k]).flags & F_CONTIGUOUS or (
            k > 0 and not tensor_same_shape(<Tensor>inputs[0], <Tensor>inputs[k])
        ):
            return False
    return True


cdef Tensor allocate_output(vt_iter* it, int ndim, const int64_t* sizes, int dtype, Tensor like):
    """A new output whose dimensions are ordered in memory as the plan orders the inputs'."""
    cdef Tensor out = tensor_new(ndim, sizes, dtype, like.device_type, like.device_index)
    cdef int64_t size = itemsize(dtype), step = 1
    cdef int i, j
    cdef int position[VT_MAX_DIMS]
    cdef bint usual = True
    # The output's "strides" in the plan name the dimension until the order is known.
    for i in range(ndim):
        it.strides[0][i] = i
    order_dims(it, 1)
    for i in range(ndim):
        position[i] = <int>it.strides[0][i]
        usual = usual and position[i] == i
    for i in range(ndim):
        j = ndim - 1 - position[i]
        out.strides[j] = step
        it.strides[0][i] = step * size
        # As in PyTorch: times zero, unless the dimensions are in the usual order.
        step *= 1 if it.sizes[i] == 0 and usual else it.sizes[i]
    it.data[0] = out.data
    it.dtype[0] = <uint8_t>dtype
    it.loop_dtype[0] = <uint8_t>dtype
    it.host[0] = False
    tensor_update(out)
    return out


cdef int broadcast_error(int ndim, const int64_t* sizes, Tensor t, int d) except -1:
    cdef int n = ndim if ndim > t.ndim else t.ndim
    return broadcast_mismatch(sizes[d - (n - ndim)], t.sizes[d - (n - t.ndim)], d)


cdef int check_inplace_result(Tensor out, int ndim, const int64_t* sizes, int dtype) except -1:
    cdef int i
    cdef bint same = out.ndim == ndim
    if same:
        for i in range(ndim):
            same = same and out.sizes[i] == sizes[i]
    if not same:
        output_shape_mismatch(tensor_shape(out), tuple([sizes[i] for i in range(ndim)]))
    if not can_cast_codes(dtype, out.dtype):
        cannot_cast_result(dtype, out.dtype)
    return 0


cdef bint has_zero(Tensor t) except -1:
    cdef Tensor b = cast(t, VT_BOOL)
    b = as_contiguous(b)
    return b.numel > 0 and memchr(b.data, 0, b.numel) is not NULL


include "transfer.pxi"


# --- copies ----------------------------------------------------------------------------------------

cdef int copy_into(Tensor dst, Tensor src) except -1:
    return copy_between(dst, src, False)


cdef int copy_between(Tensor dst, Tensor src, bint non_blocking) except -1:
    cdef vt_iter it
    cdef vt_loop loop = vt_cpu_casts[dst.dtype][src.dtype]
    cdef bint by_value = False
    cdef int i
    if dst.numel == 0:
        return 0
    if not same_place(dst, src):
        by_value = src.device_type == VT_CPU and src.numel == 1
        if not by_value:
            return transfer(dst, src, non_blocking)
    it.noperands = 2
    it.ndim = dst.ndim
    it.numel = dst.numel
    for i in range(dst.ndim):
        it.sizes[i] = dst.sizes[dst.ndim - 1 - i]
    add_operand(&it, 0, dst, dst.dtype)
    add_operand(&it, 1, src, src.dtype)
    it.host[1] = by_value
    order_dims(&it, 0)
    coalesce(&it)
    if dst.device_type != VT_CPU:
        copy_on_device(dst, &it)
    elif it.numel < RELEASE_GIL_NUMEL:
        vt_cpu_pointwise(&it, loop, NULL)
    else:
        with nogil:
            vt_cpu_pointwise(&it, loop, NULL)
    return 0


cdef Tensor cast(Tensor t, int dtype):
    if t.dtype == dtype:
        return t
    cdef Tensor out = tensor_empty_like(t, dtype)
    copy_into(out, t)
    return out


cdef Tensor as_contiguous(Tensor t):
    if t.flags & F_CONTIGUOUS:
        return t
    cdef Tensor out = tensor_new_like(t, t.dtype)
    copy_into(out, t)
    return out


# --- reductions ------------------------------------------------------------------------------------

cdef uint64_t dim_mask(object dim, int ndim) except? 0xFFFFFFFFFFFFFFFF:
    cdef uint64_t mask = 0
    cdef int64_t d
    cdef uint64_t everything = (<uint64_t>1 << ndim) - 1 if ndim < 64 else ~<uint64_t>0
    if dim is None:
        return everything
    if not isinstance(dim, (tuple, list)):
        dim = (dim,)
    if len(dim) == 0:
        return everything
    for item in dim:
        d = item
        if d < -ndim or d >= ndim:
            if ndim == 0 and -1 <= d <= 0:
                continue
            wrong_dim(d, ndim)
        if d < 0:
            d += ndim
        if mask >> d & 1:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
        mask |= <uint64_t>1 << d
    return mask


cdef Tensor reduction(const vt_reduction* op, Tensor input, object dim, bint keepdim, int dtype,
                      vt_value* values, Tensor out):
    cdef int64_t sizes[VT_MAX_DIMS]
    cdef vt_array arrays[2]
    cdef uint64_t mask = dim_mask(dim, input.ndim)
    cdef int i, j = 0, single = -1, out_dtype
    cdef Tensor result
    cdef bint everything = dim is None or (isinstance(dim, (tuple, list)) and len(dim) == 0)
    if op.flags & NO_EMPTY and everything and input.numel == 0:
        no_identity(op)
    if op.flags & SINGLE_DIM and not everything:
        single = <int>dim
        single = single + input.ndim if single < 0 else single
        single = 0 if input.ndim == 0 else single
    if op.result == RESULT_LOGICAL and everything and dim is not None:
        mask = 0  # any(dim=()) is elementwise
    if op.result == RESULT_INDEX and input.dtype == VT_BOOL:
        raise RuntimeError(f"{op.name.decode()}(): does not support bool input")
    if op.flags & SINGLE_DIM:
        int_value(single, &values[0])
    for i in range(input.ndim):
        sizes[i] = 1 if mask >> i & 1 else input.sizes[i]
        if op.flags & NO_EMPTY and input.sizes[i] == 0 and mask >> i & 1:
            raise IndexError(
                f"{op.name.decode()}(): Expected reduction dim {i} to have non-zero size."
            )

    if dtype >= 0 and dtype != input.dtype and op.result != RESULT_LOGICAL:
        input = cast(input, dtype)
    if op.result == RESULT_SUM:
        out_dtype = dtype if dtype >= 0 else (VT_I64 if input.dtype < VT_F16 else input.dtype)
    elif op.result == RESULT_INDEX:
        out_dtype = VT_I64
    elif op.result == RESULT_LOGICAL:
        out_dtype = VT_U8 if input.dtype == VT_U8 else VT_BOOL
    elif op.result == RESULT_REAL:
        out_dtype = real_code(input.dtype)
    else:
        out_dtype = input.dtype
    if op.promote == PROMOTE_FLOAT and input.dtype < VT_F16:
        raise RuntimeError(
            f"{op.name.decode()}(): could not infer output dtype. Input dtype must be either a "
            f"floating point or complex dtype. Got: {dtype_scalar_name(input.dtype)}"
        )

    result = tensor_new(input.ndim, sizes, out_dtype, input.device_type, input.device_index)
    tensor_array(input, &arrays[0])
    tensor_array(result, &arrays[1])
    run_kernel(op.name, op.op, arrays, 2, values)
    if not keepdim:
        for i in range(input.ndim):
            if not mask >> i & 1:
                result.sizes[j] = result.sizes[i]
                result.strides[j] = result.strides[i]
                j += 1
        result.ndim = <uint8_t>j
    if out is None:
        return result
    prepare_out(op.name, out, result.ndim, result.sizes, result.dtype, result.device_type)
    check_no_internal_overlap(out)
    copy_into(out, result)
    return out


cdef int no_identity(const vt_reduction* op) except -1:
    text = f"{op.name.decode()}(): Expected reduction dim to be specified for input.numel() == 0."
    if op.flags & SINGLE_DIM:
        raise IndexError(text)
    raise RuntimeError(f"{text} Specify the reduction dim with the 'dim' argument.")


# --- kernels -----------------------------------------------------------------------------------------

cdef int run_kernel(const char* name, int op, vt_array* arrays, int n, vt_value* values) except -1:
    cdef vt_context ctx
    cdef vt_status status
    cdef int device_type = arrays[0].device_type
    cdef vt_kernel kernel = vt_kernels[op][device_type]
    cdef int64_t numel = 0
    cdef int i
    if kernel is NULL:
        no_kernel(name, device_type)
    for i in range(n):
        numel += arrays[i].numel
        if arrays[i].ndim >= 0 and (arrays[i].device_type != device_type
                                    or arrays[i].device_index != arrays[0].device_index):
            device_mismatch(name.decode(), device_object(device_type, arrays[0].device_index),
                            device_object(arrays[i].device_type, arrays[i].device_index))
    if device_type != VT_CPU:
        status = enter_device(device_type, arrays[0].device_index, op, &ctx)
        if status == VT_OK:
            status = kernel(arrays, values, &ctx)
        return finish_device(name, device_type, status, &ctx, arrays[0].dtype)
    ctx.stream = NULL
    ctx.message = NULL
    ctx.device_index = -1
    if numel < RELEASE_GIL_NUMEL:
        status = kernel(arrays, values, &ctx)
    else:
        with nogil:
            status = kernel(arrays, values, &ctx)
    if status != VT_OK:
        raise_status(name.decode(), status, &ctx, arrays[0].dtype)
    return 0


cdef int no_kernel(const char* name, int device_type) except -1:
    raise NotImplementedError(
        f"{name.decode()}(): no kernel for device type '{device_object(device_type, -1)}'")


# --- values ------------------------------------------------------------------------------------------

cdef int any_scalar_value(object number, vt_value* v) except -1:
    if PyLong_CheckExact(number):
        int_value(number, v)
    elif PyFloat_CheckExact(number):
        float_value(number, v)
    elif number is True or number is False:
        int_value(number is True, v)
    elif number is None:
        v.kind = VT_VALUE_NONE
    elif PyComplex_CheckExact(number):
        v.kind = VT_VALUE_COMPLEX
        v.re = number.real
        v.im = number.imag
    elif isinstance(number, Tensor):
        if (<Tensor>number).numel != 1:
            raise RuntimeError("a Tensor with more than one element cannot be a Scalar")
        return any_scalar_value(number.item(), v)
    elif hasattr(number, "__index__"):
        return any_scalar_value(number.__index__(), v)
    elif isinstance(number, complex):
        return any_scalar_value(complex(number), v)
    else:
        return any_scalar_value(float(number), v)
    return 0


cdef int ints_value(tuple t, int64_t* storage, vt_value* v) except -1:
    cdef Py_ssize_t i
    v.kind = VT_VALUE_INTS
    v.n = len(t)
    v.ints = storage
    for i in range(len(t)):
        storage[i] = t[i]
    return 0
