#include "vibetensor/cuda/kernels/index_plan.h"

#include "vibetensor/cuda/determinism.h"
#include "vibetensor/cuda/kernels/shapes.h"
#include "vibetensor/cuda/kernels/sort_pairs.h"

int vt_cuda_deterministic = 0, vt_cuda_deterministic_only = 0;
int (*vt_cuda_warn)(const char *) = nullptr;

namespace vt_cuda {

namespace {

constexpr int kThreads = vt::kIndexThreads;

Kernel fetch_kernels[] = {{"index", "vt_index_fetch_1"},
                          {"index", "vt_index_fetch_2"},
                          {"index", "vt_index_fetch_4"},
                          {"index", "vt_index_fetch_8"},
                          {"index", "vt_index_fetch_16"}};
Kernel store_kernels[] = {{"index", "vt_index_store_1"},
                          {"index", "vt_index_store_2"},
                          {"index", "vt_index_store_4"},
                          {"index", "vt_index_store_8"},
                          {"index", "vt_index_store_16"}};
Kernel fetch_runs[] = {{"index", "vt_index_fetch_runs_1"},
                       {"index", "vt_index_fetch_runs_2"},
                       {"index", "vt_index_fetch_runs_4"}};
Kernel store_runs[] = {{"index", "vt_index_store_runs_1"},
                       {"index", "vt_index_store_runs_2"},
                       {"index", "vt_index_store_runs_4"}};
KernelSet add_kernels("index", "vt_index_add");
KernelSet add_runs("index", "vt_index_add_runs");
KernelSet add_sorted_kernels("index", "vt_index_add_sorted");
Kernel keys_kernel("index", "vt_index_keys");

// A dimension of the table that one index does not step through but stands for.
bool is_rest(const Dims<3> &dims, int d) {
  return dims.strides[kIndex][d] == 0 && dims.strides[kTable][d] != 0;
}

constexpr char kNoOrder[] =
    "does not have a deterministic implementation on CUDA for 2^32 positions or more, or more than "
    "12 dimensions that lie apart in memory, but you set use_deterministic_algorithms(True)";

vt_status no_order(vt_context *ctx) {
  if (!vt_cuda_deterministic_only && vt_cuda_warn && vt_cuda_warn(kNoOrder)) return VT_OK;
  ctx->message = kNoOrder;
  return VT_ERROR_VALUE;
}

}  // namespace

IndexRule index_rule(const vt_array &table, int dim, const vt_array &index, int kind) {
  IndexRule rule = {};
  rule.step = table.ndim > 0 ? table.strides[dim] : 0;
  rule.size = table.ndim > 0 ? table.sizes[dim] : 1;
  rule.kind = kind;
  rule.wide = index.dtype == VT_I64;
  return rule;
}

// Makes wider elements, of up to 16 bytes, of an innermost run that values and table have without gaps
// and that one index stands for. Returns how many bytes an element then has.
int64_t IndexPlan::widen() {
  const int64_t size = element_size(dtype);
  int64_t n = 16 / size;
  if (n == 1 || dims.ndim == 0) return size;
  if (dims.strides[kIndex][0] != 0 || dims.strides[kValues][0] != 1 ||
      dims.strides[kTable][0] != 1) {
    return size;
  }
  // What n has to divide, all in one number.
  uint64_t parts = static_cast<uint64_t>(dims.sizes[0]) | static_cast<uint64_t>(rule.step);
  for (int d = 1; d < dims.ndim; d++) {
    parts |= static_cast<uint64_t>(dims.strides[kValues][d]) |
             static_cast<uint64_t>(dims.strides[kTable][d]);
  }
  const uint64_t addresses =
      reinterpret_cast<uintptr_t>(values) | reinterpret_cast<uintptr_t>(table);
  while (n > 1 && (parts % n != 0 || addresses % (n * size) != 0)) n /= 2;
  if (n == 1) return size;
  dims.sizes[0] /= n;
  if (rule.kind == vt::kIndexOffset) {
    rule.size = bits_below(static_cast<uint64_t>(n));
  } else {
    rule.step /= n;
  }
  for (int d = 1; d < dims.ndim; d++) {
    dims.strides[kValues][d] /= n;
    dims.strides[kTable][d] /= n;
  }
  return n * size;
}

// The same walk with runs for elements, where that is possible: see vt::IndexRunWalk.
bool IndexPlan::in_runs(int64_t bytes, vt::IndexRunWalk *w) const {
  constexpr int64_t kRun = vt::kIndexRun;
  if (bytes > 4 || !rule.wide || rule.kind == vt::kIndexOffset || dims.ndim == 0 ||
      dims.ndim > kWalkDims || dims.strides[kIndex][0] != 1 || dims.strides[kValues][0] != 1) {
    return false;
  }
  const int64_t step = dims.strides[kTable][0];
  // The farthest that an element of a run lies from its first place, with care for large factors.
  const double reach = double(rule.size) * llabs(rule.step) + double(kRun) * llabs(step);
  uint64_t parts = static_cast<uint64_t>(dims.sizes[0]);
  for (int d = 1; d < dims.ndim; d++) {
    parts |= static_cast<uint64_t>(dims.strides[kValues][d]) |
             static_cast<uint64_t>(dims.strides[kIndex][d]);
  }
  if (reach > INT32_MAX || parts % kRun != 0 ||
      reinterpret_cast<uintptr_t>(values) % (kRun * bytes) != 0 || !is_aligned(index)) {
    return false;
  }
  Dims<3> runs = dims;
  runs.sizes[0] /= kRun;
  for (auto &strides : runs.strides) strides[0] *= kRun;
  w->walk = runs.walk();
  w->rule = rule;
  w->table_step = static_cast<int32_t>(step);
  return w->walk.narrow;
}

// Launches `runs` or `single` over the walk: walk, values, index, table, and more arguments. What is only
// read is const.
template <class Values, class Table, class... More>
vt_status IndexPlan::run(vt_context *ctx, int64_t bytes, Kernel *runs, Kernel &single,
                         const More &...more) {
  vt::IndexRunWalk w;
  if (runs && in_runs(bytes, &w)) {
    const Dim grid = blocks_for(w.walk.numel, kThreads * vt::kIndexRunItems);
    return launch(ctx, *runs, grid, {kThreads}, 0, w, static_cast<Values>(values), index,
                  static_cast<Table>(table), more..., sink);
  }
  return dims.for_walks([&](const Walk<3> &walk, const int64_t *offset) {
    const Dim grid = blocks_for(walk.numel, kThreads * (walk.narrow ? vt::kIndexItems : 1));
    return launch(ctx, single, grid, {kThreads}, 0, vt::IndexWalk{walk, rule},
                  static_cast<Values>(values + offset[kValues] * bytes),
                  index + offset[kIndex] * (rule.wide ? 8 : 4),
                  static_cast<Table>(table + offset[kTable] * bytes), more..., sink);
  });
}

vt_status IndexPlan::fetch(vt_context *ctx) {
  if (dims.numel() == 0) return VT_OK;
  dims.sort(kValues);
  dims.coalesce();
  const int64_t bytes = widen();
  const int slot = size_slot(bytes);
  return run<char *, const char *>(ctx, bytes, slot < 3 ? &fetch_runs[slot] : nullptr,
                                   fetch_kernels[slot]);
}

vt_status IndexPlan::store(vt_context *ctx) {
  if (dims.numel() == 0) return VT_OK;
  if (vt_cuda_deterministic) {
    bool done = false;
    const vt_status status = in_order(ctx, {1, 0, 1, 1, 0}, true, &done);
    if (done || status != VT_OK) return status;
    if (const vt_status refused = no_order(ctx)) return refused;
  }
  dims.sort(kValues);
  dims.coalesce();
  const int64_t bytes = widen();
  const int slot = size_slot(bytes);
  return run<const char *, char *>(ctx, bytes, slot < 3 ? &store_runs[slot] : nullptr,
                                   store_kernels[slot]);
}

vt_status IndexPlan::add(vt_context *ctx, const IndexScale &scale, bool rounded_once) {
  if (dims.numel() == 0) return VT_OK;
  // Integers wrap, so that their sums have no order.
  const bool ordered = vt_cuda_deterministic && in_set(kFloatingSet | kComplexSet, dtype);
  if (rounded_once || ordered) {
    bool done = false;
    const vt_status status = in_order(ctx, scale, false, &done);
    if (done || status != VT_OK) return status;
    if (ordered) {
      if (const vt_status refused = no_order(ctx)) return refused;
    }
  }
  dims.sort(kValues);
  dims.coalesce();
  const bool has_runs = dtype == VT_F16 || dtype == VT_BF16 || dtype == VT_F32;
  return run<const char *, char *>(ctx, element_size(dtype), has_runs ? &add_runs[dtype] : nullptr,
                                   add_kernels[dtype], scale);
}

// Positions are sorted by the place they name, which is one number: that of the row, and of the
// position in dimensions that index and table share.
vt_status IndexPlan::in_order(vt_context *ctx, const IndexScale &scale, bool last, bool *done) {
  Dims<3> positions;
  Dims<2> rest, keys;  // values, table; index, key
  const bool combined = rule.kind == vt::kIndexOffset;
  uint64_t places = static_cast<uint64_t>(combined ? numbers_below : rule.size);
  for (int d = 0; d < dims.ndim; d++) {
    const int64_t n = dims.sizes[d];
    const int64_t *strides[3] = {&dims.strides[kValues][d], &dims.strides[kIndex][d],
                                 &dims.strides[kTable][d]};
    if (is_rest(dims, d)) {
      rest.push(n, *strides[kValues], *strides[kTable]);
      continue;
    }
    positions.push(n, *strides[kValues], *strides[kIndex], *strides[kTable]);
    const bool shared = *strides[kTable] != 0;
    keys.push(n, *strides[kIndex], shared ? static_cast<int64_t>(places) : 0);
    if (shared) places *= static_cast<uint64_t>(n);
  }
  positions.coalesce();
  keys.coalesce();
  rest.sort(0);
  rest.coalesce();
  const int64_t count = positions.numel();
  if (positions.ndim > kWalkDims || rest.ndim > kWalkDims || keys.ndim > kWalkDims ||
      count > UINT32_MAX || (combined && numbers == nullptr)) {
    return VT_OK;
  }
  *done = true;
  Scratch room(ctx, static_cast<size_t>(count) * 24);
  if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
  uint64_t *const unsorted = room.as<uint64_t>(), *const sorted = unsorted + count;
  uint32_t *const identity = reinterpret_cast<uint32_t *>(sorted + count);
  uint32_t *const order = identity + count;
  IndexRule key_rule = rule;
  if (!combined) key_rule.step = 1;
  vt_status status =
      launch(ctx, keys_kernel, blocks_for(count, kThreads), {kThreads}, 0, keys.walk(), key_rule,
             combined ? numbers : index, unsorted, identity, places, sink);
  if (status != VT_OK) return status;
  status =
      sort_pairs(ctx, static_cast<const uint64_t *>(unsorted), sorted,
                 static_cast<const uint32_t *>(identity), order, count, 0, bits_below(places + 1));
  if (status != VT_OK) return status;
  vt::SegmentWalk w = {};
  w.positions = positions.walk();
  w.rest = rest.walk();
  w.rule = rule;
  w.count = count;
  w.none = places;
  w.last = last;
  unsigned lanes = 1;
  while (lanes < 32 && lanes < w.rest.numel) lanes *= 2;
  const unsigned rows = kThreads / lanes;
  return launch(ctx, add_sorted_kernels[dtype], blocks_for(count, rows), {lanes, rows}, 0, w,
                static_cast<const char *>(values), index, table,
                static_cast<const uint64_t *>(sorted), static_cast<const uint32_t *>(order), scale,
                sink);
}

}  // namespace vt_cuda
