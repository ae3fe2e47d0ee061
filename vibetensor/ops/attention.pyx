"""Attention (see attention.pxd). opdefs/attention.py has the notes on windows and packed sequences."""
from libc.math cimport sqrt
from libc.stdint cimport int64_t

from vibetensor.core.dtype cimport dtype_scalar_name
from vibetensor.core.random cimport philox_reserve
from vibetensor.core.tensor cimport (
    tensor_empty, tensor_shape, tensor_update,
)
from vibetensor.core.types cimport *
from vibetensor.ops.attention_composed cimport UNBOUNDED, attention_of_operators
from vibetensor.ops.checks cimport new_empty, new_statistic
from vibetensor.ops.composites cimport broadcast_lead
from vibetensor.ops.entries cimport *
from vibetensor.ops.packed cimport packed_empty_like


# --- the ways to compute it on CUDA ----------------------------------------------------------------------

# torch.nn.attention.SDPBackend: "math" are other operators, "flash" our fused kernels, "efficient"
# products with a softmax kernel between them.
cdef enum:
    MATH = 0
    FLASH = 1
    EFFICIENT = 2

cdef unsigned int enabled = 0b11111   # bits of SDPBackend
cdef int fused_kernels = -1           # whether they can run here; -1: not known yet
cdef object ask_for_kernels = None    # who knows


def enable(int backend, bint on):
    """Allow or forbid a backend; vibetensor.backends.cuda has the public functions."""
    global enabled
    enabled = enabled | 1 << backend if on else enabled & ~(<unsigned int>1 << backend)


def is_enabled(int backend):
    """Whether a backend is allowed."""
    return bool(enabled & 1 << backend)


def kernels_from(function):
    """`function` says whether fused kernels can run here; it is asked at the next call on CUDA."""
    global fused_kernels, ask_for_kernels
    ask_for_kernels = function
    fused_kernels = -1


cdef bint find_kernels() except -1:
    global fused_kernels
    fused_kernels = ask_for_kernels is not None and ask_for_kernels()
    return fused_kernels


cdef bint takes_fused(Tensor query, Tensor value) except -1:
    """Whether vibetensor/cuda/kernels/attention_choices.h has rows for it."""
    cdef int64_t widest = max(query.sizes[3], value.sizes[3])
    if query.dtype == VT_F64 or widest > (128 if query.dtype == VT_F32 else 256):
        return False
    return find_kernels() if fused_kernels < 0 else fused_kernels


cdef int64_t fused_options(Tensor query, Tensor value, bint plain, int64_t options) except -2:
    """The options with which sdpa's kernel takes the input; -1 if other operators have to."""
    if query.device_type != VT_CUDA:
        if enabled & (1 << FLASH | 1 << EFFICIENT):
            return options
    elif enabled & 1 << FLASH and takes_fused(query, value):
        return options
    elif enabled & 1 << EFFICIENT and plain:
        return options | ATTENTION_COMPOSED
    if not enabled & 1 << MATH:
        raise RuntimeError("No available kernel. Aborting execution.")
    return -1


# --- outputs ---------------------------------------------------------------------------------------------

cdef Tensor by_time(Tensor like, int64_t heads, int64_t features):
    """(B, heads, T, features) laid out as (B, T, heads, features)."""
    cdef Tensor base = new_empty(like, (like.sizes[0], like.sizes[2], heads, features))
    base.sizes[1], base.sizes[2] = base.sizes[2], base.sizes[1]
    base.strides[1], base.strides[2] = base.strides[2], base.strides[1]
    tensor_update(base)
    return base


cdef Tensor cleared(Tensor t, bint packed):
    # Rows that belong to no sequence are zero.
    if packed:
        op_zero_(t)
        t.storage.version = 0
    return t


cdef Tensor attention_output(Tensor query, Tensor value, bint packed):
    return cleared(by_time(query, query.sizes[1], value.sizes[3]), packed)


cdef Tensor attention_lse(Tensor query, bint packed):
    return cleared(new_statistic(query, tensor_shape(query)[:3]), packed)


cdef Tensor attention_gradient(Tensor t, bint packed):
    # Features are neighbours, as the fused kernels want it.
    if t.strides[1] < t.strides[2]:
        return cleared(by_time(t, t.sizes[1], t.sizes[3]), packed)
    return cleared(new_empty(t, tensor_shape(t)), packed)


cdef tuple attention_gradients(Tensor query, Tensor key, Tensor value, bint packed, tuple wanted):
    if wanted[0] and wanted[1] and wanted[2] and not packed:
        together = packed_empty_like((query, key, value))
        if together is not None:
            return together
    return tuple([
        attention_gradient(<Tensor>t, packed) if w else None
        for t, w in zip((query, key, value), wanted)
    ])


