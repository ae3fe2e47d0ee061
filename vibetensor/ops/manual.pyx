"""Handwritten entries (see manual.pxd)."""
from libc.string cimport memcpy

from vibetensor.core.dtype cimport dtype_name, dtype_scalar_name
from vibetensor.core.iterator cimport (
    copy_between, copy_into, float_value, int_value, read_element, run_kernel,
)
from vibetensor.core.scalar cimport check_fill
from vibetensor.core.tensor cimport (
    F_CONTIGUOUS, bump_version, tensor_alias, tensor_array, tensor_empty, tensor_empty_like,
    tensor_is_dense, tensor_new, tensor_new_like, tensor_same_shape, tensor_shape, tensor_update,
)
from vibetensor.core.types cimport *
from vibetensor.core.views cimport expand_view, permute_view
from vibetensor.ops.entries cimport *
from vibetensor.ops.checks cimport new_statistic
from vibetensor.ops.support cimport TensorArrays, begin_write, copy_of


# --- copies ----------------------------------------------------------------------------------------------

cdef Tensor manual_copy_(Tensor input, Tensor src, bint non_blocking):
    if not tensor_same_shape(input, src):
        src = op_expand(src, tensor_shape(input))
    return op__copy_(input, src, non_blocking)


cdef Tensor manual__copy_(Tensor input, Tensor src, bint non_blocking):
    begin_write(input)
    if input is src:
        return input
    if input.storage is src.storage:
        src = manual__clone(src, False)  # the two may overlap in any way
    copy_between(input, src, non_blocking)
    bump_version(input)
    return input


cdef Tensor manual__clone(Tensor input, bint contiguous):
    cdef Tensor out
    out = tensor_new_like(input, input.dtype) if contiguous else tensor_empty_like(input, input.dtype)
    copy_into(out, input)
    return out


cdef Tensor manual__to_copy(Tensor input, int dtype):
    cdef Tensor out = tensor_empty_like(input, dtype)
    copy_into(out, input)
    return out


cdef Tensor manual__to_device(Tensor input, int dtype, int64_t device_type, int64_t device_index,
                              bint non_blocking):
    cdef Tensor out = tensor_new(input.ndim, input.sizes, dtype, <int>device_type, <int>device_index)
    if tensor_is_dense(input) and not input.flags & F_CONTIGUOUS:
        memcpy(out.strides, input.strides, input.ndim * sizeof(int64_t))
        tensor_update(out)
    copy_between(out, input, non_blocking)
    return out


cdef object place_of(Tensor t):
    return t.device_type, t.device_index


cdef Tensor to_place(Tensor t, object place):
    cdef int device_type = place[0], device_index = place[1]
    if t.device_type == device_type and t.device_index == device_index:
        return t
    return op__to_device(t, t.dtype, device_type, device_index, False)


cdef Tensor manual_detach(Tensor input):
    return tensor_alias(input)  # no view for autograd: nothing leads back to the input


# --- like another tensor -----------------------------------------------------------------------------------

cdef Tensor like(Tensor input, int dtype):
    return tensor_empty_like(input, input.dtype if dtype < 0 else dtype)


cdef Tensor leaf(Tensor t, bint requires_grad):
    t.storage.version = 0  # filling it was no in-place write to the user
    if requires_grad:
        t.requires_grad = True
    return t


cdef Tensor manual_empty_like(Tensor input, int dtype, bint requires_grad):
    return leaf(like(input, dtype), requires_grad)


cdef Tensor manual_zeros_like(Tensor input, int dtype, bint requires_grad):
    return leaf(op_zero_(like(input, dtype)), requires_grad)


cdef Tensor manual_ones_like(Tensor input, int dtype, bint requires_grad):
    return leaf(op__fill_(like(input, dtype), 1), requires_grad)


cdef Tensor manual_full_like(Tensor input, object fill_value, int dtype, bint requires_grad):
    check_fill(fill_value, input.dtype if dtype < 0 else dtype)
    return leaf(op__fill_(like(input, dtype), fill_value), requires_grad)


cdef Tensor manual_rand_like(Tensor input, int dtype, bint requires_grad):
    return leaf(op_uniform_(like(input, dtype), 0, 1, None), requires_grad)


cdef Tensor manual_randn_like(Tensor input, int dtype, bint requires_grad):
    return leaf(op_normal_(like(input, dtype), 0, 1, None), requires_grad)


# --- indexing ------------------------------------------------------------------------------------------------
# Note [Canonical index]: the kernels see the dimensions made by index tensors first, all indices
# broadcast to one shape, then the remaining dimensions of the input. `order` says where each of
# these dimensions stands in the result: in front, or, if the indexed dimensions are neighbours, in
# their place.

