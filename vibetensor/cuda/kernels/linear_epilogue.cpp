// Linear layers with what comes behind them in the same product, forward and backward: GELU in its tanh form,
// its derivative, and the sums that are the gradient of a bias. Where cuBLASLt has no such epilogue, for a
// dtype or an alignment, nothing was enqueued and other kernels do the rest.

#include "vibetensor/cuda/kernels/gemm.h"
#include "vibetensor/cuda/kernels/walk.h"
#include "vibetensor/cuda/launch.h"

extern "C" vt_status sum_cuda(const vt_array *arrays, const vt_value *values, vt_context *ctx);

namespace vt_cuda {
namespace {

KernelSet matrix_gelu("matrix", "vt_matrix_gelu");
KernelSet matrix_gelu_backward("matrix", "vt_matrix_gelu_backward");

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
  // What the epilogue can store has rows of whole vectors.
  if (has_epilogues(p) && (!given(linear) || p.n % 8 == 0)) {
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
  if (has_epilogues(p) && p.n % 8 == 0) {
    const bool sums = given(bias_grad);
    const vt_status status = try_epilogue(p, sums ? kLtEpilogueDGeluBGrad : kLtEpilogueDGelu,
                                          linear.data, sums ? bias_grad.data : nullptr, ctx);
    if (status != VT_ERROR_VALUE) return status;
  }
  vt_status status = gemm(p, ctx);
  if (status == VT_OK && out.numel > 0) {
    status =
        launch(ctx, matrix_gelu_backward[out.dtype], {blocks_over(out.numel, ctx)}, {kThreads}, 0,
               static_cast<void *>(out.data), static_cast<const void *>(linear.data), out.numel);
  }
  return status == VT_OK && given(bias_grad) ? sum_columns(out, bias_grad, ctx) : status;
}

// arrays: grad (rows, out), input (rows, in), then grad_weight (out, in) and grad_bias (out): the
// gradients of a linear layer by its parameters.
extern "C" vt_status linear_backward_parameters_cuda(const vt_array *arrays, const vt_value *,
                                                     vt_context *ctx) {
  const vt_array &grad = arrays[0], &input = arrays[1], &out = arrays[2], &grad_bias = arrays[3];
  Product p;
  p.dtype = p.out_dtype = out.dtype;
  p.m = grad.sizes[1];
  p.k = grad.sizes[0];
  p.n = input.sizes[1];
  p.a = {grad.data, grad.strides[1], grad.strides[0], 0};
  p.b = {input.data, input.strides[0], input.strides[1], 0};
  p.c = out.data;
  p.c_row = out.strides[0];
  p.c_col = out.strides[1];
  if (has_epilogues(p)) {
    const vt_status status = try_epilogue(p, kLtEpilogueBGradB, nullptr, grad_bias.data, ctx);
    if (status != VT_ERROR_VALUE) return status;
  }
  const vt_status status = gemm(p, ctx);
  return status == VT_OK ? sum_columns(grad, grad_bias, ctx) : status;
}
