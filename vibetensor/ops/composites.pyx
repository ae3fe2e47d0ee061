"""Composite operators (see composites.pxd)."""
from cpython.ref cimport PyObject
from libc.math cimport sqrt

from vibetensor.core.errors cimport wrong_type
from vibetensor.core.dtype cimport dtype_scalar_name, promote_codes
from vibetensor.core.iterator cimport result_type
from vibetensor.core.scalar cimport check_fill, check_fits, item_of
from vibetensor.core.tensor cimport (
    F_WRAPPED_NUMBER, tensor_empty, tensor_same_shape, tensor_shape,
    tensor_wrap_number,
)
from vibetensor.core.types cimport *
from vibetensor.core.views cimport wrap_dim, wrap_new_dim
from vibetensor.ops.arguments cimport ints_arg, number_tensor_arg, scalar_arg
from vibetensor.ops.checks cimport (
    PHILOX_UNIFORM, check_condition, check_integer_power, check_normalized_shape, default_epsilon,
    new_zeros, philox,
)
from vibetensor.ops.entries cimport *
from vibetensor.ops.formulas cimport affine, trailing_dims
from vibetensor.ops.manual cimport place_of, to_place


cdef Tensor clone_contiguous(Tensor t):
    return op__clone(t, True)


cdef bint wants_contiguous(object memory_format) except -1:
    if memory_format is None:
        return False
    name = str(memory_format).rsplit(".", 1)[-1]
    if name not in ("contiguous_format", "preserve_format"):
        raise RuntimeError(f"clone(): memory format {memory_format} is not supported")
    return name == "contiguous_format"


cdef Tensor new_int64(Tensor like, tuple shape):
    return tensor_empty(shape, VT_I64, like.device_type, like.device_index)


cdef Tensor fill_any(Tensor input, Tensor value):
    if value.ndim != 0:
        raise RuntimeError(
            f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} "
            f"dimensions."
        )
    if value.device_type == VT_CPU and not value.keyset & KEYS_AUTOGRAD:
        number = item_of(value)
        if value.flags & F_WRAPPED_NUMBER:
            check_fill(number, input.dtype)
        return op__fill_(input, number)
    return op_copy_(input, value, False)


cdef Tensor float_input(Tensor input, int dtype):
    if dtype >= 0:
        return op_to_dtype(input, dtype)
    return input


cdef Tensor reduced(object t, object reduction):
    if reduction == "mean":
        return op_mean(t, None, False, -1)
    if reduction == "sum":
        return op_sum(t, None, False, -1)
    if reduction != "none":
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return t


# --- arithmetic ------------------------------------------------------------------------------------------

cdef Tensor pow_composite(Tensor input, Tensor exponent):
    check_integer_power(input, exponent)
    if exponent.flags & F_WRAPPED_NUMBER and exponent.dtype == VT_I64 and input.dtype != VT_BOOL:
        if (<int64_t*>exponent.data)[0] == 2:
            return op_square(input)
    return op__pow(input, exponent)


cdef object clamp_bound(Tensor input, object bound):
    """A bound as a number, or as a tensor that may have a gradient."""
    if isinstance(bound, Tensor) and (<Tensor>bound).flags & F_WRAPPED_NUMBER:
        bound = bound.item()
    if input.dtype >= VT_C64 or (isinstance(bound, complex) and input.dtype < VT_F16):
        raise NotImplementedError("clamp is not supported for complex types")
    if isinstance(bound, complex):
        if bound.imag != 0:
            raise RuntimeError("value cannot be converted to type double without overflow")
        return bound.real
    return bound


cdef Tensor as_operand(object x):
    return <Tensor>x if isinstance(x, Tensor) else tensor_wrap_number(x)


cdef Tensor promoted(Tensor input, object bound):
    """`input` in the dtype it meets a number in."""
    cdef PyObject* operands[2]
    cdef Tensor number
    if bound is None:
        return input
    number = tensor_wrap_number(bound)
    if number is None:
        raise TypeError(
            f"clamp(): argument 'min' must be Number, not {type(bound).__name__}"
        )
    operands[0] = <PyObject*>input
    operands[1] = <PyObject*>number
    return op_to_dtype(input, result_type(operands, 2, 0))


cdef int check_bounds(Tensor input, object low, object high) except -1:
    if low is not None:
        check_fill(low, input.dtype)
    if high is not None:
        check_fill(high, input.dtype)
    return 0


