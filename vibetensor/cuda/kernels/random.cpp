// Random distributions and dropout. Values follow the row-major order of the output; one in another
// order is drawn into scratch memory and copied. What is computed here is computed as on the CPU.
#include "vibetensor/cuda/kernels/random.h"

#include <math.h>

#include "vibetensor/cuda/kernels/contiguous.h"
#include "vt/attention_dropout.h"
#include "vt/dtype.h"
#include "vt/index_error.h"
#include "vt/philox.h"
#include "vt/random_math.h"

using namespace vt_cuda;

namespace {

constexpr int kThreads = 256;

KernelSet uniform_kernels("random", "vt_uniform");
KernelSet normal_kernels("random", "vt_normal");
KernelSet bernoulli_kernels("random", "vt_bernoulli");
KernelSet bernoulli_tensor_kernels("random", "vt_bernoulli_tensor");
KernelSet randint_kernels("random", "vt_randint");
KernelSet dropout_kernels("random", "vt_dropout");
KernelSet attention_dropout_kernels("random", "vt_attention_dropout");
Kernel dropout_half("random", "vt_dropout", "f16_f32");
Kernel dropout_bfloat16("random", "vt_dropout", "bf16_f32");

// A complex array is one of twice as many reals.
int real_dtype(int dtype) { return dtype == VT_C64 ? VT_F32 : dtype == VT_C128 ? VT_F64 : dtype; }
int64_t reals(const vt_array &a) { return in_set(kComplexSet, a.dtype) ? 2 * a.numel : a.numel; }
int reals_per_block(int dtype) { return dtype == VT_F64 ? VT_DRAW_64 : VT_DRAW_32; }

Dim blocks_of(int64_t n, int per_block) { return blocks_for(n, int64_t(per_block) * kThreads); }

// The largest value of T below x, which itself may be none.
template <class T>
float half_below(float x) {
  T rounded(x);
  if (static_cast<float>(rounded) < x) return rounded;
  const bool negative = rounded.bits & 0x8000u, zero = (rounded.bits & 0x7fffu) == 0;
  rounded.bits = zero ? 0x8001u : static_cast<uint16_t>(rounded.bits + (negative ? 1 : -1));
  return rounded;
}
float value_below(float x, int dtype) {
  return dtype == VT_F16    ? half_below<vt::half>(x)
         : dtype == VT_BF16 ? half_below<vt::bfloat16>(x)
                            : nextafterf(x, -INFINITY);
}
double value_below(double x, int) { return nextafter(x, -static_cast<double>(INFINITY)); }

template <class R>
vt_status launch_uniform(vt_context *ctx, int dtype, char *out, int64_t n, double from, double to,
                         const PhiloxArgs &where) {
  const R lo = static_cast<R>(from), hi = static_cast<R>(to);
  const R last = lo < hi ? value_below(hi, dtype) : hi;
  return launch(ctx, uniform_kernels[dtype], blocks_of(n, reals_per_block(dtype)), {kThreads}, 0,
                out, n, lo, static_cast<R>(hi - lo), last, where);
}

template <class R>
vt_status launch_normal(vt_context *ctx, int dtype, char *out, int64_t n, double mean, double std,
                        bool complex, const PhiloxArgs &where) {
  return launch(ctx, normal_kernels[dtype], blocks_of(n, reals_per_block(dtype)), {kThreads}, 0,
                out, n, static_cast<R>(mean), static_cast<R>(std), static_cast<int32_t>(complex),
                where);
}

}  // namespace

extern "C" {

// out; lo, hi, seed, offset. In [lo, hi), also after rounding to a half type.
vt_status uniform_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (!in_set(kFloatingSet | kComplexSet, a[0].dtype)) return VT_ERROR_DTYPE;
  if (a[0].numel == 0) return VT_OK;
  Contiguous out(ctx, a[0], Contiguous::kWrite);
  if (out.status() != VT_OK) return out.status();
  const int dtype = real_dtype(a[0].dtype);
  const auto run = dtype == VT_F64 ? launch_uniform<double> : launch_uniform<float>;
  const vt_status status =
      run(ctx, dtype, out.data(), reals(a[0]), v[0].re, v[1].re, philox_args(v + 2, ctx));
  return status == VT_OK ? out.finish() : status;
}

// out; mean, std, seed, offset. The variance of a complex number is shared by its two parts.
vt_status normal_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (!in_set(kFloatingSet | kComplexSet, a[0].dtype)) return VT_ERROR_DTYPE;
  if (a[0].numel == 0) return VT_OK;
  Contiguous out(ctx, a[0], Contiguous::kWrite);
  if (out.status() != VT_OK) return out.status();
  const int dtype = real_dtype(a[0].dtype);
  const bool complex = dtype != a[0].dtype;
  const double share = complex ? 0.70710678118654752440 : 1.0;
  const auto run = dtype == VT_F64 ? launch_normal<double> : launch_normal<float>;
  const vt_status status = run(ctx, dtype, out.data(), reals(a[0]), v[0].re, v[1].re * share,
                               complex, philox_args(v + 2, ctx));
  return status == VT_OK ? out.finish() : status;
}

