// How an index of one dimension meets its table and the values read or written: the walk, and the
// launches over it. One plan serves gather, scatter, index_select, embedding and the rest.
#ifndef VT_CUDA_INDEX_PLAN_H
#define VT_CUDA_INDEX_PLAN_H

#include "vibetensor/cuda/kernels/walk.h"
#include "vt/index_walk.h"

namespace vt_cuda {

using vt::IndexRule;
using vt::IndexScale;
using vt::kIndex;
using vt::kTable;
using vt::kValues;

struct IndexPlan {
  vt::IndexRule rule;
  vt_error_sink sink;
  Dims<3> dims;  // values, index, table; row-major until a launch reorders them
  char *values, *table;
  const char *index;
  int dtype;
  // Beside an index of offsets, where values are added in order: the number of the place that each
  // offset stands for, and the number of places.
  const char *numbers = nullptr;
  int64_t numbers_below = 0;

  // A dimension outside of those already pushed, of sizes and strides as in the arrays.
  void push(int64_t size, int64_t values_stride, int64_t index_stride, int64_t table_stride) {
    dims.push(size, values_stride, index_stride, table_stride);
  }

  // values = table[index]
  vt_status fetch(vt_context *ctx);
  // table[index] = values. Where several values meet one place any of them stays, or with
  // vt_cuda_deterministic the last.
  vt_status store(vt_context *ctx);
  // table[index] += scale * values. In a fixed order with vt_cuda_deterministic or `rounded_once`,
  // which rounds half types once.
  vt_status add(vt_context *ctx, const IndexScale &scale, bool rounded_once);

 private:
  int64_t widen();
  bool in_runs(int64_t bytes, vt::IndexRunWalk *w) const;
  template <class Values, class Table, class... More>
  vt_status run(vt_context *ctx, int64_t bytes, Kernel *runs, Kernel &single, const More &...more);
  // `last` stores the last value of a place, else all are added; `done` stays false where a shape is
  // too large.
  vt_status in_order(vt_context *ctx, const IndexScale &scale, bool last, bool *done);
};

// The rule for an index array along dimension `dim` of a table (0-d: of one element).
IndexRule index_rule(const vt_array &table, int dim, const vt_array &index, int kind);

inline vt_error_sink error_sink(vt_context *ctx, int dim) {
  return {index_error_slot(ctx), ctx->op, dim};
}

}  // namespace vt_cuda

#endif
