// Indexing with arrays along several dimensions at once, for reading and for writing. One index array
// is a plan like any other; several are turned into one array of offsets first, a launch for each.
#include "vibetensor/cuda/determinism.h"
#include "vibetensor/cuda/kernels/index_plan.h"

using namespace vt_cuda;

namespace {

constexpr int kThreads = 256;

Kernel offsets_kernel("index", "vt_index_offsets");

bool given(const vt_array &a) { return a.data != nullptr; }

// The arguments of an advanced index: `list` has one array for each leading dimension of self, data
// NULL where there is none; `other` has the common shape of the arrays, then the dimensions of self
// without an index.
struct Advanced {
  const vt_array &self, &other;
  const vt_array *list;
  int count, used = 0, only = -1;  // arrays in the list, arrays given, the last given one
  int common;                      // dimensions of the common shape

  Advanced(const vt_array &s, const vt_array &o, const vt_value &v)
      : self(s), other(o), list(v.arrays), count(static_cast<int>(v.n)) {
    for (int d = 0; d < count; d++) {
      if (!given(list[d])) continue;
      used++;
      only = d;
    }
    common = other.ndim - (self.ndim - used);
  }

  int64_t positions() const {
    int64_t n = 1;
    for (int d = 0; d < common; d++) n *= other.sizes[d];
    return n;
  }

  // The plan, but for the index of the common dimensions, whose strides are `index_strides`.
  void push_dims(IndexPlan *plan, const int64_t *index_strides) const {
    int from = other.ndim - 1;
    for (int d = self.ndim - 1; d >= 0; d--) {
      if (d < count && given(list[d])) continue;
      plan->push(other.sizes[from], other.strides[from], 0, self.strides[d]);
      from--;
    }
    for (int d = common - 1; d >= 0; d--) {
      plan->push(other.sizes[d], other.strides[d], index_strides[d], 0);
    }
  }

  IndexPlan plan(vt_context *ctx) const {
    IndexPlan p = {{}, error_sink(ctx, only), {}, other.data, self.data, nullptr, self.dtype};
    return p;
  }

  // Sums over the given arrays what their elements stand for, by the strides of each dimension.
  vt_status combine(vt_context *ctx, const int64_t *steps, int64_t *offsets) const {
    int32_t first = 1;
    for (int d = 0; d < count; d++) {
      if (!given(list[d])) continue;
      IndexRule rule = index_rule(self, d, list[d], vt::kIndexWrapped);
      rule.step = steps[d];
      Dims<1> dims = dims_of(-1, list[d]);
      dims.coalesce();
      // Row-major pieces, so that offsets follow each other.
      const vt_error_sink sink = error_sink(ctx, d);
      int64_t *to = offsets;
      const vt_status status = dims.for_walks([&](const Walk<1> &walk, const int64_t *offset) {
        const vt_status s =
            launch(ctx, offsets_kernel, blocks_for(walk.numel, kThreads), {kThreads}, 0, walk, rule,
                   static_cast<const char *>(list[d].data + offset[0] * (rule.wide ? 8 : 4)), to,
                   first, sink);
        to += walk.numel;
        return s;
      });
      if (status != VT_OK) return status;
      first = 0;
    }
    return VT_OK;
  }

  // Calls f(plan) with the finished plan; `in_order` if it is to add in order.
  template <class F>
  vt_status with_plan(vt_context *ctx, bool in_order, const F &f) const {
    IndexPlan p = plan(ctx);
    if (used == 1) {
      p.rule = index_rule(self, only, list[only], vt::kIndexWrapped);
      p.index = list[only].data;
      push_dims(&p, list[only].strides);
      return f(p);
    }
    const int64_t n = positions();
    if (n == 0) return VT_OK;
    Scratch room(ctx, static_cast<size_t>(n) * sizeof(int64_t) * (in_order ? 2 : 1));
    if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
    int64_t *const offsets = room.as<int64_t>(), *const numbers = offsets + n;
    vt_status status = combine(ctx, self.strides, offsets);
    if (status == VT_OK && in_order) status = combine(ctx, number_steps(&p).steps, numbers);
    if (status != VT_OK) return status;
    int64_t strides[VT_MAX_DIMS];
    fill_strides(strides);
    // All steps in one number: the index is divided by what divides them all.
    int64_t parts = 0;
    for (int d = 0; d < count; d++) parts |= given(list[d]) ? self.strides[d] : 0;
    p.rule = {parts, 0, vt::kIndexOffset, 1};
    p.index = reinterpret_cast<const char *>(offsets);
    p.numbers = in_order ? reinterpret_cast<const char *>(numbers) : nullptr;
    push_dims(&p, strides);
    return f(p);
  }

  // Row-major steps over the indexed dimensions: they number the places.
  struct Steps {
    int64_t steps[VT_MAX_DIMS];
  };
  Steps number_steps(IndexPlan *p) const {
    Steps s;
    p->numbers_below = 1;
    for (int d = count - 1; d >= 0; d--) {
      s.steps[d] = p->numbers_below;
      if (given(list[d])) p->numbers_below *= self.sizes[d];
    }
    return s;
  }

  void fill_strides(int64_t *strides) const {
    int64_t stride = 1;
    for (int d = common - 1; d >= 0; d--) {
      strides[d] = stride;
      stride *= other.sizes[d];
    }
  }
};

}  // namespace

extern "C" {

// self, out; list of index arrays: int64, all of one shape (stride 0 where broadcast), one for each
// leading dimension of self, data NULL for a dimension taken whole. out has the common shape, then
// the dimensions taken whole. Negative indices count from the end.
vt_status index_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (a[1].numel == 0) return VT_OK;
  return Advanced(a[0], a[1], v[0]).with_plan(ctx, false, [&](IndexPlan &p) {
    return p.fetch(ctx);
  });
}

// self (written in place), source (shape as index_cuda's out; may be expanded); list of index arrays,
// accumulate.
vt_status index_put_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (a[1].numel == 0) return VT_OK;
  const Advanced advanced(a[0], a[1], v[0]);
  if (v[1].i == 0) {
    return advanced.with_plan(ctx, vt_cuda_deterministic,
                              [&](IndexPlan &p) { return p.store(ctx); });
  }
  // This is the gradient of indexing: half types are summed in float, as PyTorch sums them.
  const bool half = a[0].dtype == VT_F16 || a[0].dtype == VT_BF16;
  const IndexScale scale = {1, 0, 1, 1, 0};
  return advanced.with_plan(ctx, half || vt_cuda_deterministic,
                            [&](IndexPlan &p) { return p.add(ctx, scale, half); });
}

}  // extern "C"
