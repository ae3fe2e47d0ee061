// Layer norm, rms norm and their gradients, of an array or of the sum of two.
#include "vibetensor/cuda/kernels/norm_rows.h"
#include "vibetensor/cuda/kernels/random.h"
#include "vt/norm_args.h"

namespace vt_cuda {

namespace {

using vt::AddNormArgs;
using vt::AddNormBackwardArgs;
using vt::NormArgs;
using vt::NormBackwardArgs;
using vt::NormFinishArgs;

KernelSet norm_rows("norm", "vt_norm_rows"), norm_wide("norm", "vt_norm_wide");
KernelSet norm_long("norm", "vt_norm_long");
KernelSet backward_rows("norm_backward", "vt_norm_backward_rows");
KernelSet backward_long("norm_backward", "vt_norm_backward_long");
KernelSet backward_columns("norm_backward", "vt_norm_backward_columns");
KernelSet norm_finish("norm_backward", "vt_norm_finish");

// Kernels of a sum: one per dtype, and those of a half type that is added to float32, with a norm of
// float32 or of the half type.
struct AddKernels {
  KernelSet same;
  Kernel f16, bf16, f16_low, bf16_low;
  constexpr AddKernels(const char *family, const char *name)
      : same(family, name),
        f16(family, name, "f16_f32"),
        bf16(family, name, "bf16_f32"),
        f16_low(family, name, "f16_low"),
        bf16_low(family, name, "bf16_low") {}
  Kernel &of(int x, int sum, int norm) {
    if (x == sum && norm == sum) return same[sum];
    const int half = x == sum ? norm : x;
    return norm == sum ? (half == VT_F16 ? f16 : bf16) : (half == VT_F16 ? f16_low : bf16_low);
  }
};
AddKernels add_norm_rows("add_norm", "vt_add_norm_rows");
AddKernels add_norm_wide("add_norm", "vt_add_norm_wide");
AddKernels add_norm_long("add_norm", "vt_add_norm_long");
AddKernels add_backward_rows("norm_backward", "vt_add_norm_backward_rows");
AddKernels add_backward_long("norm_backward", "vt_add_norm_backward_long");
AddKernels add_backward_columns("norm_backward", "vt_norm_backward_columns");

// Whether dtype x can be added to one of `sum`.
bool adds_to(int x, int sum) {
  return x == sum || (sum == VT_F32 && (x == VT_F16 || x == VT_BF16));
}
// Whether the norm of the sum can be of this dtype.
bool norms_to(int x, int sum, int norm) { return norm == sum || norm == x; }

bool given(const vt_array &a) { return a.data != nullptr; }
bool is_parameter(const vt_array &a) { return !given(a) || in_set(kFloatingSet, a.dtype); }
Contiguous::Use if_given(const vt_array &a, Contiguous::Use use) {
  return given(a) ? use : Contiguous::kNothing;
}
vt::Parameter parameter(const vt_array &a, const Contiguous &c) {
  return {given(a) ? c.data() : nullptr, a.dtype};
}

// How groups of threads take rows that are kept in registers, `slice` elements in each thread: as many
// blocks as the registers of the device last for, of at least `block` threads.
struct Groups {
  unsigned x, y, blocks;
  Groups(int64_t rows, int64_t n, int slice, int registers, int block, const vt_context *ctx) {
    const Properties &device = properties(ctx);
    x = static_cast<unsigned>(power_of_two_from(div_up(n, slice)));
    y = x < unsigned(block) ? block / x : 1;
    const int64_t resident = device.regs_per_sm / (registers * int(x * y));
    const int64_t most = device.sm_count * (resident > 0 ? resident : 1);
    const int64_t wanted = div_up(rows, y);
    blocks = static_cast<unsigned>(wanted < most ? wanted : most);
  }
};

// How groups of threads stream rows: whole warps for each.
struct Streams {
  unsigned x, y;
  explicit Streams(int64_t n) {
    const int64_t wanted = power_of_two_from(div_up(n, 8));
    x = static_cast<unsigned>(wanted < 32 ? 32 : wanted > vt::kNormLong ? vt::kNormLong : wanted);
    y = x < 256 ? 256 / x : 1;
  }
};

bool fits_registers(int64_t rows, int64_t n, int slice, int threads = vt::kNormThreads) {
  return n <= int64_t(threads) * slice && rows < (int64_t(1) << 30);
}

struct InRegisters {
  Kernel &kernel;
  const vt::NormShape &shape;
};

// Rows in registers, by the kernel that has room for them; *done is false where none has. `pack` is
// the number of elements in 16 bytes.
template <class Args>
vt_status forward_in_registers(const Args &args, int64_t rows, int64_t n, int pack,
                               const InRegisters &narrow, const InRegisters &wide, vt_context *ctx,
                               bool *done) {
  const auto fits = [&](const vt::NormShape &s) {
    return fits_registers(rows, n, s.packs * pack, s.threads);
  };
  const auto &[kernel, shape] = fits(narrow.shape) ? narrow : wide;
  *done = fits(shape);
  if (!*done) return VT_OK;
  Groups g(rows, n, shape.packs * pack, shape.registers, 128, ctx);
  // Small blocks come and go faster than they take turns.
  if (g.x * g.y <= 128) g.blocks = static_cast<unsigned>(div_up(rows, g.y));
  return launch(ctx, kernel, {g.blocks}, {g.x, g.y}, 0, args);
}

// What is normalised, where it is a sum.
struct Added {
  const vt_array &x, &sum;
  vt::Dropout dropout;
};

// With `added` the norm is that of added->sum = input + dropout(added->x), which is stored.
vt_status forward(const vt_array &input, const vt_array &weight, const vt_array &bias,
                  const vt_array &out, const vt_array &mean, const vt_array &rstd, int64_t n,
                  double eps, bool rms, const Added *added, vt_context *ctx) {
  const int dtype = input.dtype, x_dtype = added ? added->x.dtype : dtype;
  if (!in_set(kFloatingSet, dtype) || !is_parameter(weight) || !is_parameter(bias) ||
      (!added && out.dtype != dtype) ||
      (added && !(adds_to(x_dtype, dtype) && norms_to(x_dtype, dtype, out.dtype)))) {
    return VT_ERROR_DTYPE;
  }
  if (input.numel == 0) return VT_OK;
  NormRows in(ctx, input, n, Contiguous::kRead), y(ctx, out, n, Contiguous::kWrite);
  NormRows x(ctx, added ? added->x : input, n, added ? Contiguous::kRead : Contiguous::kNothing);
  NormRows sum(ctx, added ? added->sum : out, n, added ? Contiguous::kWrite : Contiguous::kNothing);
  Contiguous w(ctx, weight, if_given(weight, Contiguous::kRead));
  Contiguous b(ctx, bias, if_given(bias, Contiguous::kRead));
  for (vt_status s : {in.status(), y.status(), x.status(), sum.status(), w.status(), b.status()}) {
    if (s != VT_OK) return s;
  }
  AddNormArgs add = {};
  NormArgs &args = add.norm;
  args.x = in.data();
  args.out = y.data();
  args.x_stride = in.stride();
  args.out_stride = y.stride();
  args.weight = parameter(weight, w);
  if (!rms) args.bias = parameter(bias, b);
  if (!rms && given(mean)) args.mean = mean.data;
  if (given(rstd)) args.rstd = rstd.data;
  args.rows = input.numel / n;
  args.n = n;
  args.eps = eps;
  args.rms = rms;
  const int pack = 16 / element_size(dtype);
  const auto in_words = [&](const vt::Parameter &p) {
    return !p.data || (p.dtype == dtype && is_aligned(p.data));
  };
  const bool packed = n % pack == 0 && in.in_packs(pack) && y.in_packs(pack) &&
                      (!added || (x.in_packs(pack) && sum.in_packs(pack))) &&
                      in_words(args.weight) && in_words(args.bias);
  vt_status status = VT_OK;
  bool done = false;
  if (added) {
    add.x = x.data();
    add.residual = in.data();
    add.sum = sum.data();
    add.x_stride = x.stride();
    add.residual_stride = in.stride();
    add.sum_stride = sum.stride();
    add.dropout = added->dropout;
  }
  if (packed && added) {
    status = forward_in_registers(
        add, args.rows, n, pack, {add_norm_rows.of(x_dtype, dtype, out.dtype), vt::kAddNormRows},
        {add_norm_wide.of(x_dtype, dtype, out.dtype), vt::kAddNormWide}, ctx, &done);
  } else if (packed) {
    status = forward_in_registers(args, args.rows, n, pack, {norm_rows[dtype], vt::kNormRows},
                                  {norm_wide[dtype], vt::kNormWide}, ctx, &done);
  }
  if (!done) {
    const Streams s(n);
    const Dim grid = blocks_for(args.rows, s.y), block = {s.x, s.y};
    status = added ? launch(ctx, add_norm_long.of(x_dtype, dtype, out.dtype), grid, block, 0, add)
                   : launch(ctx, norm_long[dtype], grid, block, 0, args);
  }
  if (status == VT_OK && added) status = sum.finish();
  return status == VT_OK ? y.finish() : status;
}

// The pieces in which the sums over rows are taken, where rows are streamed.
int64_t column_pieces(int64_t rows, int64_t n, const vt_context *ctx) {
  const int64_t blocks = div_up(n, vt::kNormColumns);
  const int64_t wanted = div_up(int64_t(8) * properties(ctx).sm_count, blocks);
  const int64_t most = div_up(rows, 8);
  return wanted < most ? wanted : most;
}

// The other gradients of a sum: that which comes from its other users, and that of what was dropped.
struct Shared {
  const vt_array &extra, &dropped;
  vt::Dropout dropout;
};

vt_status backward(const vt_array &grad, const vt_array &input, const vt_array &weight,
                   const vt_array &mean, const vt_array &rstd, const vt_array &grad_input,
                   const vt_array &grad_weight, const vt_array &grad_bias, int64_t n, bool rms,
                   const Shared *shared, vt_context *ctx) {
  const int dtype = input.dtype;
  const bool has_extra = shared && given(shared->extra);
  const bool has_dropped = shared && given(shared->dropped);
  const int x_dtype = has_dropped ? shared->dropped.dtype : dtype;
  if (!in_set(kFloatingSet, dtype) || !is_parameter(weight) ||
      (grad.dtype != dtype && !(shared && adds_to(grad.dtype, dtype))) ||
      (has_extra && shared->extra.dtype != dtype) || !adds_to(x_dtype, dtype)) {
    return VT_ERROR_DTYPE;
  }
  if (n == 0) return VT_OK;
  const bool want_weight = given(grad_weight), want_bias = !rms && given(grad_bias);
  const bool want_input = given(grad_input), want_sums = want_weight || want_bias;
  const int64_t rows = input.numel / n;
  NormRows g(ctx, grad, n, Contiguous::kRead), x(ctx, input, n, Contiguous::kRead);
  NormRows dx(ctx, want_input ? grad_input : input, n,
              want_input ? Contiguous::kWrite : Contiguous::kNothing);
  NormRows extra(ctx, has_extra ? shared->extra : grad, n,
                 has_extra ? Contiguous::kRead : Contiguous::kNothing);
  NormRows dropped(ctx, has_dropped ? shared->dropped : grad, n,
                   has_dropped ? Contiguous::kWrite : Contiguous::kNothing);
  Contiguous w(ctx, weight, if_given(weight, Contiguous::kRead));
  Contiguous dw(ctx, grad_weight, want_weight ? Contiguous::kWrite : Contiguous::kNothing);
  Contiguous db(ctx, grad_bias, want_bias ? Contiguous::kWrite : Contiguous::kNothing);
  for (vt_status s : {g.status(), x.status(), dx.status(), extra.status(), dropped.status(),
                      w.status(), dw.status(), db.status()}) {
    if (s != VT_OK) return s;
  }
  AddNormBackwardArgs add = {};
  NormBackwardArgs &args = add.norm;
  args.g = g.data();
  args.x = x.data();
  args.weight = parameter(weight, w);
  args.mean = rms ? nullptr : mean.data;
  args.rstd = rstd.data;
  args.dx = want_input ? dx.data() : nullptr;
  args.g_stride = g.stride();
  args.x_stride = x.stride();
  args.dx_stride = dx.stride();
  args.rows = rows;
  args.n = n;
  args.rms = rms;
  const int64_t pack = 16 / element_size(dtype);
  const bool packed = n % pack == 0 && g.in_packs(pack) && x.in_packs(pack) &&
                      (!want_input || dx.in_packs(pack)) && is_aligned(args.weight.data) &&
                      extra.in_packs(pack) && dropped.in_packs(pack);
  const int slice = vt::norm_slice(element_size(dtype));
  const bool in_registers = packed && fits_registers(rows, n, slice);
  const Groups groups(rows, in_registers ? n : 1, slice, vt::kNormBackwardRegisters, 256, ctx);
  if (rows > 0) args.pieces = in_registers ? groups.blocks : column_pieces(rows, n, ctx);

  const int64_t compute = dtype == VT_F64 ? 8 : 4, sums = args.pieces * n * compute;
  const Scratch partial(ctx, static_cast<size_t>(sums * (int(want_weight) + int(want_bias))));
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  if (want_weight) args.weight_sums = partial.as<char>();
  if (want_bias) args.bias_sums = partial.as<char>() + (want_weight ? sums : 0);
  if (shared) {
    add.extra = has_extra ? extra.data() : nullptr;
    add.dropped = has_dropped ? dropped.data() : nullptr;
    add.extra_stride = extra.stride();
    add.dropped_stride = dropped.stride();
    add.dropout = shared->dropout;
  }
  const auto run = [&](Kernel &plain, AddKernels &of_sum, Dim grid, Dim block) {
    return shared ? launch(ctx, of_sum.of(x_dtype, dtype, grad.dtype), grid, block, 0, add)
                  : launch(ctx, plain, grid, block, 0, args);
  };
  vt_status status = VT_OK;
  if (rows > 0 && in_registers) {
    status = run(backward_rows[dtype], add_backward_rows, {groups.blocks}, {groups.x, groups.y});
  } else if (rows > 0) {
    if (want_input) {
      const Streams s(n);
      status = run(backward_long[dtype], add_backward_long, blocks_for(rows, s.y), {s.x, s.y});
    }
    if (status == VT_OK && want_sums) {
      const Dim grid = {blocks_for(n, vt::kNormColumns).x, static_cast<unsigned>(args.pieces)};
      Kernel &columns = add_backward_columns.of(x_dtype, dtype, grad.dtype);
      status = launch(ctx, grad.dtype == dtype ? backward_columns[dtype] : columns, grid,
                      {vt::kNormColumns}, 0, args);
    }
  }
  if (status == VT_OK && want_sums) {
    NormFinishArgs f = {};
    f.weight_sums = args.weight_sums;
    f.bias_sums = args.bias_sums;
    f.weight = want_weight ? dw.data() : nullptr;
    f.bias = want_bias ? db.data() : nullptr;
    f.pieces = args.pieces;
    f.n = n;
    f.weight_dtype = grad_weight.dtype;
    f.bias_dtype = grad_bias.dtype;
    const Dim grid = {blocks_for(n, vt::kNormFinishX).x, want_bias ? 2u : 1u};
    status = launch(ctx, norm_finish[dtype == VT_F64 ? VT_F64 : VT_F32], grid,
                    {vt::kNormFinishX, vt::kNormFinishY}, 0, f);
  }
  if (status == VT_OK) status = dx.finish();
  if (status == VT_OK) status = dropped.finish();
  if (status == VT_OK) status = dw.finish();
  return status == VT_OK ? db.finish() : status;
}

// An array that is not given.
constexpr vt_array kNone = {nullptr, nullptr, nullptr, 0, -1, 0, 0, 0, 0};

}  // namespace

}  // namespace vt_cuda

