"""Argument checks and output shapes (see checks.pxd)."""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from vibetensor.core.dtype cimport dtype_name, dtype_scalar_name
from vibetensor.core.random cimport philox_reserve
from vibetensor.core.tensor cimport (
    tensor_empty, tensor_new, tensor_same_shape,
    tensor_shape, tensor_update,
)
from vibetensor.core.types cimport *
from vibetensor.core.iterator cimport as_contiguous, cast, result_type
from vibetensor.core.views cimport can_view, view_view, wrap_dim
from vibetensor.ops.entries cimport op_zero_


cdef str shape_text(Tensor t):
    return "x".join([str(s) for s in tensor_shape(t)])


cdef int check_other_alpha(Tensor input, Tensor other, object alpha) except -1:
    cdef PyObject* operands[2]
    operands[0] = <PyObject*>input
    operands[1] = <PyObject*>other
    cdef int dtype = result_type(operands, 2, 0)
    if isinstance(alpha, bool):
        if dtype != VT_BOOL:
            raise RuntimeError("Boolean alpha only supported for Boolean results.")
    elif isinstance(alpha, float) and dtype < VT_F16:
        raise RuntimeError(
            "For integral input tensors, argument alpha must not be a floating point number."
        )
    elif isinstance(alpha, complex) and dtype < VT_C64:
        raise RuntimeError(
            "For non-complex input tensors, argument alpha must not be a complex number."
        )
    return 0


cdef int refuse_bool_subtraction(bint both) except -1:
    if both:
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
            "`logical_xor()` operator instead."
        )
    raise RuntimeError(
        "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to "
        "invert a mask, use the `~` or `logical_not()` operator instead."
    )


cdef int refuse_bool_negation() except -1:
    raise RuntimeError(
        "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a "
        "mask, use the `~` or `logical_not()` operator instead."
    )


cdef int check_matrices(str op, Tensor input) except -1:
    if input.ndim < 2:
        raise RuntimeError(f"{op}: input tensor must have at least 2 dimensions")
    return 0


cdef int check_floating(str op, Tensor input) except -1:
    if not VT_F16 <= input.dtype <= VT_F64:
        raise NotImplementedError(
            f'"{op}_cpu" not implemented for \'{dtype_scalar_name(input.dtype)}\''
        )
    return 0


cdef int check_range(str op, double low, double high) except -1:
    if low > high:
        raise RuntimeError(
            f"{op} expects to return a [from, to) range, but found from={low} > to={high}"
        )
    return 0


cdef int check_std(str op, double std) except -1:
    if not std >= 0:
        raise RuntimeError(f"{op} expects std >= 0.0, but found std {std}")
    return 0


cdef int check_probability(str op, double p) except -1:
    if not 0 <= p <= 1:
        raise RuntimeError(f"{op} expects p to be in [0, 1], but got p={p}")
    return 0


cdef int check_multinomial(Tensor input, int64_t num_samples, bint replacement) except -1:
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not VT_F16 <= input.dtype <= VT_F64:
        raise RuntimeError(
            f"multinomial only supports floating-point dtypes for input, got: "
            f"{dtype_scalar_name(input.dtype)}"
        )
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input.sizes[input.ndim - 1]:
        raise RuntimeError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement"
        )
    return 0


cdef Tensor long_index(str op, Tensor index):
    if index.dtype != VT_I64 and index.dtype != VT_I32:
        raise RuntimeError(f"{op}(): Expected dtype int32/int64 for index")
    return cast(index, VT_I64)


cdef int check_index_vector(str op, Tensor index) except -1:
    if index.dtype not in (VT_I32, VT_I64):
        raise RuntimeError(f"{op}(): Expected dtype int32 or int64 for index")
    if index.ndim > 1:
        raise IndexError(f"{op}(): Index is supposed to be a vector")
    return 0


cdef int fits(Tensor index, Tensor limit, int dim) except -1:
    """Whether `index` is no larger than `limit` in every dimension but `dim`."""
    cdef int i
    for i in range(index.ndim):
        if i != dim and index.sizes[i] > limit.sizes[i]:
            return 0
    return 1


