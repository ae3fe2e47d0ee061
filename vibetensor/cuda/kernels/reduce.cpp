#include "vibetensor/cuda/kernels/reduce.h"
#include "vibetensor/cuda/kernels/shapes.h"

namespace vt_cuda {

namespace {

using vt::kReduceThreads;
using vt::ReduceArgs;

constexpr int64_t kMaxSplits = 1024;
constexpr int64_t kUnitsPerThread = 16;  // below this a split costs more than it gives

// The shape of a launch: how a block is arranged, and in how many splits the reduced units are cut.
struct Shape {
  int64_t x, y, blocks, splits;
};

// Groups of x threads each fold an output. More threads per group the fewer outputs there are, until
// the device is full twice over; what is still missing comes from splits.
Shape rows_shape(int64_t outputs, int64_t units, int64_t device_threads) {
  Shape s;
  const int64_t wanted_threads = 2 * device_threads;
  s.x = clamp(power_of_two_from(div_up(units, 2)), 1, 32);
  while (s.x < 512 && units / s.x > 8 && outputs * s.x < wanted_threads) s.x *= 2;
  s.y = s.x < kReduceThreads ? kReduceThreads / s.x : 1;
  // A block of few outputs need not be full, but is whole warps.
  while (s.y > 1 && s.x * s.y > 32 && s.y / 2 >= outputs) s.y /= 2;
  s.blocks = div_up(outputs, s.y);
  const int64_t missing = div_up(wanted_threads, outputs * s.x);
  s.splits = clamp(missing, 1, clamp(units / (s.x * kUnitsPerThread), 1, kMaxSplits));
  return s;
}

// Blocks of x by y threads, each with `width` columns. Of the threads of a device that read packs half
// are enough, all of them at once: more blocks only begin and end, and leave more to the second launch.
Shape columns_shape(int64_t outputs, int64_t inner, int64_t units, int64_t width,
                    int64_t device_threads) {
  Shape s;
  const int64_t wanted_threads = width > 1 ? device_threads / 2 : 2 * device_threads;
  const int64_t across = power_of_two_from(div_up(inner, width));
  s.x = clamp(across, 1, 32);
  s.y = kReduceThreads / s.x;
  // Short columns: threads side by side rather than below each other.
  while (s.y > 1 && s.y * 2 > units) s.y /= 2;
  while (s.x * s.y < kReduceThreads && s.x < across) s.x *= 2;
  while (s.x * s.y < 32) s.y *= 2;
  s.blocks = div_up(inner, s.x * width) * (outputs / inner);
  const int64_t missing = wanted_threads / (s.blocks * s.x * s.y);
  s.splits = clamp(missing, 1, clamp(units / (s.y * kUnitsPerThread), 1, kMaxSplits));
  return s;
}

bool multiples(const Dims<1> &d, int from, int64_t k) {
  for (int i = from; i < d.ndim; i++) {
    if (d.strides[0][i] % k) return false;
  }
  return true;
}
bool multiples(const Dims<2> &d, int from, int64_t k) {
  for (int i = from; i < d.ndim; i++) {
    if (d.strides[0][i] % k) return false;
  }
  return true;
}

// One launch (two with splits) over the part of the kept dimensions in `walk`.
vt_status launch_reduction(const ReduceRule &rule, const Shape &s, bool by_rows, ReduceArgs &args,
                           vt_context *ctx) {
  ReduceKernels &k = *rule.kernels;
  const Dim block = {static_cast<unsigned>(s.x), static_cast<unsigned>(s.y)};
  const Dim grid = {static_cast<unsigned>(s.blocks), static_cast<unsigned>(s.splits)};
  Kernel &fold = by_rows ? k.rows[rule.slot] : k.columns[rule.slot];
  args.splits = static_cast<int32_t>(s.splits);
  if (s.splits == 1) {
    args.partial = nullptr;
    return launch(ctx, fold, grid, block, 0, args);
  }
  const Scratch partial(ctx, static_cast<size_t>(args.outputs * s.splits * rule.state));
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  args.partial = partial.as<char>();
  const vt_status status = launch(ctx, fold, grid, block, 0, args);
  if (status != VT_OK) return status;
  const int64_t x = clamp(power_of_two_from(args.outputs), 1, 32);
  const Dim tile = {static_cast<unsigned>(x), static_cast<unsigned>(kReduceThreads / x)};
  return launch(ctx, k.finish[rule.slot], blocks_for(args.outputs, x), tile, 0, args);
}

}  // namespace

vt_status run_reduction(const ReduceRule &rule, const vt_array &in, const vt_array &out,
                        vt_context *ctx) {
  if (out.numel == 0) return VT_OK;
  Dims<2> kept;
  Dims<1> reduced;
  for (int d = in.ndim - 1; d >= 0; d--) {
    const bool folds = rule.dim == kReduceByShape ? out.sizes[d] == 1
                       : rule.dim == kReduceAll   ? true
                                                  : d == rule.dim;
    if (folds) {
      reduced.push(in.sizes[d], in.strides[d]);
    } else {
      kept.push(in.sizes[d], in.strides[d], out.strides[d]);
    }
  }
  kept.sort();
  kept.coalesce();
  // An index counts in row-major order.
  if (rule.dim == kReduceByShape) reduced.sort();
  reduced.coalesce();
  if (reduced.ndim > kWalkDims) {
    ctx->message = "a reduction over more than 12 dimensions that lie apart in memory";
    return VT_ERROR_VALUE;
  }

  ReduceArgs args = {};
  args.elements = in.numel / out.numel;
  args.count = args.elements;
  args.out_dtype = out.dtype;
  args.flag = rule.flag;
  args.mask = rule.mask;
  args.correction = rule.correction;
  if (args.count > 0) args.reduced = reduced.walk();

  const int64_t near = reduced.ndim > 0 ? llabs(reduced.strides[0][0]) : 0;
  const int64_t beside = kept.ndim > 0 ? llabs(kept.strides[0][0]) : 0;
  const bool by_rows = kept.ndim == 0 || (reduced.ndim > 0 && near < beside);
  const int64_t pack = rule.item < 16 ? 16 / rule.item : 1;
  const int64_t columns = vt::columns_per_thread(rule.item, rule.state);
  const bool aligned = is_aligned(in.data);

  if (by_rows && reduced.ndim > 0 && reduced.strides[0][0] == 1 && args.count >= 4 * pack) {
    if (reduced.ndim == 1) {
      args.load = vt::kLoadRun;
    } else if (aligned && reduced.sizes[0] % pack == 0 && multiples(reduced, 1, pack) &&
               multiples(kept, 0, pack)) {
      // The innermost dimension counts in packs from here on.
      args.load = vt::kLoadPacks;
      reduced.sizes[0] /= pack;
      reduced.strides[0][0] = pack;
      args.reduced = reduced.walk();
      args.count /= pack;
    }
  } else if (!by_rows && columns > 1 && kept.strides[0][0] == 1 && kept.sizes[0] % columns == 0 &&
             reinterpret_cast<uintptr_t>(in.data) % (columns * rule.item) == 0 &&
             multiples(kept, 1, columns) && multiples(reduced, 0, columns)) {
    args.load = vt::kLoadPacks;
  }

  const Properties &device = properties(ctx);
  const int64_t threads = int64_t(device.sm_count) * device.max_threads_per_sm;
  return kept.for_walks([&](const Walk<2> &walk, const int64_t *offsets) {
    args.kept = walk;
    args.outputs = walk.numel;
    args.in = in.data + offsets[0] * rule.item;
    args.out = out.data + offsets[1] * element_size(out.dtype);
    args.inner = walk.ndim > 0 ? walk.sizes[0] : 1;
    const int64_t width = args.load == vt::kLoadPacks ? columns : 1;
    // A run is counted in elements, but read in packs.
    const int64_t units = args.load == vt::kLoadRun ? args.count / pack : args.count;
    const Shape shape = by_rows ? rows_shape(args.outputs, units, threads)
                                : columns_shape(args.outputs, args.inner, units, width, threads);
    // Splits begin at a multiple of the pack, so that what is aligned stays so.
    args.split_length = (div_up(args.count, shape.splits) + pack - 1) / pack * pack;
    Shape used = shape;
    used.splits = args.count > 0 ? div_up(args.count, args.split_length) : 1;
    return launch_reduction(rule, used, by_rows, args, ctx);
  });
}

}  // namespace vt_cuda