cdef tuple canonical(Tensor input, tuple indices):
    """(indices padded and broadcast, their shape, remaining shape, place of the index dimensions)."""
    cdef Tensor t, first = None
    cdef int i, low = 0, high = 0, count = 0
    cdef bint same = True
    cdef list padded
    for x in indices:
        if x is not None and (
            (<Tensor>x).dtype != VT_I64 or (<Tensor>x).device_type != input.device_type
            or (<Tensor>x).device_index != input.device_index
        ):
            indices = integer_indices(input, indices)
            break
    if len(indices) > input.ndim:
        raise IndexError(
            f"too many indices for tensor of dimension {input.ndim} (got {len(indices)})"
        )
    padded = list(indices)
    for i in range(<int>len(padded)):
        if padded[i] is None:
            continue
        t = <Tensor>padded[i]
        if t.dtype != VT_I64:
            raise IndexError(
                f"tensors used as indices must be long, int, byte or bool tensors, got "
                f"{dtype_name(t.dtype)}"
            )
        if first is None:
            first = t
            low = i
        else:
            same = same and tensor_same_shape(t, first)
        high = i
        count += 1
    if first is None:
        raise RuntimeError("at least one index must be provided")
    shape = tensor_shape(first)
    if not same:
        shape = expand_together(padded)
    for i in range(<int>len(padded), input.ndim):
        padded.append(None)
    rest = tuple([input.sizes[i] for i in range(input.ndim) if padded[i] is None])
    return tuple(padded), shape, rest, low if high - low + 1 == count else 0


cdef tuple expand_together(list indices):
    """Broadcasts index tensors to one shape, which it returns."""
    cdef int i
    named = [t for t in indices if t is not None]
    try:
        shape = broadcast_shape(named)
    except RuntimeError:
        shapes = ", ".join([str(list(tensor_shape(<Tensor>t))) for t in named])
        raise IndexError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
        ) from None
    for i in range(<int>len(indices)):
        if indices[i] is not None:
            indices[i] = expand_view(<Tensor>indices[i], shape)
    return shape


cdef tuple integer_indices(Tensor input, tuple indices):
    """Masks as the index tensors of their non-zero elements, other integers in int64."""
    cdef Tensor t
    result = []
    for x in indices:
        t = <Tensor>x
        if x is None:
            result.append(x)
        elif t.dtype == VT_BOOL:
            covered = tensor_shape(input)[len(result):len(result) + t.ndim]
            if tensor_shape(t) != covered:
                raise IndexError(
                    f"The shape of the mask {list(tensor_shape(t))} does not match the shape of the "
                    f"indexed dimensions {list(covered)}"
                )
            result.extend([index_beside(input, c) for c in op_unbind(manual_find(t), 1)])
        else:
            result.append(index_beside(input, op_to_dtype(t, VT_I64) if t.dtype == VT_I32 else t))
    return tuple(result)


cdef Tensor index_beside(Tensor input, Tensor index):
    """An index of the host serves any device."""
    if index.device_type == input.device_type and index.device_index == input.device_index:
        return index
    if index.device_type != VT_CPU:
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed "
                           f"tensor ({input.device})")
    return op__to_device(index, index.dtype, input.device_type, input.device_index, False)


cdef tuple broadcast_shape(list tensors):
    shape = ()
    for t in tensors:
        s = tensor_shape(<Tensor>t)
        n = max(len(s), len(shape))
        a = (1,) * (n - len(s)) + s
        b = (1,) * (n - len(shape)) + shape
        for x, y in zip(a, b):
            if x != y and x != 1 and y != 1:
                raise RuntimeError("shape mismatch")
        shape = tuple([y if x == 1 else x for x, y in zip(a, b)])
    return shape


cdef tuple canonical_order(Py_ssize_t nindex, Py_ssize_t nrest, Py_ssize_t place):
    """For each canonical dimension, its position in the result."""
    front = tuple(range(place, place + nindex))
    return front + tuple(range(place)) + tuple(range(place + nindex, nindex + nrest))


cdef Tensor index_output(Tensor input, tuple shape, tuple order):
    cdef Tensor out = tensor_empty(shape, input.dtype, input.device_type, input.device_index)
    return out if order is None else permute_view(out, order)


cdef Tensor manual_index(Tensor input, tuple indices):
    padded, shape, rest, place = canonical(input, indices)
    if place == 0:  # the dimensions of the result are in the canonical order
        return op__index(input, padded, shape + rest, None)
    result = rest[:place] + shape + rest[place:]
    order = canonical_order(len(shape), len(rest), place)
    out = op__index(input, padded, result, order)
    inverse = [0] * len(order)
    for i, d in enumerate(order):
        inverse[d] = i
    return permute_view(out, tuple(inverse))


