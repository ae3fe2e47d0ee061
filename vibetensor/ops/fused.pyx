"""Bodies of fused operators (see fused.pxd)."""
from libc.stdint cimport uint32_t

from vibetensor.core.dtype cimport dtype_name, dtype_scalar_name
from vibetensor.core.tensor cimport (
    tensor_empty, tensor_new_like, tensor_same_shape, tensor_shape, tensor_wrap_number,
)
from vibetensor.core.types cimport *
from vibetensor.ops.autocast cimport *
from vibetensor.ops.checks cimport (
    PHILOX_UNIFORM, check_embedding, check_floating, check_linear, check_normalized, default_epsilon,
    new_dtype, new_empty, new_statistic, new_zeros, philox,
)
from vibetensor.ops.composites cimport (
    dropout_composite, embedding_composite, linear_composite, rms_norm_composite,
)
from vibetensor.ops.entries cimport *
from vibetensor.ops.formulas cimport affine, parameter_gradients, trailing_dims
from vibetensor.ops.support cimport any_needs_grad, gradient_dtype

# What operators do inside an operator is neither recorded nor cast.
cdef uint32_t ABOVE_BACKENDS = KEYS_AUTOGRAD | 1 << VT_KEY_AUTOCAST


cdef bint is_half(int dtype):
    return dtype == VT_F16 or dtype == VT_BF16


cdef bint records(tuple tensors) except -1:
    """Whether a gradient by one of them will be asked for."""
    return vt_grad_enabled() and any_needs_grad(tensors)


# --- residual and dropout --------------------------------------------------------------------------------

cdef int check_addend(str op, Tensor input, Tensor residual) except -1:
    if not tensor_same_shape(input, residual):
        raise RuntimeError(
            f"{op}(): expected residual to have the shape of input, {list(tensor_shape(input))}, but got "
            f"{list(tensor_shape(residual))}"
        )
    if input.dtype != residual.dtype and not (is_half(input.dtype) and residual.dtype == VT_F32):
        raise RuntimeError(
            f"{op}(): expected residual to have the dtype of input, {dtype_name(input.dtype)}, or float32 "
            f"for a half type, but got {dtype_name(residual.dtype)}"
        )
    return 0


cdef int norm_dtype(Tensor input, Tensor residual) noexcept:
    """Of the norm of their sum: inside autocast what the product behind it wants."""
    return input.dtype if vt_tls.autocast_devices & 1 << VT_CUDA else residual.dtype


cdef Tensor dropout_output(Tensor input, Tensor residual):
    if residual is None:
        return tensor_new_like(input, input.dtype)
    check_addend("dropout_add", input, residual)
    return tensor_new_like(residual, residual.dtype)


cdef double dropout_rate(double p, bint training) except -1:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return p if training else 0


cdef Tensor dropout_add_composite(Tensor input, Tensor residual, double p, bint training):
    p = dropout_rate(p, training)
    check_addend("dropout_add", input, residual)
    if p == 0 or p == 1 or input.numel == 0:
        return op_add(residual, dropout_composite(input, p, True, False), 1)
    check_floating("dropout_add", input)
    seed, offset = philox(input, None, PHILOX_UNIFORM)
    return op__dropout(input, residual, p, seed, offset)


cdef tuple add_layer_norm_composite(Tensor input, Tensor residual, tuple normalized_shape, Tensor weight,
                                    Tensor bias, double eps, double p, bint training):
    cdef int64_t seed = 0, offset = 0
    p = dropout_rate(p, training)
    check_addend("add_layer_norm", input, residual)
    if input.device_type != VT_CUDA or p == 1:
        total = dropout_add_composite(input, residual, p, True)
        return op_layer_norm(total, normalized_shape, weight, bias, eps), total
    check_normalized("add_layer_norm", residual, normalized_shape, weight, bias)
    if p > 0:
        seed, offset = philox(input, None, PHILOX_UNIFORM)
    return op__add_layer_norm(
        input, residual, normalized_shape, weight, bias, eps, p, seed, offset
    )[:2]


