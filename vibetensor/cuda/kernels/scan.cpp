// cumsum along one dimension.
#include "vibetensor/cuda/kernels/lines.h"
#include "vt/scan_args.h"

namespace vt_cuda {

namespace {

using vt::kScanItems;
using vt::kScanThreads;
using vt::ScanArgs;

KernelSet cumsum_rows("scan", "vt_cumsum_rows"), cumsum_columns("scan", "vt_cumsum_columns");

// A chunk is worth a second reading only from this many elements on.
constexpr int64_t kRowChunk = 4096, kColumnChunk = 64, kMaxChunks = 512;

vt_status run_scan(ScanArgs &args, int slot, int state, vt_context *ctx) {
  const int64_t count = args.lines.count, n = args.lines.n;
  const bool rows = along_lines(args.lines);
  int64_t x, y = 1;
  if (rows) {
    x = clamp(power_of_two_from(div_up(n, kScanItems)), 32, kScanThreads);
    y = kScanThreads / x;
  } else {
    x = clamp(power_of_two_from(count), 32, kScanThreads);
  }
  Kernel &kernel = rows ? cumsum_rows[slot] : cumsum_columns[slot];
  const int64_t blocks = div_up(count, rows ? y : x);
  const int64_t wanted = div_up(int64_t(8) * properties(ctx).sm_count, blocks);
  const int64_t chunks =
      clamp(wanted, 1, clamp(n / (rows ? kRowChunk : kColumnChunk), 1, kMaxChunks));
  const int64_t tile = rows ? x * kScanItems : 1;
  args.chunk = (div_up(n, chunks) + tile - 1) / tile * tile;
  const Dim block = {static_cast<unsigned>(x), static_cast<unsigned>(y)};
  const Dim grid = {static_cast<unsigned>(blocks), static_cast<unsigned>(div_up(n, args.chunk))};
  if (grid.y == 1) return launch(ctx, kernel, grid, block, 0, args);
  const Scratch partial(ctx, static_cast<size_t>(grid.y * count * state));
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  args.partial = partial.as<char>();
  args.totals = 1;
  const vt_status status = launch(ctx, kernel, grid, block, 0, args);
  if (status != VT_OK) return status;
  args.totals = 0;
  return launch(ctx, kernel, grid, block, 0, args);
}

}  // namespace

}  // namespace vt_cuda

using namespace vt_cuda;

// values: dim. Integers and bool give int64, other types themselves.
extern "C" vt_status cumsum_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const int dtype = a[0].dtype, slot = dtype == VT_BOOL ? int(VT_U8) : dtype;
  const bool integral = !in_set(kFloatingSet | kComplexSet, dtype);
  if (a[1].dtype != (integral ? int(VT_I64) : dtype)) return VT_ERROR_DTYPE;
  if (a[0].numel == 0) return VT_OK;
  const int state = in_set(kComplexSet, dtype) ? 16 : 8;
  const vt_array *const arrays[2] = {&a[0], &a[1]};
  return with_lines(ctx, arrays, static_cast<int>(v[0].i),
                    [&](const vt::Lines<2> &lines, char *const *data) {
                      ScanArgs args = {};
                      args.lines = lines;
                      args.in = data[0];
                      args.out = data[1];
                      return run_scan(args, slot, state, ctx);
                    });
}
