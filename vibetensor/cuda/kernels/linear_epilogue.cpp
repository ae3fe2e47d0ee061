// Linear layers with what comes behind them in the same product: GELU in its tanh form, and the sums that are
// the gradient of a bias. Where cuBLASLt has no such epilogue, for a dtype or an alignment, nothing was
// enqueued and other kernels do the rest. Its epilogue of GELU's derivative is a kernel of its own behind the
// product and slower than ours, so that is not used.

#include "vibetensor/cuda/kernels/gemm.h"
#include "vibetensor/cuda/kernels/walk.h"
#include "vibetensor/cuda/launch.h"
#include "vt/gelu_rows_args.h"
#include "vt/norm_args.h"

extern "C" vt_status sum_cuda(const vt_array *arrays, const vt_value *values, vt_context *ctx);

namespace vt_cuda {
namespace {

KernelSet matrix_gelu("matrix", "vt_matrix_gelu");
KernelSet matrix_gelu_backward("matrix", "vt_matrix_gelu_backward");

KernelSet gelu_backward_rows("gelu_rows", "vt_gelu_backward_rows");
KernelSet sum_pieces("norm_backward", "vt_norm_finish");

constexpr unsigned kThreads = 256;

unsigned blocks_over(int64_t n, const vt_context *ctx) {
  const int64_t wanted = (n + kThreads - 1) / kThreads;
  const int64_t limit = int64_t(properties(ctx).sm_count) * 32;
  return unsigned(wanted < limit ? wanted : limit);
}

// The sums over the rows of x (rows, columns).
vt_status sum_columns(const vt_array &x, const vt_array &out, vt_context *ctx) {
  const int64_t sizes[] = {1, out.numel}, strides[] = {out.numel, 1};
  vt_array row = out;
  row.sizes = sizes;
  row.strides = strides;
  row.ndim = 2;
  const vt_array arrays[] = {x, row};
  return sum_cuda(arrays, nullptr, ctx);
}

bool is_aligned(const void *p) { return (reinterpret_cast<uintptr_t>(p) & 15) == 0; }

// grad (rows, n) times the derivative of GELU at `linear`, in place, and its sums over the rows, if wanted.
vt_status gelu_backward(const vt_array &grad, const vt_array &linear, const vt_array &sums,
                        vt_context *ctx) {
  const int64_t rows = grad.sizes[0], n = grad.sizes[1];
  const int64_t pack = 16 / element_size(grad.dtype);
  if (n % pack != 0 || !is_aligned(grad.data) || !is_aligned(linear.data)) {
    const vt_status status =
        launch(ctx, matrix_gelu_backward[grad.dtype], {blocks_over(grad.numel, ctx)}, {kThreads}, 0,
               static_cast<void *>(grad.data), static_cast<const void *>(linear.data), grad.numel);
    return status == VT_OK && given(sums) ? sum_columns(grad, sums, ctx) : status;
  }
  const int64_t across = (n + vt::kGeluRowsX * pack - 1) / (vt::kGeluRowsX * pack);
  // One wave of blocks, but some rows for every thread.
  const int64_t wanted = (int64_t(properties(ctx).sm_count) * 8 + across - 1) / across;
  const int64_t most = (rows + 4 * vt::kGeluRowsY - 1) / (4 * vt::kGeluRowsY);
  const int64_t pieces = wanted < most ? wanted : most;
  const size_t width = grad.dtype == VT_F64 ? 8 : 4;
  const Scratch partial(ctx, given(sums) ? size_t(pieces * n) * width : 0);
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  vt::GeluRowsArgs args = {};
  args.grad = grad.data;
  args.x = linear.data;
  args.sums = given(sums) ? partial.as<void>() : nullptr;
  args.rows = rows;
  args.n = n;
  const vt_status status =
      launch(ctx, gelu_backward_rows[grad.dtype], {unsigned(across), unsigned(pieces)},
             {vt::kGeluRowsX, vt::kGeluRowsY}, 0, args);
  if (status != VT_OK || !given(sums)) return status;
  vt::NormFinishArgs f = {};
  f.weight_sums = partial.as<void>();
  f.weight = sums.data;
  f.pieces = pieces;
  f.n = n;
  f.weight_dtype = sums.dtype;
  const unsigned columns = unsigned((n + vt::kNormFinishX - 1) / vt::kNormFinishX);
  return launch(ctx, sum_pieces[grad.dtype == VT_F64 ? VT_F64 : VT_F32], {columns},
                {vt::kNormFinishX, vt::kNormFinishY}, 0, f);
}

bool has_epilogues(const Product &p) {
  return p.m > 0 && p.n > 0 && p.k > 0 &&
         (p.dtype == VT_F32 || p.dtype == VT_F16 || p.dtype == VT_BF16);
}

// Tries a product with an epilogue; VT_ERROR_VALUE: there is none.
vt_status try_epilogue(Product p, uint32_t epilogue, void *aux, void *bias_grad, vt_context *ctx) {
  p.epilogue = epilogue;
  p.aux = aux;
  p.aux_ld = p.n;
  p.bias_grad = bias_grad;
  return gemm(p, ctx);
}

}  // namespace
}  // namespace vt_cuda