cdef int check_gather(str op, Tensor input, int dim, Tensor index) except -1:
    if index.numel == 0:
        return 0
    if max(index.ndim, 1) != max(input.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    if input.ndim > 0 and index.ndim > 0 and not fits(index, input, dim):
        raise RuntimeError(
            f"Size does not match at dimension {first_misfit(index, input, dim)} expected index "
            f"{list(tensor_shape(index))} to be no larger than self {list(tensor_shape(input))} "
            f"apart from dimension {dim}"
        )
    return 0


cdef int first_misfit(Tensor index, Tensor limit, int dim) except -1:
    cdef int i
    for i in range(index.ndim):
        if i != dim and index.sizes[i] > limit.sizes[i]:
            return i
    return dim


cdef int check_scatter(str op, Tensor input, int dim, Tensor index, Tensor src) except -1:
    check_same_dtype(op, input, src)
    if index.numel == 0:
        return 0
    if max(index.ndim, 1) != max(input.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    if max(index.ndim, 1) != max(src.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    if index.ndim > 0 and (
        (input.ndim > 0 and not fits(index, input, dim)) or not fits(index, src, -1)
    ):
        raise RuntimeError(
            f"Expected index {list(tensor_shape(index))} to be no larger than self "
            f"{list(tensor_shape(input))} apart from dimension {dim} and to be no larger than src "
            f"{list(tensor_shape(src))}"
        )
    return 0


cdef int check_same_dtype(str op, Tensor a, Tensor b) except -1:
    if a.dtype != b.dtype:
        raise RuntimeError(
            f"{op}(): Expected self.dtype to be equal to src.dtype, got "
            f"{dtype_scalar_name(a.dtype)} and {dtype_scalar_name(b.dtype)}"
        )
    return 0


cdef int check_index_add(Tensor input, int dim, Tensor index, Tensor source) except -1:
    cdef int i
    if input.dtype != source.dtype:
        raise RuntimeError(
            f"index_add_(): self ({dtype_scalar_name(input.dtype)}) and source "
            f"({dtype_scalar_name(source.dtype)}) must have the same scalar type"
        )
    if source.ndim > 0 and index.numel != source.sizes[dim] or source.ndim == 0 and index.numel != 1:
        raise RuntimeError(
            f"index_add_(): Number of indices ({index.numel}) should be equal to "
            f"source.size(dim): ({source.sizes[dim] if source.ndim else 1}), for dim: {dim}"
        )
    for i in range(input.ndim):
        if i != dim and (source.ndim != input.ndim or source.sizes[i] != input.sizes[i]):
            raise RuntimeError(
                f"source tensor shape must match self tensor shape, excluding the specified "
                f"dimension. Got self.shape = {list(tensor_shape(input))} source.shape = "
                f"{list(tensor_shape(source))}"
            )
    return 0


cdef int check_sort(Tensor input) except -1:
    if input.dtype >= VT_C64:
        raise RuntimeError("Sort does not support complex dtypes on CPU")
    return 0


cdef int check_topk(Tensor input, int64_t k, int dim) except -1:
    if input.dtype == VT_BOOL:
        raise RuntimeError("topk does not support bool dtypes on CPU")
    if k < 0 or k > (input.sizes[dim] if input.ndim > 0 else 1):
        raise RuntimeError("selected index k out of range")
    return 0


cdef int check_product_dtypes(str op, Tensor a, Tensor b) except -1:
    if a.dtype != b.dtype:
        raise RuntimeError(
            f"expected m1 and m2 to have the same dtype, but got: {dtype_name(a.dtype)} != "
            f"{dtype_name(b.dtype)}"
        )
    if a.dtype == VT_BOOL:
        raise NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Bool'")
    return 0


cdef int check_mm(str op, Tensor a, Tensor b) except -1:
    if a.ndim != 2:
        raise RuntimeError("self must be a matrix")
    if b.ndim != 2:
        raise RuntimeError("mat2 must be a matrix")
    if a.sizes[1] != b.sizes[0]:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({shape_text(a)} and {shape_text(b)})"
        )
    return check_product_dtypes(op, a, b)


cdef int check_bmm(str op, Tensor a, Tensor b) except -1:
    if a.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if b.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    if a.sizes[0] != b.sizes[0] or a.sizes[2] != b.sizes[1]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{a.sizes[0]}, "
            f"{a.sizes[2]}] but got: [{b.sizes[0]}, {b.sizes[1]}]."
        )
    return check_product_dtypes(op, a, b)


cdef int check_addmm(Tensor input, Tensor a, Tensor b) except -1:
    if a.ndim != 2 or b.ndim != 2:
        raise RuntimeError(
            f"mat1 and mat2 must be matrices, got {a.ndim}-D and {b.ndim}-D tensors"
        )
    check_mm("addmm", a, b)
    if input.dtype != a.dtype:
        raise RuntimeError(
            f"self and mat2 must have the same dtype, but got {dtype_scalar_name(input.dtype)} and "
            f"{dtype_scalar_name(a.dtype)}"
        )
    return 0


cdef int check_baddbmm(Tensor input, Tensor a, Tensor b) except -1:
    check_bmm("baddbmm", a, b)
    if input.dtype != a.dtype:
        raise RuntimeError(
            f"Input dtypes must be the same, got: input {dtype_scalar_name(input.dtype)}, batch1: "
            f"{dtype_scalar_name(a.dtype)}, batch2: {dtype_scalar_name(b.dtype)}"
        )
    return 0


cdef int check_linear(Tensor input, Tensor weight, Tensor bias) except -1:
    if input.sizes[input.ndim - 1] != weight.sizes[1]:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied "
            f"({input.numel // max(input.sizes[input.ndim - 1], 1)}x{input.sizes[input.ndim - 1]} "
            f"and {weight.sizes[1]}x{weight.sizes[0]})"
        )
    if input.dtype != weight.dtype:
        raise RuntimeError(
            f"mat1 and mat2 must have the same dtype, but got {dtype_scalar_name(input.dtype)} and "
            f"{dtype_scalar_name(weight.dtype)}"
        )
    if bias is not None and bias.dtype != weight.dtype:
        raise RuntimeError(
            f"self and mat2 must have the same dtype, but got {dtype_scalar_name(bias.dtype)} and "
            f"{dtype_scalar_name(weight.dtype)}"
        )
    return check_product_dtypes("linear", input, weight)