cdef Tensor attention_mask_gradient(Tensor query, Tensor key, Tensor mask, int64_t options):
    shape = (query.sizes[0], query.sizes[1], query.sizes[2], key.sizes[2])
    if query.device_type != VT_CUDA:
        return new_statistic(mask, shape)
    if options & ATTENTION_COMPOSED:
        return new_empty(mask, shape)
    # The fused kernel sums over broadcast batches and heads, in float32.
    return tensor_empty((mask.sizes[0], mask.sizes[1]) + shape[2:], VT_F32, VT_CUDA, mask.device_index)


# --- the operator ----------------------------------------------------------------------------------------

cdef tuple run(
    Tensor query, Tensor key, Tensor value, Tensor mask, Tensor slopes, Tensor cu_queries,
    Tensor cu_keys, double scale, double dropout_p, object generator, int64_t low, int64_t high,
    int64_t options, tuple lengths,
):
    cdef int64_t seed = 0, offset = 0, sequences = query.sizes[0]
    cdef bint plain = (dropout_p == 0 and slopes is None and cu_queries is None and low <= -UNBOUNDED)
    if dropout_p > 0:
        if cu_queries is not None:
            sequences = cu_queries.numel - 1
        philox_reserve(generator, query.device_type, query.device_index,
                       sequences * query.sizes[1], &seed, &offset)
    options = fused_options(query, value, plain, options)
    if options < 0:
        return attention_of_operators(
            query, key, value, mask, slopes, cu_queries, cu_keys, scale, dropout_p, seed, offset, low,
            high, lengths)
    return op__sdpa(query, key, value, mask, slopes, cu_queries, cu_keys, scale, dropout_p, seed, offset,
                    low, high, options, lengths)


cdef int check_inputs(str op, Tensor query, Tensor key, Tensor value, Tensor mask, double dropout_p,
                      bint is_causal) except -1:
    if query.ndim < 2 or key.ndim < 2 or value.ndim < 2:
        raise RuntimeError(
            f"{op}: Expected query, key, and value to all be  at least 2 dimensional, but got query, "
            f"key, and value to be {query.ndim}D, {key.ndim}D, {value.ndim}D"
        )
    if query.dtype != key.dtype or query.dtype != value.dtype:
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got query.dtype: "
            f"{dtype_scalar_name(query.dtype)} key.dtype: {dtype_scalar_name(key.dtype)} and "
            f"value.dtype: {dtype_scalar_name(value.dtype)} instead."
        )
    if mask is not None:
        if is_causal:
            raise RuntimeError(
                f"{op}: Explicit attn_mask should not be set when is_causal=True"
            )
        if mask.dtype != VT_BOOL and mask.dtype != VT_F32 and mask.dtype != query.dtype:
            raise RuntimeError(
                "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
                f"attn_mask.dtype: {dtype_scalar_name(mask.dtype)} and  query.dtype: "
                f"{dtype_scalar_name(query.dtype)} instead."
            )
    if not VT_F16 <= query.dtype <= VT_F64:
        raise RuntimeError(f"expected scalar type Float but found {dtype_scalar_name(query.dtype)}")
    if not 0 <= dropout_p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {dropout_p}")
    return 0


cdef int check_shapes(str op, Tensor query, Tensor key, Tensor value, bint enable_gqa) except -1:
    cdef bint fits = (
        query.sizes[0] == key.sizes[0] == value.sizes[0] and key.sizes[2] == value.sizes[2]
        and query.sizes[3] == key.sizes[3] and key.sizes[1] == value.sizes[1]
    )
    if fits and enable_gqa:
        fits = key.sizes[1] > 0 and query.sizes[1] % key.sizes[1] == 0
    elif fits:
        fits = query.sizes[1] == key.sizes[1]
    if not fits:
        raise RuntimeError(
            f"{op}: shapes do not fit: query {list(tensor_shape(query))}, key "
            f"{list(tensor_shape(key))}, value {list(tensor_shape(value))}"
        )
    return 0


cdef Tensor four_dimensional(str op, Tensor mask, Tensor query, Tensor key):
    """The mask with four dimensions, each of its size or 1: nothing is copied, but a float32 mask of
    another query is cast, as autocast would."""
    cdef int64_t sizes[4]
    cdef int i
    if mask is None:
        return None
    if mask.dtype != VT_BOOL:
        mask = op_to_dtype(mask, query.dtype)
    while mask.ndim < 4:
        mask = op_unsqueeze(mask, 0)
    sizes[0], sizes[1], sizes[2] = query.sizes[0], query.sizes[1], query.sizes[2]
    sizes[3] = key.sizes[2]
    for i in range(4):
        if mask.ndim > 4 or mask.sizes[i] != 1 and mask.sizes[i] != sizes[i]:
            raise RuntimeError(
                f"{op}: attn_mask of shape {list(tensor_shape(mask))} does not broadcast to "
                f"{[sizes[0], sizes[1], sizes[2], sizes[3]]}"
            )
    return mask


