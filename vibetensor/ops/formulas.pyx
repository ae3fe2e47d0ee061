"""Backward formulas (see formulas.pxd)."""
from libc.math cimport sqrt

from vibetensor.core.iterator cimport dim_mask
from vibetensor.core.tensor cimport tensor_offset, tensor_shape, tensor_strides, tensor_wrap_number
from vibetensor.core.types cimport *
from vibetensor.core.views cimport wrap_dim
from vibetensor.ops.checks cimport new_zeros
from vibetensor.ops.composites cimport *
from vibetensor.ops.entries cimport *
from vibetensor.ops.packed cimport joined, stacked


# --- pointwise -----------------------------------------------------------------------------------------

cdef object sgn_backward(Tensor grad, Tensor input, Tensor result):
    """sgn is constant for real numbers; of complex ones the part of grad across the direction of the
    result stays, over the modulus."""
    if input.dtype < VT_C64:
        return op_zeros_like(grad, -1, False)
    across = (grad / op_abs(input)) - op_real(grad / op_abs(input) * op_conj(result)) * result
    return op__where(input == 0, op_zeros_like(grad, -1, False), across)


cdef object pow_backward_base(Tensor grad, Tensor input, Tensor exponent):
    if exponent.ndim == 0 and exponent.device_type == VT_CPU:
        power = exponent.item()
        if power == 0:
            return op_zeros_like(grad, -1, False)
        if power == 1:
            return grad
        return grad * op_conj(op_pow(input, tensor_wrap_number(power - 1)) * power)
    slope = op_conj(exponent * op_pow(input, exponent - 1))
    return op__where(exponent == 0, tensor_wrap_number(0), grad * slope)


cdef object pow_backward_exponent(Tensor grad, Tensor input, Tensor exponent, Tensor result):
    input = op_to_dtype(input, result.dtype)  # the logarithm of an int would be in float32
    # 0 ** y is flat for y >= 0, where log(0) would give nan.
    if exponent.dtype < VT_C64 and input.dtype < VT_C64:
        flat = op_logical_and(input == 0, exponent >= 0)
    else:
        flat = op_logical_and(input == 0, op_real(exponent) >= 0)
    return op__where(flat, tensor_wrap_number(0), grad * op_conj(result * op_log(input)))


cdef object gelu_second_derivative(Tensor input, int approximate):
    if approximate == 0:
        # d/dx (Phi(x) + x phi(x)) = phi(x) (2 - x^2), phi the normal density.
        squared = op_square(input)
        return op_exp(squared * -0.5) * (2 - squared) * (1 / sqrt(2 * 3.141592653589793))
    # gelu = x (1 + t) / 2 with t = tanh(u), u = c (x + a x^3).
    c, a = sqrt(2 / 3.141592653589793), 0.044715
    squared = op_square(input)
    u1 = (squared * (3 * a) + 1) * c
    u2 = input * (6 * a * c)
    t = op_tanh(input * (squared * a + 1) * c)
    s = 1 - op_square(t)
    return s * u1 + input * 0.5 * (s * u2 - t * s * op_square(u1) * 2)


cdef object silu_second_derivative(Tensor input):
    s = op_sigmoid(input)
    slope = s * (1 - s)
    return slope * (2 + input * (1 - s * 2))


cdef object scaled(object t, object factor):
    return t if factor == 1 else t * factor


# --- reductions ----------------------------------------------------------------------------------------

cdef object restore_dims(object grad, int ndim, object dim, bint keepdim):
    """grad with the reduced dimensions put back as size 1."""
    cdef uint64_t mask
    cdef int i
    if keepdim or ndim == 0:
        return grad
    mask = dim_mask(dim, ndim)
    shape, j = [], 0
    for i in range(ndim):
        if mask >> i & 1:
            shape.append(1)
        else:
            shape.append((<Tensor>grad).sizes[j])
            j += 1
    return op_reshape(grad, tuple(shape))