cdef int check_cross_entropy(Tensor input, Tensor target, Tensor weight) except -1:
    cdef int d = 0 if input.ndim == 1 else 1
    cdef tuple expected
    if input.ndim < 1:
        raise RuntimeError("cross_entropy(): input must have at least one dimension")
    check_floating("log_softmax", input)
    if target.dtype != VT_I64 and target.dtype != VT_U8:
        raise RuntimeError(
            f"expected scalar type Long but found {dtype_scalar_name(target.dtype)}"
        )
    shape = tensor_shape(input)
    expected = shape[:d] + shape[d + 1:]
    if tensor_shape(target) != expected:
        if input.ndim > 1 and target.ndim > 0 and input.sizes[0] != target.sizes[0]:
            raise ValueError(
                f"Expected input batch_size ({input.sizes[0]}) to match target batch_size "
                f"({target.sizes[0]})."
            )
        raise RuntimeError(
            f"Expected target size {list(expected)}, got {list(tensor_shape(target))}"
        )
    if weight is not None and (weight.ndim != 1 or weight.numel != shape[d]):
        raise RuntimeError(
            "weight tensor should be defined either for all or no classes"
        )
    return 0


cdef int check_embedding(Tensor weight, Tensor indices) except -1:
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    if indices.dtype not in (VT_I32, VT_I64):
        raise RuntimeError(
            f"Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            f"Long, Int; but got vibetensor.{dtype_name(indices.dtype)} instead (while checking "
            f"arguments for embedding)"
        )
    return 0


cdef int check_rotary(Tensor input, Tensor cos, Tensor sin) except -1:
    check_floating("rotary_embedding", input)
    if input.ndim != 4:
        raise RuntimeError(
            f"rotary_embedding(): expected input of shape (batch, time, heads, features), but got "
            f"{list(tensor_shape(input))}"
        )
    if cos.ndim != 2 or cos.sizes[0] != input.sizes[1] or 2 * cos.sizes[1] > input.sizes[3]:
        raise RuntimeError(
            f"rotary_embedding(): expected cos of shape (time, pairs) for input of shape "
            f"{list(tensor_shape(input))}, with at most features / 2 pairs, but got "
            f"{list(tensor_shape(cos))}"
        )
    if not tensor_same_shape(cos, sin) or cos.dtype != sin.dtype:
        raise RuntimeError(
            f"rotary_embedding(): expected sin of the shape and dtype of cos, {list(tensor_shape(cos))} "
            f"{dtype_scalar_name(cos.dtype)}, but got {list(tensor_shape(sin))} "
            f"{dtype_scalar_name(sin.dtype)}"
        )
    check_floating("rotary_embedding", cos)
    return 0


cdef int check_condition(Tensor condition) except -1:
    if condition.dtype != VT_BOOL and condition.dtype != VT_U8:
        raise RuntimeError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{dtype_scalar_name(condition.dtype)}"
        )
    return 0