cdef double scale_of(Tensor query, object scale) except? -1:
    return 1 / sqrt(<double>query.sizes[query.ndim - 1]) if scale is None else scale


cdef Tensor sdpa_composite(Tensor query, Tensor key, Tensor value, Tensor mask, double dropout_p,
                           bint is_causal, object scale, bint enable_gqa):
    cdef str op = "scaled_dot_product_attention"
    check_inputs(op, query, key, value, mask, dropout_p, is_causal)
    if query.ndim != 4 or key.ndim != 4 or value.ndim != 4:
        return any_rank(query, key, value, mask, dropout_p, is_causal, scale, enable_gqa)
    check_shapes(op, query, key, value, enable_gqa)
    mask = four_dimensional(op, mask, query, key)
    return run(
        query, key, value, mask, None, None, None, scale_of(query, scale), dropout_p, None, -UNBOUNDED,
        query.sizes[2] - key.sizes[2] if is_causal else UNBOUNDED, 0, ())[0]


cdef Tensor any_rank(Tensor query, Tensor key, Tensor value, Tensor mask, double dropout_p,
                     bint is_causal, object scale, bint enable_gqa):
    """Fewer dimensions become leading ones of size 1; more are merged into the batch."""
    cdef tuple lead
    cdef int ndim = query.ndim
    if ndim == key.ndim == value.ndim and ndim < 4:
        if ndim == 3 and not query.sizes[0] == key.sizes[0] == value.sizes[0]:
            return merged(query, key, value, mask, dropout_p, is_causal, scale)
        # Heads are the dimension before the last two; a mask broadcasts from the right.
        for _ in range(4 - ndim):
            query, key, value = op_unsqueeze(query, 0), op_unsqueeze(key, 0), op_unsqueeze(value, 0)
        out = sdpa_composite(query, key, value, mask, dropout_p, is_causal, scale, enable_gqa)
        for _ in range(4 - ndim):
            out = op_squeeze(out, 0)
        return out
    return merged(query, key, value, mask, dropout_p, is_causal, scale)


cdef Tensor merged(Tensor query, Tensor key, Tensor value, Tensor mask, double dropout_p,
                   bint is_causal, object scale):
    cdef tuple lead = broadcast_lead(query, key)
    if query.ndim == 2:
        lead = ()
    flat = []
    for t in (query, key, value):
        wide = op_expand(<Tensor>t, lead + tensor_shape(<Tensor>t)[-2:])
        flat.append(op_reshape(wide, (-1, 1) + tensor_shape(<Tensor>t)[-2:]))
    if mask is not None:
        rows = (query.sizes[query.ndim - 2], key.sizes[key.ndim - 2])
        mask = op_reshape(op_expand(mask, lead + rows), (-1, 1) + rows)
    out = sdpa_composite(flat[0], flat[1], flat[2], mask, dropout_p, is_causal, scale, False)
    return op_reshape(out, lead + (query.sizes[query.ndim - 2], value.sizes[value.ndim - 1]))


# --- what nn.attention offers besides --------------------------------------------------------------------

cdef int read_window(str op, object sizes, int64_t* low, int64_t* high) except -1:
    """The sides of a window as distances; negative sizes mean no bound."""
    if not isinstance(sizes, (tuple, list)) or len(sizes) != 2 or not all(
        isinstance(size, int) for size in sizes
    ):
        raise TypeError(f"{op}: window_size must be two integers, (left, right), got {sizes!r}")
    left, right = sizes
    low[0] = -UNBOUNDED if left < 0 else -min(left, UNBOUNDED)
    high[0] = UNBOUNDED if right < 0 else min(right, UNBOUNDED)
    return 0


cdef Tensor check_slopes(str op, Tensor slopes, Tensor query, int64_t batch):
    if slopes is None:
        return None
    if slopes.ndim == 1:
        slopes = op_unsqueeze(slopes, 0)
    if slopes.requires_grad:
        raise RuntimeError(f"{op}: alibi_slopes have no gradient, but require one; pass them detached")
    if slopes.dtype != VT_F32:
        raise RuntimeError(f"{op}: alibi_slopes must be float32, got {dtype_scalar_name(slopes.dtype)}")
    if slopes.ndim != 2 or slopes.sizes[0] not in (1, batch) or slopes.sizes[1] != query.sizes[1]:
        raise RuntimeError(
            f"{op}: alibi_slopes must be of shape [{query.sizes[1]}] or [{batch}, {query.sizes[1]}], "
            f"got {list(tensor_shape(slopes))}"
        )
    return slopes