cdef Tensor manual_index_put_(Tensor input, tuple indices, Tensor values, bint accumulate):
    begin_write(input)
    if values.dtype != input.dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got "
            f"{dtype_scalar_name(input.dtype)} for the destination and "
            f"{dtype_scalar_name(values.dtype)} for the source."
        )
    if values.ndim == 0 and values.device_type == VT_CPU and input.device_type != VT_CPU:
        values = to_place(values, place_of(input))
    padded, shape, rest, place = canonical(input, indices)
    result = rest[:place] + shape + rest[place:]
    try:
        wide = expand_view(values, result)
    except RuntimeError:
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(tensor_shape(values))} cannot be broadcast "
            f"to indexing result of shape {list(result)}"
        ) from None
    source = permute_view(wide, canonical_order(len(shape), len(rest), place))
    if source.storage is input.storage:
        source = copy_of(source)
    op__index_put_(input, source, padded, accumulate)
    return input


cdef Tensor manual_index_put(Tensor input, tuple indices, Tensor values, bint accumulate):
    return manual_index_put_(copy_of(input), indices, values, accumulate)


cdef Tensor manual_find(Tensor input):
    cdef Tensor count = op__count_nonzero(input)
    cdef int64_t n[2]
    if count.device_type == VT_CPU:
        n[0] = (<int64_t*>count.data)[0]
    else:
        read_element(count, <char*>n)  # waits: the shape of the result depends on it
    return op__nonzero(input, n[0])


# --- complex numbers -----------------------------------------------------------------------------------------

cdef Tensor manual_conj(Tensor input):
    return input if input.dtype < VT_C64 else op__conj(input)


cdef Tensor manual_real(Tensor input):
    return input if input.dtype < VT_C64 else op__real(input)


# --- optimizers ------------------------------------------------------------------------------------------

cdef int check_lists(str op, tuple params, tuple lists) except -1:
    """Every list has one tensor per parameter, of its shape and dtype."""
    cdef Tensor p, t
    for tensors in lists:
        if len(tensors) != len(params):
            raise RuntimeError(f"{op}(): {len(params)} tensors expected in each list, got {len(tensors)}")
        for x, y in zip(params, tensors):
            p, t = <Tensor>x, <Tensor>y
            if not tensor_same_shape(p, t) or p.dtype != t.dtype or p.device_type != t.device_type:
                raise RuntimeError(
                    f"{op}(): expected shape {list(tensor_shape(p))} and dtype {p.dtype}, got "
                    f"{list(tensor_shape(t))} and {t.dtype}"
                )
    return 0


cdef int update(const char* name, int op, tuple written, list lists, vt_value* values, int nlists) except -1:
    """Runs a kernel over lists of tensors, which are the first of its values."""
    cdef vt_array first
    cdef int i
    if not written[0]:
        return 0
    for tensors in written:
        for t in tensors:
            begin_write(<Tensor>t)
    arrays = [TensorArrays(<tuple>tensors) for tensors in lists]
    tensor_array(<Tensor>written[0][0], &first)
    for i in range(nlists):
        (<TensorArrays>arrays[i]).beside(name, &first, &values[i])
    run_kernel(name, op, &first, 1, values)
    for tensors in written:
        for t in tensors:
            bump_version(<Tensor>t)
    return 0


cdef list device_numbers(const char* name, tuple params, tuple numbers, vt_value* first_place,
                         vt_value* second_place):
    """Lets values be read from device memory, where `numbers` has tensors for them; the result has to
    live until the kernel has run."""
    cdef vt_array first
    if not numbers or not params:
        return []
    if (<Tensor>params[0]).device_type == VT_CPU:
        raise RuntimeError(f"{name.decode()}(): numbers of a device are for parameters on one")
    tensor_array(<Tensor>params[0], &first)
    kept = []
    for i in range(len(numbers)):
        arrays = TensorArrays((numbers[i],))
        (<TensorArrays>arrays).beside(name, &first, first_place if i == 0 else second_place)
        kept.append(arrays)
    return kept


cdef int check_flag(str op, str name, Tensor t, int dtype) except -1:
    """A number on the device that a kernel reads or writes."""
    if t.numel != 1 or t.dtype != dtype:
        raise RuntimeError(
            f"{op}(): {name} must be a {dtype_name(dtype)} tensor with one element, got shape "
            f"{list(tensor_shape(t))} and {t.dtype}"
        )
    return 0


cdef TensorArrays optional_number(const char* name, tuple params, str what, Tensor t, vt_value* v):
    """A number that may be missing, as a list of one array or of none; it has to live until the kernel
    has run."""
    cdef vt_array first
    cdef TensorArrays arrays = TensorArrays(() if t is None else (t,))
    if t is not None:
        check_flag(name.decode(), what, t, VT_F32)
    if params:
        tensor_array(<Tensor>params[0], &first)
        arrays.beside(name, &first, v)
    return arrays