cdef int check_integer_power(Tensor input, Tensor exponent) except -1:
    if (
        exponent.ndim == 0 and input.dtype < VT_F16 and exponent.dtype < VT_F16
        and exponent.device_type == VT_CPU and exponent.item() < 0
    ):
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return 0


cdef int bad_rounding_mode(object mode) except -1:
    raise RuntimeError(
        f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {mode!r}"
    )


cdef int check_normalized_shape(Tensor input, tuple shape, tuple parameters) except -1:
    cdef int n = <int>len(shape), i
    cdef bint match = n <= input.ndim
    if n < 1:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
            "element, but got normalized_shape = []"
        )
    for i in range(n):
        match = match and input.sizes[input.ndim - n + i] == shape[i]
    if not match:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"{['*', *shape]}, but got input of size{list(tensor_shape(input))}"
        )
    for name, t in parameters:
        if t is not None and t.shape != shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(t.shape)} and normalized_shape = {list(shape)}"
            )
    return 0


cdef int64_t check_normalized(str op, Tensor input, tuple shape, Tensor weight, Tensor bias) except -1:
    parameters = (("weight", weight), ("bias", bias))
    check_normalized_shape(input, shape, parameters)
    for name, t in parameters:
        if t is not None and (<Tensor>t).dtype != input.dtype:
            raise RuntimeError(
                f"{op}(): expected {name} to have the dtype of input, "
                f"{dtype_scalar_name(input.dtype)}, but got {dtype_scalar_name((<Tensor>t).dtype)}"
            )
    check_floating(op, input)
    return element_count(shape)


cdef int64_t element_count(tuple shape) except -1:
    cdef int64_t n = 1
    for s in shape:
        n *= s
    return n


# --- random numbers ------------------------------------------------------------------------------------

cdef tuple philox_blocks(object generator, int64_t blocks, Tensor input):
    cdef int64_t seed, offset
    philox_reserve(generator, input.device_type, input.device_index, blocks, &seed, &offset)
    return seed, offset


