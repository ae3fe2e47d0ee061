// softmax, log_softmax and their gradients: which kernel of softmax.cu takes the lines.
#include "vibetensor/cuda/kernels/lines.h"
#include "vt/softmax_args.h"

namespace vt_cuda {

namespace {

using vt::SoftmaxArgs;

KernelSet forward_small("softmax", "vt_softmax_small"), forward_rows("softmax", "vt_softmax_rows");
KernelSet forward_long("softmax", "vt_softmax_long");
KernelSet forward_columns("softmax", "vt_softmax_columns");
KernelSet backward_small("softmax", "vt_softmax_backward_small");
KernelSet backward_rows("softmax", "vt_softmax_backward_rows");
KernelSet backward_long("softmax", "vt_softmax_backward_long");
KernelSet backward_columns("softmax", "vt_softmax_backward_columns");

constexpr int kSmall = vt::SoftmaxSlice<4>::kSmall;

vt_status run_lines(SoftmaxArgs &args, int dtype, bool backward, vt_context *ctx) {
  const vt::Lines<3> &lines = args.lines;
  const int64_t n = lines.n, count = lines.count;
  if (!along_lines(lines)) {
    // As many threads per line as make the block full.
    const int64_t x = count < 32 ? power_of_two_from(count) : 32;
    int64_t y = vt::kSoftmaxColumns / x;
    while (y > 1 && x * y > 32 && y * 2 > n) y /= 2;
    return launch(ctx, backward ? backward_columns[dtype] : forward_columns[dtype],
                  blocks_for(count, x), {static_cast<unsigned>(x), static_cast<unsigned>(y)}, 0,
                  args);
  }
  const int wide =
      dtype == VT_F64 ? (backward ? vt::SoftmaxSlice<8>::kBackward : vt::SoftmaxSlice<8>::kForward)
                      : (backward ? vt::SoftmaxSlice<4>::kBackward : vt::SoftmaxSlice<4>::kForward);
  if (n > int64_t(1024) * wide) {
    return launch(ctx, backward ? backward_long[dtype] : forward_long[dtype],
                  {static_cast<unsigned>(count)}, {vt::kSoftmaxLong}, 0, args);
  }
  const int64_t pack = 16 / element_size(dtype);
  args.packed = in_packs(lines, 0, args.in[0], pack) && in_packs(lines, 2, args.out, pack) &&
                (!backward || in_packs(lines, 1, args.in[1], pack));
  // A warp at most per line as long as few registers are enough.
  const bool small = n <= 32 * kSmall;
  const int64_t x = power_of_two_from(div_up(n, small ? kSmall : wide));
  const int64_t y = x < vt::kSoftmaxThreads ? vt::kSoftmaxThreads / x : 1;
  Kernel &kernel = small ? (backward ? backward_small[dtype] : forward_small[dtype])
                         : (backward ? backward_rows[dtype] : forward_rows[dtype]);
  // Many threads per line: one line per block, so that blocks wait for their own line only.
  const int64_t rows = x >= 64 ? 1 : y;
  return launch(ctx, kernel, blocks_for(count, rows),
                {static_cast<unsigned>(x), static_cast<unsigned>(rows)}, 0, args);
}

vt_status run(const vt_array *a, int inputs, int64_t dim, bool log, vt_context *ctx) {
  const int dtype = a[0].dtype;
  if (!in_set(kFloatingSet, dtype)) return VT_ERROR_DTYPE;
  for (int k = 1; k <= inputs; k++) {
    if (a[k].dtype != dtype) return VT_ERROR_DTYPE;
  }
  if (a[inputs].numel == 0) return VT_OK;
  // Of the forward the second operand is the first once more.
  const vt_array *const arrays[3] = {&a[0], &a[inputs - 1], &a[inputs]};
  return with_lines(ctx, arrays, static_cast<int>(dim),
                    [&](const vt::Lines<3> &lines, char *const *data) {
                      SoftmaxArgs args = {};
                      args.lines = lines;
                      args.in[0] = data[0];
                      args.in[1] = data[1];
                      args.out = data[2];
                      args.log = log;
                      return run_lines(args, dtype, inputs == 2, ctx);
                    });
}

}  // namespace

}  // namespace vt_cuda

using namespace vt_cuda;

extern "C" {

// values: dim, for all four.
vt_status softmax_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return run(a, 1, v[0].i, false, ctx);
}

vt_status log_softmax_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return run(a, 1, v[0].i, true, ctx);
}

// arrays: grad, output, then grad_input.
vt_status softmax_backward_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return run(a, 2, v[0].i, false, ctx);
}

vt_status log_softmax_backward_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return run(a, 2, v[0].i, true, ctx);
}

}  // extern "C"