cdef Tensor clamp_composite(Tensor input, object low, object high):
    low, high = clamp_bound(input, low), clamp_bound(input, high)
    if low is None and high is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        if low is not None:
            input = op_maximum(input, as_operand(low))
        return input if high is None else op_minimum(input, as_operand(high))
    input = promoted(promoted(input, low), high)
    check_bounds(input, low, high)
    if high is None:
        return op__clamp_min(input, low)
    if low is None:
        return op__clamp_max(input, high)
    return op__clamp(input, low, high)


cdef Tensor clamp_inplace(Tensor input, object low, object high):
    low, high = clamp_bound(input, low), clamp_bound(input, high)
    if low is None and high is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        # The gradient reads the input, so it needs a copy that the write leaves alone.
        return op_copy_(input, clamp_composite(op__clone(input, False), low, high), False)
    if promoted(promoted(input, low), high) is not input:
        raise RuntimeError(
            f"result type Float can't be cast to the desired output type "
            f"{dtype_scalar_name(input.dtype)}"
        )
    check_bounds(input, low, high)
    if high is None:
        return op__clamp_min_(input, low)
    if low is None:
        return op__clamp_max_(input, high)
    return op__clamp_(input, low, high)


cdef Tensor fill_value(Tensor input, Tensor mask, Tensor value):
    """Checks the arguments of masked_fill; the value in the dtype of `input`."""
    if mask.dtype != VT_BOOL:
        raise RuntimeError(
            f"masked_fill only supports boolean masks, but got mask with dtype "
            f"{dtype_scalar_name(mask.dtype)}"
        )
    if value.ndim > 0:
        raise RuntimeError(
            f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{value.ndim} dimension(s)."
        )
    if value.device_type == VT_CPU:
        check_fill(item_of(value), input.dtype)
    return op_to_dtype(value, input.dtype)


cdef Tensor var_composite(Tensor input, object dim, object unbiased, bint keepdim, object correction):
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError("var(): give either unbiased or correction, not both")
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    if input.dtype < VT_F16:
        raise RuntimeError("std and var only support floating point and complex dtypes")
    if input.dtype >= VT_C64:
        # The variance of the two parts.
        parts = op_view_as_real(input)
        return op_add(op__var(op_select(parts, -1, 0), dim, correction, keepdim),
                      op__var(op_select(parts, -1, 1), dim, correction, keepdim), 1)
    return op__var(input, dim, correction, keepdim)


cdef Tensor sum_to_size_composite(Tensor input, tuple size):
    cdef int lead = input.ndim - <int>len(size), i
    dims = list(range(lead))
    if lead < 0:
        raise RuntimeError(f"size {{{list(size)}}} is not expandable to size {{{list(tensor_shape(input))}}}.")
    for i in range(lead, input.ndim):
        if input.sizes[i] != size[i - lead]:
            if size[i - lead] != 1:
                raise RuntimeError(
                    f"size {{{list(size)}}} is not expandable to size {{{list(tensor_shape(input))}}}."
                )
            dims.append(i)
    if not dims:
        return input
    out = op_sum(input, tuple(dims), True, -1)
    return op_view(out, size) if lead else out


cdef Tensor flip_composite(Tensor input, object dims):
    if not isinstance(dims, tuple):
        dims = (dims,)
    seen = set()
    for d in dims:
        d = wrap_dim(d, input.ndim)
        if d in seen:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
        seen.add(d)
        if input.ndim > 0:
            input = op__slice(input, d, None, None, -1)
    return op__clone(input, True)


cdef tuple moved_dims(Tensor input, object source, object destination):
    source = source if isinstance(source, tuple) else (source,)
    destination = destination if isinstance(destination, tuple) else (destination,)
    if len(source) != len(destination):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(source)}) should contain the "
            f"same number of dims as destination ({list(destination)})"
        )
    n = input.ndim
    source = [wrap_dim(d, n) for d in source]
    destination = [wrap_dim(d, n) for d in destination]
    if len(set(source)) != len(source) or len(set(destination)) != len(destination):
        raise RuntimeError("movedim: repeated dim in source or destination")
    order = [None] * n
    for s, d in zip(source, destination):
        order[d] = s
    rest = iter([d for d in range(n) if d not in source])
    return tuple([next(rest) if d is None else d for d in order])