cdef tuple philox(Tensor input, object generator, int kind):
    # Four 32-bit words a block; 64-bit results take two words (cuda_src/vt/philox.h).
    cdef int64_t words = 1
    if kind in (PHILOX_RANDINT, PHILOX_RANDPERM) or input.dtype == VT_F64:
        words = 2
    return philox_blocks(generator, (input.numel * words + 3) // 4, input)


cdef int64_t multinomial_blocks(Tensor input, int64_t num_samples, bint replacement):
    cdef int64_t n = input.sizes[input.ndim - 1]
    cdef int64_t rows = input.sizes[0] if input.ndim == 2 else 1
    return (rows * (num_samples if replacement else n) * 2 + 3) // 4


# --- outputs -------------------------------------------------------------------------------------------

cdef Tensor new_empty(Tensor like, tuple shape):
    return new_dtype(like, shape, like.dtype)


cdef Tensor new_dtype(Tensor like, tuple shape, int dtype):
    return tensor_empty(shape, dtype, like.device_type, like.device_index)


cdef Tensor new_zeros(Tensor like, tuple shape):
    cdef Tensor t = op_zero_(new_empty(like, shape))
    t.storage.version = 0
    return t


cdef Tensor new_statistic(Tensor like, tuple shape):
    return new_dtype(like, shape, VT_F64 if like.dtype == VT_F64 else VT_F32)


cdef Tensor row_statistics(Tensor input, tuple normalized_shape):
    cdef tuple shape = tensor_shape(input)
    lead = shape[:len(shape) - len(normalized_shape)]
    return new_statistic(input, lead + (1,) * len(normalized_shape))


cdef Tensor resized(Tensor input, int dim, int64_t size, int dtype):
    cdef int64_t sizes[64]
    cdef int i
    for i in range(input.ndim):
        sizes[i] = size if i == dim else input.sizes[i]
    return tensor_new(input.ndim, sizes, dtype, input.device_type, input.device_index)


cdef Tensor index_select_output(Tensor input, int dim, Tensor index):
    return resized(input, dim, index.numel, input.dtype)


cdef Tensor matrix_output(Tensor a, Tensor b):
    cdef int64_t sizes[3]
    cdef int i
    for i in range(a.ndim - 1):
        sizes[i] = a.sizes[i]
    sizes[a.ndim - 1] = b.sizes[b.ndim - 1]
    return tensor_new(a.ndim, sizes, a.dtype, a.device_type, a.device_index)


cdef Tensor conv1d_output(Tensor input, Tensor weight, Tensor bias, int64_t stride, int64_t padding,
                          int64_t dilation, int64_t groups):
    cdef int64_t length
    if stride <= 0 or dilation <= 0 or groups <= 0 or padding < 0:
        raise RuntimeError("conv1d(): stride, dilation and groups must be positive, padding not negative")
    if weight.ndim != 3 or input.ndim != 3:
        raise RuntimeError(
            f"Expected 2D (unbatched) or 3D (batched) input to conv1d, but got input of size: "
            f"{list(tensor_shape(input))}"
        )
    if weight.sizes[0] % groups != 0 or input.sizes[1] != weight.sizes[1] * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {list(tensor_shape(weight))}, expected input"
            f"{list(tensor_shape(input))} to have {weight.sizes[1] * groups} channels, but got "
            f"{input.sizes[1]} channels instead"
        )
    if bias is not None and (bias.ndim != 1 or bias.numel != weight.sizes[0]):
        raise RuntimeError(
            f"Given weight of size {list(tensor_shape(weight))}, expected bias to be 1-dimensional "
            f"with {weight.sizes[0]} elements, but got bias of size {list(tensor_shape(bias))} "
            f"instead"
        )
    if input.dtype != weight.dtype:
        raise RuntimeError(
            f"Input type ({dtype_scalar_name(input.dtype)}) and weight type "
            f"({dtype_scalar_name(weight.dtype)}) should be the same"
        )
    length = input.sizes[2] + 2 * padding - dilation * (weight.sizes[2] - 1) - 1
    if length < 0:
        raise RuntimeError(
            f"Calculated padded input size per channel: ({input.sizes[2] + 2 * padding}). Kernel "
            f"size: ({dilation * (weight.sizes[2] - 1) + 1}). Kernel size can't be greater than "
            f"actual input size"
        )
    return new_empty(input, (input.sizes[0], weight.sizes[0], length // stride + 1))


cdef Tensor cat_output(tuple tensors, int64_t dim):
    cdef Tensor first = <Tensor>tensors[0]
    cdef int d = wrap_dim(dim, first.ndim)
    cdef int64_t total = 0
    for t in tensors:
        total += (<Tensor>t).sizes[d]
    return resized(first, d, total, first.dtype)


cdef tuple cat_lengths(tuple tensors, int64_t dim):
    cdef int d = wrap_dim(dim, (<Tensor>tensors[0]).ndim)
    return tuple([(<Tensor>t).sizes[d] for t in tensors])


cdef Tensor flat_rows(Tensor input):
    """(..., n) as (rows, n): a view of the same elements, or of a contiguous copy."""
    cdef int64_t n
    if input.ndim == 2:
        return input
    n = input.sizes[input.ndim - 1]
    if n == 0:
        return view_view(as_contiguous(input), (element_count(tensor_shape(input)[:-1]), 0))
    return view_view(input if can_view(input, (-1, n)) else as_contiguous(input), (-1, n))


cdef double default_epsilon(Tensor input) except -1:
    if input.dtype == VT_F64 or input.dtype == VT_C128:
        return 2.220446049250313e-16
    return 1.1920928955078125e-07