cdef tuple add_rms_norm_composite(Tensor input, Tensor residual, tuple normalized_shape, Tensor weight,
                                  object eps, double p, bint training):
    cdef int64_t seed = 0, offset = 0
    cdef double epsilon = default_epsilon(residual) if eps is None else eps
    p = dropout_rate(p, training)
    check_addend("add_rms_norm", input, residual)
    if input.device_type != VT_CUDA or p == 1 or residual.dtype >= VT_C64:
        total = dropout_add_composite(input, residual, p, True)
        return rms_norm_composite(total, normalized_shape, weight, epsilon), total
    check_normalized("add_rms_norm", residual, normalized_shape, weight, None)
    if p > 0:
        seed, offset = philox(input, None, PHILOX_UNIFORM)
    return op__add_rms_norm(input, residual, normalized_shape, weight, epsilon, p, seed, offset)[:2]


cdef tuple norm_gradients(Tensor grad, Tensor total, Tensor weight, bint centred, int64_t dims,
                          double eps):
    """By total, weight and bias, in operators: with v the normalised rows and h = grad * weight,
    rstd * (h - mean(h) - v * mean(h * v)), without mean(h) for rms norm."""
    along = trailing_dims(total, dims)
    lead = tuple(range(total.ndim - dims))
    v = op_sub(total, op_mean(total, along, True, -1), 1) if centred else total
    rstd = op_rsqrt(op_mean(op_square(v), along, True, -1) + eps)
    v = v * rstd
    h = affine(grad, weight, None)
    d = h - v * op_mean(h * v, along, True, -1)
    if centred:
        d = d - op_mean(h, along, True, -1)
    by_weight = grad * v
    return (
        d * rstd, op_sum(by_weight, lead, False, -1) if lead else by_weight,
        op_sum(grad, lead, False, -1) if lead else grad,
    )


cdef tuple add_norm_gradients(tuple grads, Tensor total, Tensor weight, Tensor mean, Tensor rstd,
                              tuple normalized_shape, double eps, double p, int64_t seed,
                              int64_t offset, tuple wanted, int64_t kind):
    cdef Tensor grad = grads[0], more = grads[1], d, dropped = None
    by_weight = by_bias = None
    if grad is None:
        d = more
    elif vt_grad_enabled():
        d, by_weight, by_bias = norm_gradients(
            grad, total, weight, mean is not None, len(normalized_shape), eps
        )
        d = d if more is None else op_add(d, more, 1)
    elif mean is not None:
        d, dropped, by_weight, by_bias = op_add_layer_norm_backward(
            grad, more, total, weight, mean, rstd, normalized_shape, p, seed, offset, wanted, kind
        )
    else:
        d, dropped, by_weight = op_add_rms_norm_backward(
            grad, more, total, weight, rstd, normalized_shape, p, seed, offset, wanted, kind
        )
    if dropped is None:
        dropped = d if p == 0 else op__dropout(d, None, p, seed, offset)
    return dropped, d, by_weight, by_bias


# --- activations -----------------------------------------------------------------------------------------

cdef int check_swiglu(Tensor gate, Tensor up) except -1:
    if up is None:
        if gate.ndim == 0 or gate.sizes[gate.ndim - 1] % 2 != 0:
            raise RuntimeError(
                "swiglu(): without up, expected a last dimension of even size that holds both halves, but "
                f"got input of shape {list(tensor_shape(gate))}"
            )
    elif not tensor_same_shape(gate, up) or gate.dtype != up.dtype:
        raise RuntimeError(
            f"swiglu(): expected up to have the shape and dtype of input, {list(tensor_shape(gate))} and "
            f"{dtype_name(gate.dtype)}, but got {list(tensor_shape(up))} and {dtype_name(up.dtype)}"
        )
    return 0 if gate.dtype >= VT_C64 else check_floating("swiglu", gate)