# --- joining and indexing ----------------------------------------------------------------------------------

cdef Tensor cat_composite(tuple tensors, int64_t dim):
    cdef Tensor first, t
    cdef int dtype, d, i
    if not tensors:
        raise ValueError("cat(): expected a non-empty list of Tensors")
    for i, x in enumerate(tensors):
        if (<Tensor>x).ndim == 0:
            raise RuntimeError(
                f"zero-dimensional tensor (at position {i}) cannot be concatenated"
            )
    # A vector without elements joins anything, whatever its rank.
    kept = [x for x in tensors if not ((<Tensor>x).ndim == 1 and (<Tensor>x).numel == 0)]
    dtype = (<Tensor>tensors[0]).dtype
    for x in tensors:
        dtype = promote_codes(dtype, (<Tensor>x).dtype)
    if not kept:
        kept = [tensors[0]]
    first = <Tensor>kept[0]
    d = wrap_dim(dim, first.ndim)
    for k, x in enumerate(kept):
        t = <Tensor>x
        if t.ndim != first.ndim:
            raise RuntimeError(
                f"Tensors must have same number of dimensions: got {first.ndim} and {t.ndim}"
            )
        for i in range(t.ndim):
            if i != d and t.sizes[i] != first.sizes[i]:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {d}. Expected size "
                    f"{first.sizes[i]} but got size {t.sizes[i]} for tensor number {k} in the list."
                )
        if t.device_type != first.device_type:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, "
                f"{first.device} and {t.device}!"
            )
    return op__cat(tuple([op_to_dtype(<Tensor>x, dtype) for x in kept]), d)


cdef Tensor stack_composite(tuple tensors, int64_t dim):
    cdef int d, i
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    for i, t in enumerate(tensors):
        if not tensor_same_shape(<Tensor>t, <Tensor>tensors[0]):
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got "
                f"{list(tensor_shape(<Tensor>tensors[0]))} at entry 0 and "
                f"{list(tensor_shape(<Tensor>t))} at entry {i}"
            )
    d = wrap_new_dim(dim, (<Tensor>tensors[0]).ndim)
    return op_cat(tuple([op_unsqueeze(<Tensor>t, d) for t in tensors]), d)


cdef tuple split_sizes(Tensor input, object sizes, int64_t dim):
    cdef int d
    cdef int64_t n, total
    if input.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, input.ndim)
    n = input.sizes[d]
    if isinstance(sizes, tuple):
        total = 0
        for s in sizes:
            if s < 0:
                raise RuntimeError(
                    f"split_with_sizes expects split_sizes have only non-negative entries, but got "
                    f"split_sizes={list(sizes)}"
                )
            total += s
        if total != n:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                f"dimension {d}), but got split_sizes={list(sizes)}"
            )
        return sizes
    if sizes < 0 or (sizes == 0 and n != 0):
        raise RuntimeError(
            f"split expects split_size be non-negative, but got split_size={sizes}" if sizes < 0 else
            f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}"
        )
    if n == 0:
        return (0,)
    return tuple([min(sizes, n - i) for i in range(0, n, sizes)])


