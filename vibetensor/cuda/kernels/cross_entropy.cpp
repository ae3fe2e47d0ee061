// Cross entropy of logits with class indices, and its gradient.
#include "vibetensor/cuda/kernels/contiguous.h"
#include "vibetensor/cuda/kernels/shapes.h"
#include "vt/cross_entropy_args.h"

namespace vt_cuda {

namespace {

using vt::ClassWeightsArgs;
using vt::CrossEntropyArgs;
using vt::CrossEntropyBackwardArgs;
using vt::CrossEntropyFinishArgs;
using vt::CrossEntropyOptions;
using vt::CrossEntropyRowsArgs;

KernelSet forward_kernels("cross_entropy", "vt_cross_entropy");
KernelSet finish_kernels("cross_entropy", "vt_cross_entropy_finish");
KernelSet backward_kernels("cross_entropy", "vt_cross_entropy_backward");
KernelSet gradient_kernels("cross_entropy", "vt_cross_entropy_gradient");
KernelSet weight_kernels("cross_entropy", "vt_class_weights");

enum Reduction { kReductionNone = 0, kReductionMean = 1, kReductionSum = 2 };

// The dimension of the classes in (N, C, ...) or (C).
int class_dim(const vt_array &input) { return input.ndim > 1 ? 1 : 0; }

// An array over samples (N, ...), with or without a dimension of classes after the first one, as
// (outer, classes, inner): in place where its last dimensions can be merged, else a row-major copy.
class Samples {
 public:
  int64_t outer = 1, inner = 1;
  int64_t outer_stride = 0, class_stride = 1, inner_stride = 0;

  Samples(vt_context *ctx, const vt_array &a, bool has_classes, Contiguous::Use use)
      : copy_(ctx, a,
              use == Contiguous::kNothing || find(a, has_classes) ? Contiguous::kNothing : use) {}

  vt_status status() const { return copy_.status(); }
  char *data() const { return copy_.data(); }
  vt_status finish() { return copy_.finish(); }
  vt::SampleValues values() const { return {data(), outer_stride, inner_stride}; }

 private:
  bool find(const vt_array &a, bool has_classes) {
    const bool batch = a.ndim > (has_classes ? 1 : 0);
    const int classes = batch ? 1 : 0, rest = classes + (has_classes ? 1 : 0);
    Dims<1> dims;
    for (int d = a.ndim - 1; d >= rest; d--) {
      inner *= a.sizes[d];
      dims.push(a.sizes[d], a.strides[d]);
    }
    dims.coalesce();
    if (batch) outer = a.sizes[0];
    if (dims.ndim <= 1) {
      if (batch) outer_stride = a.strides[0];
      if (has_classes) class_stride = a.strides[classes];
      if (dims.ndim == 1) inner_stride = dims.strides[0][0];
      return true;
    }
    class_stride = inner;
    inner_stride = 1;
    outer_stride = inner * (has_classes ? a.sizes[classes] : 1);
    return false;
  }

  Contiguous copy_;
};

struct Groups {
  unsigned x, y;
  // Whole groups of neighbouring classes; or, where neighbouring samples lie side by side, as few
  // threads per sample as fill the device.
  Groups(int64_t samples, int64_t classes, bool beside, const vt_context *ctx) {
    const int64_t threads = int64_t(properties(ctx).sm_count) * 1024;
    const int64_t most = beside ? clamp(threads / samples, 1, 32) : vt::kCrossEntropyThreads;
    x = static_cast<unsigned>(clamp(power_of_two_from(div_up(classes, 16)), 1, most));
    while (x & (x - 1)) x &= x - 1;
    y = x < 256 ? 256 / x : 1;
  }
};

// Class weights in the compute type and their sum, in scratch memory.
class ClassWeights {
 public:
  ClassWeights(vt_context *ctx, const vt_array &weight, int64_t classes, int dtype)
      : given_(weight.data != nullptr),
        source_(ctx, weight, given_ ? Contiguous::kRead : Contiguous::kNothing),
        room_(ctx, given_ ? static_cast<size_t>(classes + 1) * 8 : 0) {
    if (!given_) return;
    status_ = !room_.ok() ? VT_ERROR_OUT_OF_MEMORY : source_.status();
    if (status_ != VT_OK) return;
    ClassWeightsArgs args = {};
    args.weight = {source_.data(), weight.dtype};
    args.out = room_.as<char>();
    args.classes = classes;
    status_ = launch(ctx, weight_kernels[dtype == VT_F64 ? VT_F64 : VT_F32], {1},
                     {vt::kCrossEntropyFinish}, 0, args);
  }
  vt_status status() const { return status_; }
  const void *data() const { return given_ ? room_.as<char>() : nullptr; }