using namespace vt_cuda;

extern "C" {

// arrays: input, weight?, bias?, out, mean, rstd. values: n (the product of the normalised trailing
// dimensions), eps.
vt_status layer_norm_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return forward(a[0], a[1], a[2], a[3], a[4], a[5], v[0].i, v[1].re, false, nullptr, ctx);
}

// arrays: grad, input, weight?, mean, rstd, then grad_input?, grad_weight?, grad_bias?. values: n.
vt_status layer_norm_backward_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return backward(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], v[0].i, false, nullptr, ctx);
}

// arrays: input, weight?, out, rstd. values: n, eps.
vt_status rms_norm_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return forward(a[0], a[1], kNone, a[2], kNone, a[3], v[0].i, v[1].re, true, nullptr, ctx);
}

// arrays: grad, input, weight?, rstd, then grad_input?, grad_weight?. values: n.
vt_status rms_norm_backward_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return backward(a[0], a[1], a[2], kNone, a[3], a[4], a[5], kNone, v[0].i, true, nullptr, ctx);
}

// arrays: input, residual, weight?, bias?, then out, sum, mean, rstd. values: n, eps, and those of
// dropout: p, seed, offset. sum = residual + dropout(input).
vt_status add_layer_norm_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const Added added = {a[0], a[5], dropout_of(v + 2, ctx)};
  return forward(a[1], a[2], a[3], a[4], a[6], a[7], v[0].i, v[1].re, false, &added, ctx);
}

// arrays: input, residual, weight?, then out, sum, rstd. values: as add_layer_norm's.
vt_status add_rms_norm_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const Added added = {a[0], a[4], dropout_of(v + 2, ctx)};
  return forward(a[1], a[2], kNone, a[3], kNone, a[5], v[0].i, v[1].re, true, &added, ctx);
}

// arrays: grad of the norm, grad of the sum?, sum, weight?, mean, rstd, then grad_residual, grad_input?,
// grad_weight?, grad_bias?. values: n, p, seed, offset.
vt_status add_layer_norm_backward_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const Shared shared = {a[1], a[7], dropout_of(v + 1, ctx)};
  return backward(a[0], a[2], a[3], a[4], a[5], a[6], a[8], a[9], v[0].i, false, &shared, ctx);
}

// arrays: grad of the norm, grad of the sum?, sum, weight?, rstd, then grad_residual, grad_input?,
// grad_weight?. values: n, p, seed, offset.
vt_status add_rms_norm_backward_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const Shared shared = {a[1], a[6], dropout_of(v + 1, ctx)};
  return backward(a[0], a[2], a[3], kNone, a[4], a[5], a[7], kNone, v[0].i, true, &shared, ctx);
}

}  // extern "C"