cdef object expand_reduced(object grad, tuple shape, object dim, bint keepdim):
    return op_expand(restore_dims(grad, <int>len(shape), dim, keepdim), shape)


cdef int64_t reduced_count(tuple shape, object dim) except? -1:
    cdef uint64_t mask = dim_mask(dim, <int>len(shape))
    cdef int64_t n = 1
    cdef int i
    for i in range(len(shape)):
        if mask >> i & 1:
            n *= shape[i]
    return n


cdef object prod_backward(Tensor grad, Tensor input, object dim, bint keepdim):
    """Each element's gradient is the product of the others: exclusive products from both sides, which
    stay right where elements are zero."""
    cdef Tensor flat
    if input.ndim == 0:
        return grad
    input = op_to_dtype(input, grad.dtype)
    if dim is None:
        flat = op_reshape(input, (-1,))
        return op_reshape(op_conj(exclusive_products(flat, 0)) * grad, tensor_shape(input))
    others = exclusive_products(input, wrap_dim(dim, input.ndim))
    return expand_reduced(grad, tensor_shape(input), dim, keepdim) * op_conj(others)


cdef Tensor exclusive_products(Tensor input, int dim):
    """Product over all other elements along dim."""
    cdef int64_t n = input.sizes[dim], i
    if n == 0:
        return input
    pieces = op_unbind(input, dim)
    before, after = [None] * n, [None] * n
    for i in range(1, n):
        before[i] = pieces[i - 1] if before[i - 1] is None else before[i - 1] * pieces[i - 1]
        k = n - 1 - i
        after[k] = pieces[k + 1] if after[k + 1] is None else after[k + 1] * pieces[k + 1]
    products = []
    for i in range(n):
        if before[i] is None and after[i] is None:
            products.append(op_ones_like(pieces[i], -1, False))
        elif before[i] is None:
            products.append(after[i])
        elif after[i] is None:
            products.append(before[i])
        else:
            products.append(before[i] * after[i])
    return op_stack(tuple(products), dim)


cdef object extremum_backward(Tensor grad, Tensor input, Tensor result, object dim, bint keepdim):
    # NaN is the extremum where there is one, and equals nothing.
    best = restore_dims(result, input.ndim, dim, keepdim)
    mask = op_logical_or(input == best, op_logical_and(op_isnan(input), op_isnan(best)))
    count = op_sum(mask, dim, True, -1)
    share = restore_dims(grad, input.ndim, dim, keepdim) / count
    return share * mask


cdef object var_backward(Tensor grad, Tensor input, object dim, double correction, bint keepdim):
    cdef double n = reduced_count(tensor_shape(input), dim)
    centred = input - op_mean(input, dim, True, -1)
    freedom = n - correction
    factor = 2 / freedom if freedom > 0 else (float("nan") if freedom == 0 else 0.0)
    if freedom <= 0:
        factor = float("nan") if n == 0 else float("inf")
        return restore_dims(grad, input.ndim, dim, keepdim) * factor * centred
    return restore_dims(grad, input.ndim, dim, keepdim) * centred * factor


cdef object flip_along(Tensor t, int64_t dim):
    return t if t.ndim == 0 else op_flip(t, dim)


# --- views ---------------------------------------------------------------------------------------------

cdef tuple storage_geometry(Tensor input, object storage_offset):
    cdef int64_t offset = tensor_offset(input)
    return (
        tensor_shape(input), tensor_strides(input), offset,
        offset if storage_offset is None else storage_offset,
    )