 private:
  bool given_;
  vt_status status_ = VT_OK;
  Contiguous source_;
  Scratch room_;
};

// The groups that replace rows of logits by their gradient, and how many packs of a row stay in shared
// memory. Where two rows have room on an SM one is read while the other is written; a longer one gets all.
struct RowGroups {
  unsigned x, y;
  int64_t kept;
  RowGroups(int64_t classes, int bytes, const vt_context *ctx) {
    constexpr int64_t kReserved = 2048;  // of each block: static variables, and the driver's share
    const Properties &device = properties(ctx);
    const int64_t packs = classes * bytes / 16;
    const int64_t shared = device.max_shared_per_sm / 2 - kReserved;
    const bool beside = packs * 16 <= shared;
    const int64_t room = beside ? shared : device.max_shared_per_block_optin - kReserved;
    const int64_t wanted = power_of_two_from(div_up(classes, 16));
    const int64_t most = beside ? vt::kCrossEntropyThreads : vt::cross_entropy_long(bytes);
    x = static_cast<unsigned>(clamp(wanted, 1, most));
    y = x < 256 ? 256 / x : 1;
    kept = packs * 16 <= room ? packs : room / 16;  // rows of several groups are short
  }
};

CrossEntropyOptions options(const void *weights, const vt_array &input, const vt_value *v,
                            vt_context *ctx) {
  CrossEntropyOptions o = {};
  o.weight = weights;
  o.ignore = v[1].i;
  o.smoothing = v[2].re;
  o.sink = {index_error_slot(ctx), ctx->op, class_dim(input)};
  return o;
}

template <int N>
void set_line(vt::Lines<N> *lines, int k, const Samples &s) {
  lines->outer_stride[k] = s.outer_stride;
  lines->inner_stride[k] = s.inner_stride;
  lines->stride[k] = s.class_stride;
}

// Whether losses of such an input, or their gradients, may have the dtype of `a`: the input's, or
// float32 for half types.
bool holds_loss_of(const vt_array &a, const vt_array &input) {
  return a.dtype == input.dtype ||
         (a.dtype == VT_F32 && (input.dtype == VT_F16 || input.dtype == VT_BF16));
}

bool is_weight(const vt_array &a) { return !a.data || in_set(kFloatingSet, a.dtype); }

// The second half of a contiguous array.
char *half_of(const vt_array &a) {
  return static_cast<char *>(a.data) + a.numel / 2 * element_size(a.dtype);
}

vt_status finish(vt_context *ctx, int dtype, const CrossEntropyFinishArgs &args) {
  return launch(ctx, finish_kernels[dtype], {1}, {vt::kCrossEntropyFinish}, 0, args);
}

}  // namespace

}  // namespace vt_cuda

using namespace vt_cuda;

extern "C" {

// arrays: input, target (int64), weight?, then out, statistics, total_weight. values: reduction,
// ignore_index, label_smoothing. `statistics` (the largest logit of each sample, then the sum of
// exp(logit - largest) of each) and `total_weight` (one) have the compute type; `out` is contiguous, of the
// input's dtype or of the compute type.
vt_status cross_entropy_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &input = a[0], &out = a[3];
  const int dtype = input.dtype;
  if (a[1].dtype != VT_I64 || !in_set(kFloatingSet, dtype) || !is_weight(a[2]) ||
      !holds_loss_of(out, input)) {
    return VT_ERROR_DTYPE;
  }
  const int64_t reduction = v[0].i, classes = input.sizes[class_dim(input)];
  CrossEntropyFinishArgs f = {};
  f.total = a[5].data;
  f.out = reduction == kReductionNone ? nullptr : out.data;
  f.mean = reduction == kReductionMean;
  const int64_t count = a[1].numel;
  if (count == 0) return finish(ctx, out.dtype, f);

  Samples x(ctx, input, true, Contiguous::kRead), target(ctx, a[1], false, Contiguous::kRead);
  const ClassWeights weights(ctx, a[2], classes, dtype);
  for (vt_status s : {x.status(), target.status(), weights.status()}) {
    if (s != VT_OK) return s;
  }
  const Groups g(count, classes, x.class_stride != 1, ctx);
  const int64_t blocks = div_up(count, g.y);
  const Scratch partial(ctx, static_cast<size_t>(blocks) * 16);
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  CrossEntropyArgs args = {};
  args.x = x.data();
  args.target = target.values();
  args.losses = reduction == kReductionNone ? out.data : nullptr;
  args.wide = out.dtype != dtype;
  args.largest = a[4].data;
  args.sum = half_of(a[4]);
  args.partial = partial.as<char>();
  args.lines.count = count;
  args.lines.n = classes;
  args.lines.inner = x.inner;
  set_line(&args.lines, 0, x);
  args.options = options(weights.data(), input, v, ctx);
  const vt_status status =
      launch(ctx, forward_kernels[dtype], blocks_for(count, g.y), {g.x, g.y}, 0, args);
  if (status != VT_OK) return status;
  f.partial = partial.as<char>();
  f.blocks = blocks;
  return finish(ctx, out.dtype, f);
}