// out; p, seed, offset.
vt_status bernoulli_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (!in_set(kRealSet, a[0].dtype)) return VT_ERROR_DTYPE;
  if (a[0].numel == 0) return VT_OK;
  Contiguous out(ctx, a[0], Contiguous::kWrite);
  if (out.status() != VT_OK) return out.status();
  const uint64_t threshold = vt::bernoulli_threshold(v[0].re);
  const vt_status status =
      launch(ctx, bernoulli_kernels[a[0].dtype], blocks_of(a[0].numel, VT_DRAW_32), {kThreads}, 0,
             out.data(), a[0].numel, static_cast<uint32_t>(threshold - 1),
             static_cast<int32_t>(threshold > 0), philox_args(v + 1, ctx));
  return status == VT_OK ? out.finish() : status;
}

// p (any floating dtype), out (same shape); seed, offset. A p outside of [0, 1] is reported.
vt_status bernoulli_tensor_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (!in_set(kFloatingSet, a[0].dtype) || !in_set(kRealSet, a[1].dtype)) return VT_ERROR_DTYPE;
  if (a[1].numel == 0) return VT_OK;
  Contiguous p(ctx, a[0], Contiguous::kRead), out(ctx, a[1], Contiguous::kWrite);
  if (p.status() != VT_OK) return p.status();
  if (out.status() != VT_OK) return out.status();
  const vt_error_sink sink = {index_error_slot(ctx), ctx->op, 0};
  const vt_status status =
      launch(ctx, bernoulli_tensor_kernels[a[0].dtype], blocks_of(a[1].numel, VT_DRAW_32),
             {kThreads}, 0, static_cast<const char *>(p.data()), out.data(), a[1].numel,
             static_cast<int32_t>(a[1].dtype), philox_args(v, ctx), sink);
  return status == VT_OK ? out.finish() : status;
}

// out; low, high (not included), seed, offset. low == high stands for all 64 bits.
vt_status randint_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (!in_set(kRealSet, a[0].dtype)) return VT_ERROR_DTYPE;
  if (a[0].numel == 0) return VT_OK;
  Contiguous out(ctx, a[0], Contiguous::kWrite);
  if (out.status() != VT_OK) return out.status();
  const uint64_t low = static_cast<uint64_t>(v[0].i);
  const uint64_t range = static_cast<uint64_t>(v[1].i) - low;
  const vt_status status =
      launch(ctx, randint_kernels[a[0].dtype], blocks_of(a[0].numel, VT_DRAW_64), {kThreads}, 0,
             out.data(), a[0].numel, low, range, philox_args(v + 2, ctx));
  return status == VT_OK ? out.finish() : status;
}

// input, residual?, out; p, seed, offset. out = residual + input * mask / (1 - p), the mask drawn and not
// kept. The input may be of a half type where the others are float32.
vt_status dropout_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &input = a[0], &residual = a[1], &out = a[2];
  const bool adds = residual.data != nullptr;
  const bool mixed = input.dtype != out.dtype;
  if (!in_set(kFloatingSet, input.dtype) || (adds && residual.dtype != out.dtype) ||
      (mixed && (out.dtype != VT_F32 || input.dtype == VT_F64))) {
    return VT_ERROR_DTYPE;
  }
  if (out.numel == 0) return VT_OK;
  Contiguous from(ctx, input, Contiguous::kRead), to(ctx, out, Contiguous::kWrite),
      addend(ctx, residual, adds ? Contiguous::kRead : Contiguous::kNothing);
  for (vt_status s : {from.status(), to.status(), addend.status()}) {
    if (s != VT_OK) return s;
  }
  Kernel &kernel = !mixed                  ? dropout_kernels[input.dtype]
                   : input.dtype == VT_F16 ? dropout_half
                                           : dropout_bfloat16;
  const vt_status status = launch(ctx, kernel, blocks_of(out.numel, VT_DRAW_32), {kThreads}, 0,
                                  static_cast<const char *>(from.data()),
                                  static_cast<const char *>(adds ? addend.data() : nullptr),
                                  to.data(), out.numel, dropout_of(v, ctx));
  return status == VT_OK ? to.finish() : status;
}

// query (B, H, ...; not read), out (B, H, Tq, Tk) float or double; dropout_p, seed, offset.
vt_status attention_dropout_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &out = a[1];
  if (out.numel == 0) return VT_OK;
  const int64_t queries = out.sizes[2], keys = out.sizes[3], rows = out.numel / keys;
  const uint32_t threshold = vt::attention_threshold(v[0].re);
  const double scale = vt::attention_keep_scale(threshold);
  const Dim blocks = blocks_of(rows * ((keys + 63) / 64 * 8), 1);
  Kernel &kernel = attention_dropout_kernels[out.dtype];
  const PhiloxArgs where = philox_args(v + 1, ctx);
  if (out.dtype == VT_F64) {
    return launch(ctx, kernel, blocks, {kThreads}, 0, reinterpret_cast<double *>(out.data), rows,
                  queries, keys, threshold, scale, where);
  }
  return launch(ctx, kernel, blocks, {kThreads}, 0, reinterpret_cast<float *>(out.data), rows,
                queries, keys, threshold, static_cast<float>(scale), where);
}

}  // extern "C"