cdef object as_strided_backward(Tensor grad, tuple size, tuple stride, tuple geometry):
    """Scatters grad into a flat image of the storage the two views share, and reads the input's part.
    Where several elements of the view name one place, their gradients add up; where the input does
    so itself, each gets an equal share."""
    sizes, strides, offset, view_offset = geometry
    low, high = span((sizes, strides, offset), (size, stride, view_offset))
    cdef Tensor places = element_places(grad, size, stride, view_offset - low)
    flat = new_zeros(grad, (high - low + 1,))
    flat = op_index_add(flat, 0, op_reshape(places, (-1,)), op_reshape(grad, (-1,)), 1)
    own = op_reshape(element_places(grad, sizes, strides, offset - low), (-1,))
    if overlapping(sizes, strides):
        ones = op_ones_like(flat, -1, False)
        count = op_index_add(new_zeros(grad, (high - low + 1,)), 0, own,
                             op_index_select(ones, 0, own), 1)
        flat = flat / op__clamp_min(count, 1)
    return op_reshape(op_index_select(flat, 0, own), sizes)


cdef bint overlapping(tuple sizes, tuple strides):
    for n, s in zip(sizes, strides):
        if n > 1 and s == 0:
            return True
    return False


cdef tuple span(tuple a, tuple b):
    """The lowest and highest storage offset of two geometries."""
    low, high = None, None
    for sizes, strides, offset in (a, b):
        lo = hi = offset
        for n, s in zip(sizes, strides):
            if n > 1:
                lo += min(0, (n - 1) * s)
                hi += max(0, (n - 1) * s)
        low = lo if low is None else min(low, lo)
        high = hi if high is None else max(high, hi)
    return low, high


cdef Tensor element_places(Tensor like, tuple sizes, tuple strides, int64_t offset):
    """The storage offset of every element of a geometry, int64."""
    cdef Tensor places = op_fill_(new_int64(like, tuple([1] * len(sizes))), tensor_wrap_number(offset))
    for i, (n, s) in enumerate(zip(sizes, strides)):
        steps = op_arange_(new_int64(like, (n,)), 0, s)
        places = places + op_reshape(steps, tuple([n if j == i else 1 for j in range(len(sizes))]))
    return places


cdef tuple inverse_permutation(tuple dims):
    cdef Py_ssize_t n = len(dims)
    inverse = [0] * n
    for i, d in enumerate(dims):
        inverse[d if d >= 0 else d + n] = i
    return tuple(inverse)


cdef object select_backward(Tensor grad, tuple shape, int64_t dim, int64_t index):
    full = new_zeros(grad, shape)
    op_copy_(op_select(full, dim, index), grad, False)
    return full


cdef object narrow_backward(Tensor grad, tuple shape, int64_t dim, int64_t start, int64_t length):
    full = new_zeros(grad, shape)
    op_copy_(op_narrow(full, dim, start, length), grad, False)
    return full


cdef object slice_backward(Tensor grad, tuple shape, int64_t dim, object start, object end, int64_t step):
    full = new_zeros(grad, shape)
    op_copy_(op__slice(full, dim, start, end, step), grad, False)
    return full


cdef object diagonal_backward(Tensor grad, tuple shape, int64_t offset, int64_t dim1, int64_t dim2):
    full = new_zeros(grad, shape)
    op_copy_(op_diagonal(full, offset, dim1, dim2), grad, False)
    return full


cdef object view_as_complex_copy(Tensor t):
    return op_select(t, -1, 0) + op_select(t, -1, 1) * 1j


cdef object split_backward(tuple grads, tuple shape, int dtype, tuple sizes, int64_t dim):
    cdef int d = wrap_dim(dim, <int>len(shape))
    cdef Tensor any_grad = first_defined(grads)
    pieces = []
    for g, n in zip(grads, sizes):
        pieces.append(g if g is not None else new_zeros(any_grad, shape[:d] + (n,) + shape[d + 1:]))
    grads = tuple(pieces)
    whole = joined(grads, d)
    return op__cat(grads, d) if whole is None else whole


cdef object unbind_backward(tuple grads, tuple shape, int dtype, int64_t dim):
    cdef int d = wrap_dim(dim, <int>len(shape))
    cdef Tensor any_grad = first_defined(grads)
    grads = tuple([
        g if g is not None else new_zeros(any_grad, shape[:d] + shape[d + 1:]) for g in grads
    ])
    whole = stacked(grads, d)
    return op_stack(grads, d) if whole is None else whole