cdef Tensor half_rows(Tensor packed):
    return new_empty(packed, tensor_shape(packed)[:-1] + (packed.sizes[packed.ndim - 1] // 2,))


cdef Tensor swiglu_reference(Tensor gate, Tensor up):
    cdef int64_t n
    if up is None:
        n = gate.sizes[gate.ndim - 1] // 2
        gate, up = op_narrow(gate, -1, 0, n), op_narrow(gate, -1, n, n)
    return op_mul(op__silu(gate), up)


cdef Tensor swiglu_composite(Tensor gate, Tensor up):
    check_swiglu(gate, up)
    if gate.device_type != VT_CUDA or gate.ndim == 0 or gate.dtype >= VT_C64:
        return swiglu_reference(gate, up)
    return op__swiglu(gate, up)


# --- linear layers ---------------------------------------------------------------------------------------

cdef Tensor gelu_tanh(Tensor input):
    return op_gelu(input, 1)


cdef bint plain_layer(Tensor input, Tensor weight, Tensor bias):
    """Whether the shapes are those that every linear layer has."""
    return (
        input.ndim > 0 and weight.ndim == 2
        and (bias is None or (bias.ndim == 1 and bias.numel == weight.sizes[0]))
    )


cdef Tensor linear_gelu_composite(Tensor input, Tensor weight, Tensor bias):
    if not plain_layer(input, weight, bias) or not VT_F16 <= input.dtype <= VT_F64:
        return gelu_tanh(linear_composite(input, weight, bias))
    keep = records((input, weight, bias))
    rows = op_unsqueeze(input, 0) if input.ndim == 1 else input
    out = <Tensor>op__linear_gelu(rows, weight, bias, keep)[0]
    return out if input.ndim == 2 else op_view(out, tensor_shape(input)[:-1] + (weight.sizes[0],))


cdef tuple manual__gelu_mlp(Tensor input, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2):
    cdef uint32_t excluded = vt_tls.excluded
    vt_tls.excluded |= ABOVE_BACKENDS
    try:
        hidden, linear = op__linear_gelu(input, weight1, bias1, True)
        return op__linear(hidden, weight2, bias2), linear, hidden
    finally:
        vt_tls.excluded = excluded


cdef tuple gelu_mlp_gradients(Tensor grad, Tensor input, Tensor weight1, Tensor weight2, Tensor linear,
                              Tensor hidden, tuple wanted, int weight1_dtype, int weight2_dtype):
    cdef Tensor through
    cdef int kind = VT_F32 if weight1_dtype == VT_F32 else grad.dtype
    by_input = by_weight1 = by_bias1 = None
    by_weight2, by_bias2 = parameter_gradients(grad, hidden, wanted[3], wanted[4], weight2_dtype)
    if wanted[0] or wanted[1] or wanted[2]:
        if grad.device_type == VT_CUDA:
            through, by_bias1 = op_linear_gelu_backward(grad, weight2, linear, wanted[2], kind)
        else:
            through = op_gelu_backward(op_mm(grad, weight2), linear, 1)
            by_bias1 = op_sum(through, 0, False, -1) if wanted[2] else None
        by_weight1 = parameter_gradients(through, input, wanted[1], False, weight1_dtype)[0]
        by_input = op_mm(through, weight1) if wanted[0] else None
    return by_input, by_weight1, by_bias1, by_weight2, by_bias2


cdef Tensor gelu_mlp_composite(Tensor input, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2):
    if (
        not records((input, weight1, bias1, weight2, bias2))
        or not plain_layer(input, weight1, bias1) or not VT_F16 <= input.dtype <= VT_F64
        or weight2.ndim != 2 or weight2.sizes[1] != weight1.sizes[0]
        or not plain_layer(input, weight2, bias2) or input.dtype != weight1.dtype
    ):
        return linear_composite(linear_gelu_composite(input, weight1, bias1), weight2, bias2)
    check_linear(input, weight1, bias1)
    if input.ndim == 2:
        return <Tensor>op__gelu_mlp(input, weight1, bias1, weight2, bias2)[0]
    rows = op_reshape(input, (input.numel // max(weight1.sizes[1], 1), weight1.sizes[1]))
    out = <Tensor>op__gelu_mlp(rows, weight1, bias1, weight2, bias2)[0]
    return op_view(out, tensor_shape(input)[:-1] + (weight2.sizes[0],))


# --- embedding -------------------------------------------------------------------------------------------

cdef Tensor embedding_with_position_composite(Tensor input, Tensor weight, Tensor position,
                                              object padding_idx):
    cdef int64_t length, padding
    check_embedding(weight, input)
    if input.ndim == 0:
        raise RuntimeError("embedding_with_position(): expected input of at least one dimension, got none")
    length = input.sizes[input.ndim - 1]
    if position.ndim != 2 or position.sizes[1] != weight.sizes[1] or position.sizes[0] < length:
        raise RuntimeError(
            f"embedding_with_position(): expected position_weight of shape (at least {length}, "
            f"{weight.sizes[1]}), but got {list(tensor_shape(position))}"
        )
    if position.dtype != weight.dtype:
        raise RuntimeError(
            "embedding_with_position(): expected position_weight to have the dtype of weight, "
            f"{dtype_name(weight.dtype)}, but got {dtype_name(position.dtype)}"
        )
    if position.sizes[0] != length:
        position = op_narrow(position, 0, 0, length)
    if weight.device_type != VT_CUDA or not VT_F16 <= weight.dtype <= VT_F64:
        return op_add(embedding_composite(input, weight, padding_idx, None, 2.0, False, False), position, 1)
    padding = -1
    if padding_idx is not None:
        padding = padding_idx
        if not -weight.sizes[0] <= padding < weight.sizes[0]:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding += weight.sizes[0] if padding < 0 else 0
    return op__embedding_add(weight, input, position, padding)


# --- linear and cross entropy ----------------------------------------------------------------------------

# Bytes of the logits that are there at a time. Fewer rows at a time mean more passes over the gradient of
# the weights, and each rounds it.
cdef int64_t CHUNK_BYTES = 1 << 30
# Gradients of a mean over thousands of samples are too small for float16: they are formed times this.
cdef double HALF_SCALE = 1024


cdef tuple chunked(Tensor input, Tensor weight, Tensor bias, Tensor target, bint mean,
                   int64_t ignore_index, double label_smoothing, tuple needs, int64_t chunk,
                   int64_t result_dtype, int weight_dtype):
    cdef int64_t n = input.sizes[0], start, rows
    cdef double scale = HALF_SCALE if input.dtype == VT_F16 else 1
    cdef bint gradient = needs[0] or needs[1] or needs[2]
    cdef Tensor logits, x, t, losses, loss, count = None, by_bias = None
    cdef Tensor by_input = new_empty(input, tensor_shape(input)) if needs[0] else None
    cdef Tensor by_weight = None
    losses = tensor_empty((n,), VT_F64, input.device_type, input.device_index)
    if needs[1]:
        by_weight = new_dtype(weight, tensor_shape(weight), weight_dtype)
        if n == 0:
            op_zero_(by_weight)
    if needs[2]:
        by_bias = new_zeros(new_statistic(input, ()), tensor_shape(bias))
    if mean:
        count = op_sum(
            op_ne(target, tensor_wrap_number(ignore_index)), None, False,
            VT_F64 if input.dtype == VT_F64 else VT_F32,
        )
    for start in range(0, n, chunk):
        rows = min(chunk, n - start)
        x, t = op_narrow(input, 0, start, rows), op_narrow(target, 0, start, rows)
        logits = None  # its memory is that of the next one
        logits = op__linear(x, weight, bias)
        op_cross_entropy_gradient_(
            logits, t, op_narrow(losses, 0, start, rows), count, gradient, ignore_index,
            label_smoothing, scale,
        )
        if needs[0]:
            op__addmm_into_(op_narrow(by_input, 0, start, rows), logits, weight, 0, 1)
        if needs[1]:
            op__addmm_into_(by_weight, op_transpose(logits, 0, 1), x, 1 if start > 0 else 0, 1)
        if needs[2]:
            by_bias = op_add(by_bias, op_sum(logits, 0, False, -1), 1)
    loss = op_sum(losses, None, False, -1)
    if mean:
        loss = loss / count
    return (
        op_to_dtype(loss, result_dtype), by_input, by_weight,
        None if by_bias is None else op_to_dtype(by_bias, input.dtype),
    )


cdef tuple manual__linear_cross_entropy(Tensor input, Tensor weight, Tensor bias, Tensor target,
                                        bint mean, int64_t ignore_index, double label_smoothing,
                                        tuple needs, int64_t chunk, int64_t dtype,
                                        int64_t weight_dtype):
    cdef uint32_t excluded = vt_tls.excluded
    vt_tls.excluded |= ABOVE_BACKENDS
    try:
        return chunked(
            input, weight, bias, target, mean, ignore_index, label_smoothing, needs, chunk, dtype,
            <int>weight_dtype,
        )
    finally:
        vt_tls.excluded = excluded


cdef tuple scaled_gradients(Tensor grad, Tensor grad_input, Tensor grad_weight, Tensor grad_bias,
                            int dtype):
    """In place, where nobody will come back for them; a factor of 1 writes nothing."""
    every = (grad_input, grad_weight, grad_bias)
    if dtype == VT_F16:
        grad = op_to_dtype(grad, VT_F32) * (1 / HALF_SCALE)
    if vt_tls.retaining:
        return tuple([None if t is None else op_mul(<Tensor>t, grad) for t in every])
    op__scale_(tuple([t for t in every if t is not None]), grad)
    return every


cdef Tensor linear_cross_entropy_of(Tensor input, Tensor linear_weight, Tensor target,
                                    Tensor linear_bias, Tensor weight, object reduction,
                                    int64_t ignored, double label_smoothing, int dtype):
    """With a loss of `dtype`."""
    cdef int64_t rows, chunks, bytes
    cdef int weight_dtype
    if (
        input.ndim != 2 or not plain_layer(input, linear_weight, linear_bias) or weight is not None
        or reduction not in ("mean", "sum") or target.ndim != 1 or target.dtype != VT_I64
        or not VT_F16 <= input.dtype <= VT_F64 or not 0 <= label_smoothing <= 1
        or input.dtype != linear_weight.dtype
    ):
        logits = linear_composite(input, linear_weight, linear_bias)
        return op_cross_entropy(
            logits if dtype == input.dtype else op_to_dtype(logits, dtype), target, weight, None,
            ignored, None, reduction, label_smoothing,
        )
    check_linear(input, linear_weight, linear_bias)
    if target.sizes[0] != input.sizes[0]:
        raise ValueError(
            f"Expected input batch_size ({input.sizes[0]}) to match target batch_size "
            f"({target.sizes[0]})."
        )
    rows = input.sizes[0]
    bytes = rows * linear_weight.sizes[0] * (8 if input.dtype == VT_F64 else 4 if input.dtype == VT_F32 else 2)
    chunks = max(1, (bytes + CHUNK_BYTES - 1) // CHUNK_BYTES)
    needs = tuple([t is not None and records((t,)) for t in (input, linear_weight, linear_bias)])
    weight_dtype = linear_weight.dtype
    if linear_weight.device_type == VT_CUDA and is_half(weight_dtype):
        # The sums over the chunks are not rounded where autocast takes them as they are.
        weight_dtype = VT_F32 if gradient_dtype(linear_weight) == VT_F32 else weight_dtype
    return <Tensor>op__linear_cross_entropy(
        input, linear_weight, linear_bias, target, reduction == "mean", ignored, label_smoothing, needs,
        max(1, (rows + chunks - 1) // chunks), dtype, weight_dtype,
    )[0]


cdef Tensor linear_cross_entropy_composite(Tensor input, Tensor linear_weight, Tensor target,
                                           Tensor linear_bias, Tensor weight, object reduction,
                                           object ignore_index, double label_smoothing):
    cdef AutocastCall call
    cdef int64_t ignored = -100 if ignore_index is None else ignore_index
    # Inside autocast the products are in low precision, and the loss is that of a float32 cross entropy.
    if vt_tls.autocast_devices and autocast_begin(
        &call, input.keyset | linear_weight.keyset, AUTOCAST_LOWER, AUTOCAST_LOWER
    ):
        try:
            return linear_cross_entropy_of(
                autocast_tensor(&call, input), autocast_tensor(&call, linear_weight), target,
                autocast_tensor(&call, linear_bias), weight, reduction, ignored, label_smoothing,
                VT_F64 if input.dtype == VT_F64 else VT_F32,
            )
        finally:
            vt_autocast_exchange(call.outer)
    return linear_cross_entropy_of(
        input, linear_weight, target, linear_bias, weight, reduction, ignored, label_smoothing,
        input.dtype,
    )