def attention(Tensor query not None, Tensor key not None, Tensor value not None, Tensor attn_mask,
              double dropout_p, bint is_causal, object scale, bint enable_gqa, object window_size,
              Tensor alibi_slopes, bint deterministic, object generator):
    """See vibetensor.nn.attention.attention."""
    cdef str op = "attention"
    cdef int64_t low, high
    check_inputs(op, query, key, value, attn_mask, dropout_p, False)
    if query.ndim != 4 or key.ndim != 4 or value.ndim != 4:
        raise RuntimeError(
            f"attention: query, key and value must be 4D, got {query.ndim}D, {key.ndim}D, {value.ndim}D"
        )
    check_shapes(op, query, key, value, enable_gqa)
    attn_mask = four_dimensional(op, attn_mask, query, key)
    alibi_slopes = check_slopes(op, alibi_slopes, query, query.sizes[0])
    read_window(op, window_size, &low, &high)
    if is_causal:
        high = min(high, query.sizes[2] - key.sizes[2])
    out, lse = run(
        query, key, value, attn_mask, alibi_slopes, None, None, scale_of(query, scale), dropout_p,
        generator, low, high, ATTENTION_DETERMINISTIC if deterministic else 0, ())
    return out, op_detach(lse)


cdef int check_offsets(str name, Tensor offsets, Tensor rows, int64_t longest) except -1:
    """Of the offsets of packed sequences. Values are checked where reading them costs nothing."""
    if offsets.dtype != VT_I32 or offsets.ndim != 1 or offsets.numel == 0:
        raise RuntimeError(
            f"varlen_attn: {name} must be an int32 vector of the number of sequences + 1, got "
            f"{dtype_scalar_name(offsets.dtype)} of shape {list(tensor_shape(offsets))}"
        )
    if offsets.device_type != VT_CPU:
        return 0
    values = offsets.tolist()
    if values[0] != 0 or values[-1] > rows.sizes[0]:
        raise RuntimeError(
            f"varlen_attn: {name} must go from 0 to at most {rows.sizes[0]}, got {values[0]} to "
            f"{values[-1]}"
        )
    for a, b in zip(values, values[1:]):
        if b < a:
            raise RuntimeError(f"varlen_attn: {name} must not decrease, got {b} after {a}")
        if b - a > longest:
            raise RuntimeError(
                f"varlen_attn: {name} has a sequence of {b - a}, longer than the maximum {longest}"
            )
    return 0


def varlen_attention(Tensor query not None, Tensor key not None, Tensor value not None,
                     Tensor cu_seq_q not None, Tensor cu_seq_k not None, int64_t max_q, int64_t max_k,
                     object scale, object window_size, bint enable_gqa, double dropout_p,
                     Tensor alibi_slopes, bint deterministic, object generator):
    """See vibetensor.nn.attention.varlen.varlen_attn."""
    cdef str op = "varlen_attn"
    cdef int64_t low, high
    read_window(op, window_size, &low, &high)
    check_inputs(op, query, key, value, None, dropout_p, False)
    if query.ndim != 3 or key.ndim != 3 or value.ndim != 3:
        raise RuntimeError(
            f"varlen_attn: query, key and value must be (tokens, heads, features), got {query.ndim}D, "
            f"{key.ndim}D, {value.ndim}D"
        )
    check_offsets("cu_seq_q", cu_seq_q, query, max_q)
    check_offsets("cu_seq_k", cu_seq_k, key, max_k)
    if cu_seq_q.numel != cu_seq_k.numel:
        raise RuntimeError(
            f"varlen_attn: cu_seq_q and cu_seq_k must be of one length, got {cu_seq_q.numel} and "
            f"{cu_seq_k.numel}"
        )
    query, key, value = (op_unsqueeze(op_transpose(t, 0, 1), 0) for t in (query, key, value))
    check_shapes(op, query, key, value, enable_gqa)
    alibi_slopes = check_slopes(op, alibi_slopes, query, cu_seq_q.numel - 1)
    out, lse = run(
        query, key, value, None, alibi_slopes, cu_seq_q, cu_seq_k, scale_of(query, scale), dropout_p,
        generator, low, high,
        ATTENTION_DETERMINISTIC if deterministic else 0, (max_q, max_k))
    return (op_transpose(op_squeeze(out, 0), 0, 1),
            op_transpose(op_squeeze(op_detach(lse), 0), 0, 1))