using namespace vt_cuda;

// arrays: input (rows, in), weight (out, in), bias (out) or none, out (rows, out), linear (rows, out):
// what GELU is taken of, or none. The last two are contiguous.
extern "C" vt_status linear_gelu_cuda(const vt_array *arrays, const vt_value *, vt_context *ctx) {
  const vt_array &out = arrays[3], &linear = arrays[4];
  if (out.dtype == VT_C64 || out.dtype == VT_C128) return VT_ERROR_DTYPE;
  Product p = linear_of(arrays[0], arrays[1], arrays[2], out);
  // What the epilogue can store has rows of whole vectors. In float32 its GELU is wrong by 3e-6, and a kernel
  // of its own behind the product, which takes 38 us over 8192 x 1024 where a pass of ours takes 22.
  if (has_epilogues(p) && p.dtype != VT_F32 && (!given(linear) || p.n % 8 == 0)) {
    const vt_status status = try_epilogue(p, given(linear) ? kLtEpilogueGeluAux : kLtEpilogueGelu,
                                          given(linear) ? linear.data : nullptr, nullptr, ctx);
    if (status != VT_ERROR_VALUE) return status;
  }
  if (given(linear)) p.c = linear.data;
  const vt_status status = gemm(p, ctx);
  if (status != VT_OK || out.numel == 0) return status;
  return launch(ctx, matrix_gelu[out.dtype], {blocks_over(out.numel, ctx)}, {kThreads}, 0,
                static_cast<void *>(out.data), static_cast<const void *>(p.c), out.numel);
}

// arrays: grad (rows, out), weight (out, in), linear (rows, in), then grad_linear (rows, in), bias_grad
// (in) or none. grad_linear = (grad weight) times the derivative of GELU at linear; both are contiguous.
// bias_grad are its sums over the rows.
extern "C" vt_status linear_gelu_backward_cuda(const vt_array *arrays, const vt_value *,
                                               vt_context *ctx) {
  const vt_array &grad = arrays[0], &weight = arrays[1], &linear = arrays[2], &out = arrays[3],
                 &bias_grad = arrays[4];
  if (out.dtype == VT_C64 || out.dtype == VT_C128) return VT_ERROR_DTYPE;
  Product p;
  p.dtype = p.out_dtype = out.dtype;
  p.m = grad.sizes[0];
  p.k = grad.sizes[1];
  p.n = weight.sizes[1];
  p.a = {grad.data, grad.strides[0], grad.strides[1], 0};
  p.b = {weight.data, weight.strides[0], weight.strides[1], 0};
  p.c = out.data;
  p.c_row = out.strides[0];
  p.c_col = out.strides[1];
  const vt_status status = gemm(p, ctx);
  if (status != VT_OK) return status;
  if (out.numel > 0) return gelu_backward(out, linear, bias_grad, ctx);
  return given(bias_grad) ? sum_columns(out, bias_grad, ctx) : VT_OK;
}

// arrays: grad (rows, out), input (rows, in), then grad_weight (out, in) and grad_bias (out) or none: the
// gradients of a linear layer by its parameters, of the dtype of `grad` or in float32.
extern "C" vt_status linear_backward_parameters_cuda(const vt_array *arrays, const vt_value *,
                                                     vt_context *ctx) {
  const vt_array &grad = arrays[0], &input = arrays[1], &out = arrays[2], &grad_bias = arrays[3];
  Product p;
  p.dtype = grad.dtype;
  p.out_dtype = out.dtype;
  p.m = grad.sizes[1];
  p.k = grad.sizes[0];
  p.n = input.sizes[1];
  p.a = {grad.data, grad.strides[1], grad.strides[0], 0};
  p.b = {input.data, input.strides[0], input.strides[1], 0};
  p.c = out.data;
  p.c_row = out.strides[0];
  p.c_col = out.strides[1];
  if (given(grad_bias) && has_epilogues(p)) {
    const vt_status status = try_epilogue(p, kLtEpilogueBGradB, nullptr, grad_bias.data, ctx);
    if (status != VT_ERROR_VALUE) return status;
  }
  const vt_status status = gemm(p, ctx);
  return status == VT_OK && given(grad_bias) ? sum_columns(grad, grad_bias, ctx) : status;
}
