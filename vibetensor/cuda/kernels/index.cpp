// Indexing along one dimension: gather, scatter, index_select, index_add, embedding. Bad indices are
// reported by the kernels (vt/index_error.h); where the CPU leaves everything as it was, here what the
// good indices name has been written.
#include "vibetensor/cuda/kernels/index_plan.h"

using namespace vt_cuda;

namespace {

// Over the index's shape; the table has its rank. scatter's index may be smaller than its values.
IndexPlan aligned_plan(vt_context *ctx, const vt_array &values, const vt_array &index,
                       const vt_array &table, int dim) {
  IndexPlan plan = {index_rule(table, dim, index, vt::kIndexChecked),
                    error_sink(ctx, dim),
                    {},
                    values.data,
                    table.data,
                    index.data,
                    table.dtype};
  for (int d = index.ndim - 1; d >= 0; d--) {
    // A 0-d tensor counts as one element.
    const int64_t table_stride = d == dim || table.ndim == 0 ? 0 : table.strides[d];
    plan.push(index.sizes[d], values.ndim > 0 ? values.strides[d] : 0, index.strides[d],
              table_stride);
  }
  return plan;
}

// Over the shape of the values, along whose dimension `dim` lies an index of at most one dimension.
IndexPlan vector_plan(vt_context *ctx, const vt_array &values, const vt_array &index,
                      const vt_array &table, int dim) {
  IndexPlan plan = {index_rule(table, dim, index, vt::kIndexChecked),
                    error_sink(ctx, dim),
                    {},
                    values.data,
                    table.data,
                    index.data,
                    table.dtype};
  const int64_t step = index.ndim > 0 ? index.strides[0] : 0;
  for (int d = values.ndim - 1; d >= 0; d--) {
    plan.push(values.sizes[d], values.strides[d], d == dim ? step : 0,
              d == dim || table.ndim == 0 ? 0 : table.strides[d]);
  }
  return plan;
}

IndexScale scale_of(const vt_value *alpha) {
  IndexScale scale = {1, 0, 1, 1, 0};
  if (alpha == nullptr || (alpha->kind == VT_VALUE_INT && alpha->i == 1)) return scale;
  scale.re = alpha->re;
  scale.im = alpha->im;
  scale.i = alpha->i;
  scale.is_int = alpha->kind == VT_VALUE_INT;
  scale.scaled = 1;
  return scale;
}

}  // namespace

extern "C" {

// input, index (int64), out (of the index's shape); dim.
vt_status gather_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return aligned_plan(ctx, a[2], a[1], a[0], static_cast<int>(v[0].i)).fetch(ctx);
}

// out (holds the input), index (int64), source; dim. Any of several writes to a place may stand.
vt_status scatter_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return aligned_plan(ctx, a[2], a[1], a[0], static_cast<int>(v[0].i)).store(ctx);
}

// out (holds the input), index (int64), source; dim.
vt_status scatter_add_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  IndexPlan plan = aligned_plan(ctx, a[2], a[1], a[0], static_cast<int>(v[0].i));
  return plan.add(ctx, scale_of(nullptr), false);
}

// input, index (int32 or int64, at most one dimension), out; dim.
vt_status index_select_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return vector_plan(ctx, a[2], a[1], a[0], static_cast<int>(v[0].i)).fetch(ctx);
}

// out (holds the input), index (int32 or int64, at most one dimension), source; dim, alpha.
vt_status index_add_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  IndexPlan plan = vector_plan(ctx, a[2], a[1], a[0], static_cast<int>(v[0].i));
  return plan.add(ctx, scale_of(&v[1]), false);
}

// weight (V, D), indices (int32 or int64, any shape), out (the shape of indices, D).
vt_status embedding_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  const vt_array &weight = a[0], &index = a[1], &out = a[2];
  IndexPlan plan = {index_rule(weight, 0, index, vt::kIndexChecked),
                    error_sink(ctx, 0),
                    {},
                    out.data,
                    weight.data,
                    index.data,
                    weight.dtype};
  plan.push(weight.sizes[1], out.strides[out.ndim - 1], 0, weight.strides[1]);
  for (int d = index.ndim - 1; d >= 0; d--) {
    plan.push(index.sizes[d], out.strides[d], index.strides[d], 0);
  }
  return plan.fetch(ctx);
}

}  // extern "C"