cdef Tensor first_defined(tuple grads):
    for g in grads:
        if g is not None:
            return <Tensor>g
    return None


# --- matrix products -------------------------------------------------------------------------------------

cdef object adjoint(Tensor t):
    return op_conj(op_transpose(t, -2, -1))


cdef tuple linear_backward(Tensor grad, Tensor input, Tensor weight, tuple wanted, int weight_dtype):
    """Over rows: (n, out) gradients, (n, in) inputs, (out, in) weights."""
    rows = op_reshape(input, (-1, weight.sizes[1])) if input.ndim != 2 else input
    grad_weight, grad_bias = parameter_gradients(
        grad, rows, wanted[1], wanted[2], weight_dtype
    )
    return (
        op_view(op_mm(grad, op_conj(weight)), tensor_shape(input)) if wanted[0] else None,
        grad_weight, grad_bias,
    )


cdef tuple parameter_gradients(Tensor grad, Tensor rows, bint weight, bint bias, int weight_dtype):
    """The gradients of a linear layer by its weight and bias, None where not wanted; on CUDA of one
    product, which stores them in float32 where the weight takes that (see Note [Casts])."""
    if (
        weight and grad.device_type == VT_CUDA and VT_F16 <= grad.dtype <= VT_F32
        and not vt_grad_enabled()
    ):
        return op_linear_backward_parameters(
            grad, rows, bias, VT_F32 if weight_dtype == VT_F32 else grad.dtype
        )
    return (
        op_mm(op_transpose(grad, 0, 1), op_conj(rows)) if weight else None,
        op_sum(grad, 0, False, -1) if bias else None,
    )


# --- networks --------------------------------------------------------------------------------------------

cdef tuple trailing_dims(Tensor t, int64_t n):
    return tuple(range(t.ndim - n, t.ndim))


cdef object affine(object t, Tensor weight, Tensor bias):
    if weight is not None:
        t = t * weight
    return t if bias is None else t + bias


cdef object cross_entropy_reference(Tensor input, Tensor target, Tensor weight, int64_t reduction,
                                    int64_t ignore_index, double label_smoothing):
    cdef int d = 0 if input.ndim == 1 else 1
    log_p = op__log_softmax(input, d)
    counted = op_ne(target, tensor_wrap_number(ignore_index))
    safe = op_masked_fill(target, op_logical_not(counted), tensor_wrap_number(0))
    picked = op_squeeze(op_gather(log_p, d, op_unsqueeze(safe, d)), d)
    if weight is None:
        weights = op_to_dtype(counted, input.dtype)
        smooth = op_sum(log_p, d, False, -1)
    else:
        weights = op_index_select(weight, 0, op_reshape(safe, (-1,)))
        weights = op_reshape(weights, tensor_shape(target)) * counted
        shape = [1] * input.ndim
        shape[d] = -1
        smooth = op_sum(log_p * op_reshape(weight, tuple(shape)), d, False, -1)
    cdef int64_t classes = input.sizes[d]
    loss = -picked * weights
    if label_smoothing > 0:
        loss = loss * (1 - label_smoothing) - smooth * counted * (label_smoothing / classes)
    if reduction == 0:
        return loss
    total = op_sum(loss, None, False, -1)
    return total if reduction == 2 else total / op_sum(weights, None, False, -1)


cdef object embedding_double_backward(Tensor grad, Tensor indices, int64_t padding_idx,
                                      bint scale_grad_by_freq):
    if scale_grad_by_freq:
        raise RuntimeError(
            "double backward for embedding with scale_grad_by_freq is not implemented"
        )
    rows = op__embedding(grad, indices, -1, False)
    if padding_idx < 0:
        return rows
    padding = op_unsqueeze(op_eq(indices, tensor_wrap_number(padding_idx)), -1)
    return op_masked_fill(rows, padding, tensor_wrap_number(0))