cdef tuple manual__adamw_(tuple params, tuple grads, tuple exp_avgs, tuple exp_avg_sqs, double lr,
                          double beta1, double beta2, double eps, double weight_decay, int64_t step,
                          bint maximize, bint decoupled, tuple numbers, Tensor found_inf,
                          Tensor skipped):
    cdef vt_value values[14]
    check_lists("_adamw_", params, (grads, exp_avgs, exp_avg_sqs))
    float_value(lr, &values[4])
    float_value(beta1, &values[5])
    float_value(beta2, &values[6])
    float_value(eps, &values[7])
    float_value(weight_decay, &values[8])
    int_value(step, &values[9])
    int_value(maximize, &values[10])
    int_value(decoupled, &values[11])
    kept = device_numbers(b"_adamw_", params, numbers, &values[4], &values[9])
    kept.append(optional_number(b"_adamw_", params, "found_inf", found_inf, &values[12]))
    kept.append(optional_number(b"_adamw_", params, "skipped", skipped, &values[13]))
    update(b"_adamw_", OP__adamw_, (params, exp_avgs, exp_avg_sqs),
           [params, grads, exp_avgs, exp_avg_sqs], values, 4)
    return params


cdef tuple manual__sgd_(tuple params, tuple grads, tuple momentum_buffers, double lr, double momentum,
                        double dampening, double weight_decay, bint nesterov, bint maximize,
                        bint first, tuple numbers, Tensor found_inf):
    cdef vt_value values[11]
    check_lists("_sgd_", params, (grads, momentum_buffers) if momentum_buffers else (grads,))
    float_value(lr, &values[3])
    float_value(momentum, &values[4])
    float_value(dampening, &values[5])
    float_value(weight_decay, &values[6])
    int_value(nesterov, &values[7])
    int_value(maximize, &values[8])
    int_value(first, &values[9])
    kept = device_numbers(b"_sgd_", params, numbers, &values[3], NULL)
    kept.append(optional_number(b"_sgd_", params, "found_inf", found_inf, &values[10]))
    update(b"_sgd_", OP__sgd_, (params, momentum_buffers), [params, grads, momentum_buffers], values, 3)
    return params


cdef tuple manual__muon_(tuple grads, tuple momentum_buffers, tuple updates, double momentum,
                         bint nesterov):
    cdef vt_value values[5]
    check_lists("_muon_", grads, (momentum_buffers, updates))
    float_value(momentum, &values[3])
    int_value(nesterov, &values[4])
    update(b"_muon_", OP__muon_, (momentum_buffers, updates), [grads, momentum_buffers, updates],
           values, 3)
    return updates


cdef Tensor manual__grad_norm(tuple grads, double norm_type):
    cdef vt_value values[2]
    cdef vt_array array
    cdef TensorArrays lists = TensorArrays(grads)
    if not grads:
        raise RuntimeError("_grad_norm(): expected at least one tensor")
    cdef Tensor out = new_statistic(<Tensor>grads[0], ())
    tensor_array(out, &array)
    lists.beside(b"_grad_norm", &array, &values[0])
    float_value(norm_type, &values[1])
    run_kernel(b"_grad_norm", OP__grad_norm, &array, 1, values)
    return out


cdef tuple manual__scale_(tuple tensors, Tensor scale):
    return multiply(b"_scale_", OP__scale_, tensors, scale, None)


cdef tuple manual__cast_tensors_(tuple results, tuple tensors):
    cdef vt_value values[2]
    update(b"_cast_tensors_", OP__cast_tensors_, (results,), [tensors, results], values, 2)
    return results


cdef tuple manual__amp_foreach_non_finite_check_and_unscale_(tuple tensors, Tensor found_inf,
                                                             Tensor inv_scale):
    name = b"_amp_foreach_non_finite_check_and_unscale_"
    check_flag(name.decode(), "found_inf", found_inf, VT_F32)
    check_flag(name.decode(), "inv_scale", inv_scale, VT_F32)
    multiply(name, OP__amp_foreach_non_finite_check_and_unscale_, tensors, inv_scale, found_inf)
    bump_version(found_inf)
    return tensors


cdef tuple multiply(const char* name, int op, tuple tensors, Tensor factor, Tensor found_inf):
    """Runs a kernel that multiplies tensors in place; its arrays are the factor and `found_inf`."""
    cdef vt_value values[1]
    cdef vt_array arrays[2]
    cdef TensorArrays lists = TensorArrays(tensors)
    for t in tensors:
        begin_write(<Tensor>t)
    tensor_array(factor, &arrays[0])
    tensor_array(found_inf, &arrays[1])
    lists.beside(name, &arrays[0], &values[0])
    run_kernel(name, op, arrays, 1 if found_inf is None else 2, values)
    for t in tensors:
        bump_version(<Tensor>t)
    return tensors