// arrays: grad, input, target, weight?, statistics, total_weight, then grad_input. values: as the
// forward's.
vt_status cross_entropy_backward_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &grad = a[0], &input = a[1], &out = a[6];
  const int dtype = input.dtype;
  if (a[2].dtype != VT_I64 || !holds_loss_of(grad, input) || !in_set(kFloatingSet, dtype) ||
      !is_weight(a[3])) {
    return VT_ERROR_DTYPE;
  }
  if (out.numel == 0) return VT_OK;
  const int64_t reduction = v[0].i, classes = input.sizes[class_dim(input)];
  const bool per_sample = reduction == kReductionNone;
  Samples x(ctx, input, true, Contiguous::kRead), dx(ctx, out, true, Contiguous::kWrite);
  Samples target(ctx, a[2], false, Contiguous::kRead);
  Samples g(ctx, grad, false, per_sample ? Contiguous::kRead : Contiguous::kNothing);
  const ClassWeights weights(ctx, a[3], classes, dtype);
  for (vt_status s : {x.status(), dx.status(), target.status(), g.status(), weights.status()}) {
    if (s != VT_OK) return s;
  }
  CrossEntropyBackwardArgs args = {};
  args.grad = g.values();
  args.wide = grad.dtype != dtype;
  args.x = x.data();
  args.target = target.values();
  args.largest = a[4].data;
  args.sum = half_of(a[4]);
  args.total = reduction == kReductionMean ? a[5].data : nullptr;
  args.dx = dx.data();
  args.lines.count = x.outer * x.inner;
  args.lines.n = classes;
  args.lines.inner = x.inner;
  set_line(&args.lines, 0, x);
  set_line(&args.lines, 1, dx);
  args.options = options(weights.data(), input, v, ctx);
  const Groups groups(args.lines.count, classes, x.class_stride != 1, ctx);
  const vt_status status =
      launch(ctx, backward_kernels[dtype], blocks_for(args.lines.count, groups.y),
             {groups.x, groups.y}, 0, args);
  return status == VT_OK ? dx.finish() : status;
}

// arrays: logits (contiguous rows), target, losses (contiguous, float64), total?. values: gradient, ignore_index,
// label_smoothing, scale. The losses of the rows; with `gradient`, that of `scale` times their sum takes the place
// of the logits, divided by `total`, of the compute type, if that is given.
vt_status cross_entropy_gradient_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &logits = a[0], &target = a[1];
  const int dtype = logits.dtype, bytes = element_size(dtype);
  if (target.dtype != VT_I64 || !in_set(kFloatingSet, dtype) || a[2].dtype != VT_F64) {
    return VT_ERROR_DTYPE;
  }
  if (target.numel == 0) return VT_OK;
  CrossEntropyRowsArgs args = {};
  args.x = logits.data;
  args.target = {target.data, target.strides[0], 0};
  args.losses = a[2].data;
  args.total = a[3].data;
  args.rows = logits.sizes[0];
  args.classes = logits.sizes[1];
  args.gradient = v[0].i != 0;
  args.scale = v[3].re;
  args.options = options(nullptr, logits, v, ctx);
  const RowGroups g(args.classes, bytes, ctx);
  args.kept = g.kept;
  return launch(ctx, gradient_kernels[dtype], blocks_for(args.rows, g.y), {g.x, g.y},
                static_cast<unsigned>(g.kept * g.y * 16), args);
}

}  // extern "C"