cdef tuple chunk_sizes(Tensor input, int64_t chunks, int64_t dim):
    cdef int d
    cdef int64_t n
    if input.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    d = wrap_dim(dim, input.ndim)
    n = input.sizes[d]
    if n == 0:
        return (0,) * chunks
    return split_sizes(input, (n + chunks - 1) // chunks, dim)


cdef Tensor masked_select_composite(Tensor input, Tensor mask):
    if mask.dtype != VT_BOOL:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    if not tensor_same_shape(input, mask):
        shape = tensor_shape(op_add(op_zeros_like(mask, VT_U8, False),
                                    op_zeros_like(input, VT_U8, False), 1))
        input = op_expand(input, shape)
        mask = op_expand(mask, shape)
    places = op_find(op_reshape(mask, (-1,)))
    return op_index_select(op_reshape(input, (-1,)), 0, op_reshape(places, (-1,)))


cdef Tensor scatter_source(Tensor input, Tensor index, object source, object value):
    cdef Tensor src
    if (source is None) == (value is None):
        raise TypeError("scatter(): give either src or value")
    if source is None:
        source = scalar_arg("scatter", "value", 0, value)
    src = <Tensor>source if isinstance(source, Tensor) else number_tensor_arg("scatter", "src", 4, source)
    if src.flags & F_WRAPPED_NUMBER:
        check_fill(item_of(src), input.dtype)
        src = to_place(op_to_dtype(src, input.dtype), place_of(input))
        return op_expand(src, tensor_shape(index))
    return src


cdef int check_where(Tensor condition, Tensor input, Tensor other) except -1:
    cdef PyObject* operands[2]
    cdef int dtype
    check_condition(condition)
    if (input.flags | other.flags) & F_WRAPPED_NUMBER:
        operands[0] = <PyObject*>input
        operands[1] = <PyObject*>other
        dtype = result_type(operands, 2, 0)
        for t in (input, other):
            if (<Tensor>t).flags & F_WRAPPED_NUMBER and dtype != VT_F16 and dtype != VT_BF16:
                check_fits(item_of(<Tensor>t), dtype)
    return 0


cdef Tensor one_hot_composite(Tensor input, int64_t num_classes):
    if input.dtype != VT_I64:
        raise RuntimeError(
            "one_hot is only applicable to index tensor of type LongTensor."
        )
    if input.numel == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return op__one_hot(input, num_classes)
    if op_amin(input, (), False).item() < 0:
        raise RuntimeError("Class values must be non-negative.")
    largest = op_amax(input, (), False).item()
    if num_classes == -1:
        num_classes = largest + 1
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive")
    elif largest >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    return op__one_hot(input, num_classes)


# --- products --------------------------------------------------------------------------------------------

cdef Tensor matmul_composite(Tensor a, Tensor b):
    cdef int i
    if a.ndim == 2 and b.ndim == 2:
        return op_mm(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D"
        )
    if a.ndim == 1 and b.ndim == 1:
        if a.numel != b.numel:
            raise RuntimeError(
                f"inconsistent tensor size, expected tensor [{a.numel}] and src [{b.numel}] to have "
                f"the same number of elements, but got {a.numel} and {b.numel} elements respectively"
            )
        return op_view(op_mm(op_unsqueeze(a, 0), op_unsqueeze(b, 1)), ())
    if a.ndim == 1:
        return op_squeeze(matmul_composite(op_unsqueeze(a, 0), b), -2)
    if b.ndim == 1:
        if a.ndim == 2 and a.sizes[1] != b.sizes[0]:
            raise RuntimeError(
                f"size mismatch, got input ({a.sizes[0]}), mat ({a.sizes[0]}x{a.sizes[1]}), "
                f"vec ({b.sizes[0]})"
            )
        return op_squeeze(matmul_composite(a, op_unsqueeze(b, 1)), -1)
    if b.ndim == 2:
        # One product over all rows of a.
        rows = op_mm(op_reshape(a, (-1, a.sizes[a.ndim - 1])) if a.numel else
                     op_reshape(a, (row_count(a), a.sizes[a.ndim - 1])), b)
        return op_view(rows, tensor_shape(a)[:-1] + (b.sizes[1],))
    lead = broadcast_lead(a, b)
    n = 1
    for s in lead:
        n *= s
    left = op_reshape(op_expand(a, lead + tensor_shape(a)[-2:]),
                      (n, a.sizes[a.ndim - 2], a.sizes[a.ndim - 1]))
    right = op_reshape(op_expand(b, lead + tensor_shape(b)[-2:]),
                       (n, b.sizes[b.ndim - 2], b.sizes[b.ndim - 1]))
    return op_view(op_bmm(left, right), lead + (a.sizes[a.ndim - 2], b.sizes[b.ndim - 1]))


cdef int64_t row_count(Tensor a):
    cdef int64_t n = 1
    cdef int i
    for i in range(a.ndim - 1):
        n *= a.sizes[i]
    return n


cdef tuple broadcast_lead(Tensor a, Tensor b):
    """The leading dimensions of two batches of matrices, broadcast."""
    cdef int n = max(a.ndim, b.ndim) - 2, i
    cdef int64_t sa, sb
    lead = []
    for i in range(n):
        sa = a.sizes[i - n + a.ndim - 2] if i >= n - (a.ndim - 2) else 1
        sb = b.sizes[i - n + b.ndim - 2] if i >= n - (b.ndim - 2) else 1
        if sa != sb and sa != 1 and sb != 1:
            raise RuntimeError(
                f"The size of tensor a ({sa}) must match the size of tensor b ({sb}) at non-singleton "
                f"dimension {i}"
            )
        lead.append(sb if sa == 1 else sa)
    return tuple(lead)


cdef Tensor linear_composite(Tensor input, Tensor weight, Tensor bias):
    if input.ndim == 0:
        raise RuntimeError("both arguments to linear need to be at least 1D, but they are 0D and 2D")
    if weight.ndim == 1:
        out = op_matmul(input, weight)
        return out if bias is None else out + bias
    if weight.ndim != 2:
        raise RuntimeError(
            f"linear(): weight must have 1 or 2 dimensions, got {weight.ndim}"
        )
    if bias is not None and (bias.ndim != 1 or bias.numel != weight.sizes[0]):
        return op_add(op__linear(input, weight, None) if input.ndim == 2 else
                      linear_composite(input, weight, None), bias, 1)
    if input.ndim == 2:
        return op__linear(input, weight, bias)
    if input.ndim == 1:
        return op_squeeze(op__linear(op_unsqueeze(input, 0), weight, bias), 0)
    rows = op__linear(input, weight, bias)
    return op_view(rows, tensor_shape(input)[:-1] + (weight.sizes[0],))


cdef int64_t single(object value, str name) except? -1:
    if isinstance(value, tuple):
        if len(value) != 1:
            raise RuntimeError(f"conv1d(): expected {name} to be a single integer value or a list of 1 value")
        return value[0]
    return value


cdef Tensor conv1d_composite(Tensor input, Tensor weight, Tensor bias, object stride, object padding,
                             object dilation, int64_t groups):
    cdef Tensor out
    cdef int64_t total
    if isinstance(padding, str):
        if padding == "valid":
            padding = 0
        elif padding != "same":
            raise RuntimeError(f"Invalid padding string: {padding!r}")
        elif single(stride, "stride") != 1:
            raise RuntimeError("padding='same' is not supported for strided convolutions")
    elif isinstance(padding, bool):
        wrong_type("conv1d", "padding", 5, "int, tuple of ints or str", padding)
    else:
        padding = ints_arg("conv1d", "padding", 5, padding)
    if input.ndim == 2:
        return op_squeeze(conv1d_composite(op_unsqueeze(input, 0), weight, bias, stride, padding,
                                           dilation, groups), 0)
    if isinstance(padding, str) and weight.ndim == 3:
        # An odd total of zeros goes one more to the right: padding both ends by the larger half and
        # dropping the first output is the same.
        total = single(dilation, "dilation") * (weight.sizes[2] - 1)
        out = op__conv1d(input, weight, bias, 1, (total + 1) // 2, single(dilation, "dilation"), groups)
        return op_narrow(out, 2, 1, out.sizes[2] - 1) if total % 2 else out
    if isinstance(padding, str):
        padding = 0  # the weight is refused below
    return op__conv1d(input, weight, bias, single(stride, "stride"), single(padding, "padding"),
                      single(dilation, "dilation"), groups)


# --- networks ----------------------------------------------------------------------------------------------

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


cdef int64_t reduction_code(object reduction) except -1:
    code = REDUCTIONS.get(reduction)
    if code is None:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return code


cdef Tensor cross_entropy_composite(Tensor input, Tensor target, Tensor weight, int64_t ignore_index,
                                    object reduction, double label_smoothing):
    cdef int64_t code = reduction_code(reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(
            f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}"
        )
    if target.dtype < VT_F16 or target.dtype >= VT_C64:
        if input.ndim > 0 and tensor_same_shape(input, target):
            raise RuntimeError(
                f"Expected floating point type for target with class probabilities, got "
                f"{dtype_scalar_name(target.dtype)}"
            )
    if target.dtype >= VT_F16:
        return op__cross_entropy_probabilities(input, target, weight, code, label_smoothing)
    return op__cross_entropy(input, target, weight, code, ignore_index, label_smoothing, -1)[0]


cdef Tensor class_probabilities(Tensor input, Tensor target, Tensor weight, int64_t reduction,
                                double label_smoothing):
    cdef int d = 0 if input.ndim == 1 else 1
    cdef int64_t classes = input.sizes[d]
    if not tensor_same_shape(input, target):
        raise RuntimeError(
            f"Expected target to have the shape of input for class probabilities, got "
            f"{list(tensor_shape(target))} and {list(tensor_shape(input))}"
        )
    if label_smoothing > 0:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    products = op__log_softmax(input, d) * target
    if weight is not None:
        shape = [1] * input.ndim
        shape[d] = -1
        products = products * op_reshape(weight, tuple(shape))
    loss = -op_sum(products, d, False, -1)
    if reduction == 0:
        return loss
    total = op_sum(loss, None, False, -1)
    return total if reduction == 2 else total / (input.numel // classes)


cdef Tensor nll_composite(Tensor input, Tensor target, Tensor weight, int64_t ignore_index,
                          object reduction):
    cdef int64_t code = reduction_code(reduction)
    cdef int d = 0 if input.ndim == 1 else 1
    if target.ndim + 1 != input.ndim:
        raise ValueError(
            f"Expected target of {input.ndim - 1} dimensions, got {target.ndim}"
        )
    if input.ndim > 1 and (input.sizes[0] != target.sizes[0]):
        raise ValueError(
            f"Expected input batch_size ({input.sizes[0]}) to match target batch_size "
            f"({target.sizes[0]})."
        )
    if tensor_shape(input)[2:] != tensor_shape(target)[1:]:
        raise RuntimeError(
            f"Expected target of shape {list(tensor_shape(input)[:1] + tensor_shape(input)[2:])}, got "
            f"{list(tensor_shape(target))}"
        )
    counted = op_ne(target, tensor_wrap_number(ignore_index))
    safe = op_masked_fill(target, op_logical_not(counted), tensor_wrap_number(0))
    if safe.numel > 0 and safe.device_type == VT_CPU:  # a device finds out in gather
        for end in (op_amin(safe, (), False), op_amax(safe, (), False)):
            if not 0 <= end.item() < input.sizes[d]:
                raise IndexError(f"Target {end.item()} is out of bounds.")
    picked = op_squeeze(op_gather(input, d, op_unsqueeze(safe, d)), d)
    weights = op_to_dtype(counted, input.dtype)
    if weight is not None:
        weights = weights * op_view(op_index_select(weight, 0, op_reshape(safe, (-1,))),
                                    tensor_shape(target))
    loss = op_masked_fill(-picked * weights, op_logical_not(counted), tensor_wrap_number(0))
    if code == 0:
        return loss
    total = op_sum(loss, None, False, -1)
    return total if code == 2 else total / op_sum(weights, None, False, -1)


cdef Tensor rms_norm_composite(Tensor input, tuple normalized_shape, Tensor weight, object eps):
    cdef double epsilon = default_epsilon(input) if eps is None else eps
    if input.dtype < VT_C64:
        return op__rms_norm(input, normalized_shape, weight, epsilon)[0]
    # PyTorch's: the mean of squares, not of absolute squares.
    check_normalized_shape(input, normalized_shape, (("weight", weight),))
    dims = trailing_dims(input, len(normalized_shape))
    square = op_mean(op_square(input), dims, True, -1)
    return affine(op_mul(input, op_rsqrt(op_add(square, tensor_wrap_number(epsilon), 1))), weight, None)


cdef Tensor embedding_composite(Tensor input, Tensor weight, object padding_idx, object max_norm,
                                double norm_type, bint scale_grad_by_freq, bint sparse):
    cdef int64_t padding = -1
    if sparse:
        raise NotImplementedError("embedding(): sparse gradients are not supported")
    if max_norm is not None:
        raise NotImplementedError("embedding(): max_norm is not supported")
    if padding_idx is not None:
        padding = padding_idx
        if weight.ndim == 2 and not -weight.sizes[0] <= padding < weight.sizes[0]:
            raise AssertionError("Padding_idx must be within num_embeddings")
        if padding < 0:
            padding += weight.sizes[0]
    return op__embedding(weight, input, padding, scale_grad_by_freq)


cdef Tensor dropout_composite(Tensor input, double p, bint training, bint inplace):
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0 or input.numel == 0:
        return input
    if p == 1:
        zero = new_zeros(input, ())
        return op_mul_(input, zero) if inplace else op_mul(input, zero)
    if input.dtype < VT_F16:
        raise RuntimeError(
            f"result type Float can't be cast to the desired output type "
            f"{dtype_scalar_name(input.dtype)}"
        )
    seed, offset = philox(input, None, PHILOX_UNIFORM)
    out = op__dropout(input, None, p, seed, offset)
    return op_copy_(input, out, False) if inplace else out
