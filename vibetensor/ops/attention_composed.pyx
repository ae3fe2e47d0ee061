"""Attention made of other operators (see attention_composed.pxd): every option, and any number of
derivatives."""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor, tensor_shape, tensor_wrap_number
from vibetensor.core.types cimport *
from vibetensor.ops.checks cimport new_zeros
from vibetensor.ops.composites cimport new_int64
from vibetensor.ops.entries cimport *


cdef Tensor upto(Tensor like, int64_t n):
    """0 ... n - 1, int64."""
    return op_arange_(new_int64(like, (n,)), 0, 1)


cdef Tensor repeat_heads(Tensor t, int64_t heads):
    """(B, h, T, D) with every head repeated heads / h times."""
    shape = tensor_shape(t)
    cdef int64_t times = heads // t.sizes[1]
    wide = op_expand(op_unsqueeze(t, 2), (shape[0], shape[1], times, shape[2], shape[3]))
    return op_reshape(wide, (shape[0], heads, shape[2], shape[3]))


cdef object either(object a, object b):
    return b if a is None else a | b


cdef tuple attention_of_operators(
    Tensor query, Tensor key, Tensor value, Tensor mask, Tensor slopes, Tensor cu_queries,
    Tensor cu_keys, double scale, double dropout_p, int64_t seed, int64_t offset, int64_t low,
    int64_t high, tuple lengths,
):
    cdef int dtype = query.dtype
    cdef Tensor distance
    if query.dtype < VT_F32:  # the kernels compute these in float32
        query, key, value = (op_to_dtype(t, VT_F32) for t in (query, key, value))
    if query.sizes[1] == 0:
        return new_zeros(value, tensor_shape(query)[:3] + (value.sizes[3],)), new_zeros(
            query, tensor_shape(query)[:3])
    if key.sizes[1] != query.sizes[1]:
        key, value = repeat_heads(key, query.sizes[1]), repeat_heads(value, query.sizes[1])
    if cu_queries is not None:
        out, lse = packed_of_operators(
            query, key, value, slopes, cu_queries, cu_keys, scale, dropout_p, seed, offset, low, high,
            lengths)
    else:
        distance = upto(query, key.sizes[2]) - key.sizes[2] - op_unsqueeze(
            upto(query, query.sizes[2]) - query.sizes[2], 1)
        out, lse = weighed(query, key, value, mask, slopes, distance, None, scale, dropout_p, seed,
                           offset, low, high)
    return op_to_dtype(out, dtype), lse


cdef tuple weighed(
    Tensor query, Tensor key, Tensor value, Tensor mask, Tensor slopes, Tensor distance, object hidden,
    double scale, double dropout_p, int64_t seed, int64_t offset, int64_t low, int64_t high,
):
    """Attention where `distance` says how far apart queries and keys are, `hidden` (or None) which may
    not meet."""
    scores = op_matmul(query, op_transpose(key, -2, -1)) * scale
    if key.sizes[2] == 0:
        lse = op_full_like(op_detach(query[..., 0]), float("-inf"), -1, False)
        return op_matmul(scores, value), lse
    if slopes is not None:
        slope = op_to_dtype(slopes[:, :, None, None], query.dtype)
        scores = scores - slope * op_to_dtype(op_abs(distance), query.dtype)
    if low > -UNBOUNDED:
        hidden = either(hidden, distance < low)
    if high < UNBOUNDED:
        hidden = either(hidden, distance > high)
    if mask is not None and mask.dtype == VT_BOOL:
        hidden = either(hidden, op_logical_not(mask))
    elif mask is not None:
        scores = scores + mask
    if hidden is not None:
        scores = op_masked_fill(scores, hidden, tensor_wrap_number(float("-inf")))
    # A row that sees nothing has the maximum -inf; any finite one does for it.
    top = op_amax(op_detach(scores), -1, True)
    top = op_masked_fill(top, top == float("-inf"), tensor_wrap_number(0))
    weights = op_exp(scores - top)
    total = op_sum(weights, -1, True, -1)
    lse = op_squeeze(op_log(total) + top, -1)
    weights = weights / op_masked_fill(total, total == 0, tensor_wrap_number(1))
    if dropout_p > 0:
        weights = weights * op__attention_dropout(
            query, query.sizes[2], key.sizes[2], dropout_p, seed, offset)
    return op_matmul(weights, value), lse


cdef tuple packed_of_operators(
    Tensor query, Tensor key, Tensor value, Tensor slopes, Tensor cu_queries, Tensor cu_keys,
    double scale, double dropout_p, int64_t seed, int64_t offset, int64_t low, int64_t high,
    tuple lengths,
):
    """Every sequence in a row of its own, padded, and the results back in place."""
    cdef int64_t count = cu_queries.numel - 1, max_q = lengths[0], max_k = lengths[1]
    cdef int64_t total = query.sizes[2]
    if count == 0:  # as one sequence of nothing
        count, cu_queries, cu_keys = 1, op_expand(cu_queries, (2,)), op_expand(cu_keys, (2,))
    max_q, max_k = max(max_q, 1), max(max_k, 1)
    cu_queries, cu_keys = op_to_dtype(cu_queries, VT_I64), op_to_dtype(cu_keys, VT_I64)
    queries, keys = cu_queries[1:] - cu_queries[:-1], cu_keys[1:] - cu_keys[:-1]
    i, j = upto(query, max_q), upto(query, max_k)
    hidden = (j >= keys[:, None])[:, None, None, :]
    ends = (keys - queries)[:, None, None, None]
    distance = (j - i[:, None])[None, None] - ends
    out, lse = weighed(
        padded(query, cu_queries, i), padded(key, cu_keys, j), padded(value, cu_keys, j), None, slopes,
        distance, hidden, scale, dropout_p, seed, offset, low, high)
    t = upto(query, total)
    sequence = (cu_queries[1:, None] <= t).sum(0).clamp(max=count - 1)
    place = sequence * max_q + (t - cu_queries[sequence]).clamp(0, max_q - 1)
    behind, zero = t >= cu_queries[-1], tensor_wrap_number(0)
    out = op_index_select(out.transpose(0, 1).flatten(1, 2), 1, place)
    lse = op_index_select(lse.transpose(0, 1).flatten(1, 2), 1, place)
    return (op_unsqueeze(op_masked_fill(out, behind[:, None], zero), 0),
            op_unsqueeze(op_masked_fill(lse, behind, zero), 0))


cdef Tensor padded(Tensor t, object starts, object steps):
    """(1, H, total, D) as (sequences, H, len(steps), D); what lies behind a sequence means nothing."""
    shape = tensor_shape(t)
    if shape[2] == 0:
        # The sum of no rows: zeros that know where they come from.
        rows = op_sum(t, 2, True, -1)
        return op_expand(rows, (starts.numel() - 1, shape[1], steps.numel(), shape[3]))
    place = (starts[:-1, None] + steps).clamp(max=shape[2] - 1).flatten()
    rows = op_index_select(t.squeeze(0), 1, place)
    return op_transpose(
        op_reshape(rows, (shape[1], starts.numel() - 1, steps.numel(), shape[3])), 0, 1)
