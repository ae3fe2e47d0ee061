// The kernels mm, bmm, addmm, linear and linear with GELU. Integers have none, as in PyTorch.

#include "vibetensor/cuda/kernels/gemm.h"
#include "vibetensor/cuda/launch.h"

namespace vt_cuda {
namespace {

KernelSet matrix_gelu("matrix", "vt_matrix_gelu");

Matrices matrix_of(const vt_array &x) { return {x.data, x.strides[0], x.strides[1], 0}; }

Product product_of(const vt_array &a, const vt_array &b, const vt_array &out) {
  Product p;
  p.dtype = p.out_dtype = out.dtype;
  p.m = a.sizes[0];
  p.k = a.sizes[1];
  p.n = b.sizes[1];
  p.a = matrix_of(a);
  p.b = matrix_of(b);
  p.c = out.data;
  p.c_row = out.strides[0];
  p.c_col = out.strides[1];
  return p;
}

Product linear_of(const vt_array &input, const vt_array &weight, const vt_array &bias,
                  const vt_array &out) {
  Product p;
  p.dtype = p.out_dtype = out.dtype;
  p.m = input.sizes[0];
  p.k = input.sizes[1];
  p.n = weight.sizes[0];
  p.a = matrix_of(input);
  p.b = {weight.data, weight.strides[1], weight.strides[0], 0};
  p.c = out.data;
  p.c_row = out.strides[0];
  p.c_col = out.strides[1];
  if (given(bias)) {
    p.bias = bias.data;
    p.bias_stride = bias.strides[0];
  }
  return p;
}

}  // namespace
}  // namespace vt_cuda

using namespace vt_cuda;

// arrays: a (m, k), b (k, n), out (m, n).
extern "C" vt_status mm_cuda(const vt_array *arrays, const vt_value *, vt_context *ctx) {
  return gemm(product_of(arrays[0], arrays[1], arrays[2]), ctx);
}

// arrays: input (m, n), a (m, k), b (k, n), out (m, n); values: beta, alpha. out may be input.
extern "C" vt_status addmm_cuda(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const vt_array &input = arrays[0];
  Product p = product_of(arrays[1], arrays[2], arrays[3]);
  p.beta = factor_of(values[0]);
  p.alpha = factor_of(values[1]);
  const bool one = p.beta.re == 1 && p.beta.im == 0;
  if (one && input.strides[0] == 0 && p.m > 1) {
    p.bias = input.data;  // one row for all, as linear layers have it
    p.bias_stride = input.strides[1];
  } else {
    p.init = matrix_of(input);
  }
  return gemm(p, ctx);
}

// arrays: input (rows, in), weight (out, in), bias (out) or none, out (rows, out).
extern "C" vt_status linear_cuda(const vt_array *arrays, const vt_value *, vt_context *ctx) {
  return gemm(linear_of(arrays[0], arrays[1], arrays[2], arrays[3]), ctx);
}

// arrays: a (batch, m, k), b (batch, k, n), out (batch, m, n).
extern "C" vt_status bmm_cuda(const vt_array *arrays, const vt_value *, vt_context *ctx) {
  const vt_array &a = arrays[0], &b = arrays[1], &out = arrays[2];
  Product p;
  p.dtype = p.out_dtype = out.dtype;
  p.batch = out.sizes[0];
  p.m = a.sizes[1];
  p.k = a.sizes[2];
  p.n = b.sizes[2];
  p.a = {a.data, a.strides[1], a.strides[2], a.strides[0]};
  p.b = {b.data, b.strides[1], b.strides[2], b.strides[0]};
  p.c = out.data;
  p.c_row = out.strides[1];
  p.c_col = out.strides[2];
  p.c_batch = out.strides[0];
  return gemm(p, ctx);
}

// arrays: input (rows, in), weight (out, in), bias (out) or none, out (rows, out), linear (rows, out):
// what GELU is taken of, or none. The last two are contiguous.
extern "C" vt_status linear_gelu_cuda(const vt_array *arrays, const vt_value *, vt_context *ctx) {
  const vt_array &out = arrays[3], &linear = arrays[4];
  if (out.dtype == VT_C64 || out.dtype == VT_C128) return VT_ERROR_DTYPE;
  Product p = linear_of(arrays[0], arrays[1], arrays[2], out);
  // What the epilogue can store has rows of whole vectors.
  const bool fits = !given(linear) || p.n % 8 == 0;
  if (p.m > 0 && p.n > 0 && p.k > 0 && out.dtype != VT_F64 && fits) {
    Product q = p;
    q.epilogue = given(linear) ? kLtEpilogueGeluAux : kLtEpilogueGelu;
    q.aux = given(linear) ? linear.data : nullptr;
    q.aux_ld = q.n;
    const vt_status status = gemm(q, ctx);
    // The library may lack it for a dtype or an alignment; then nothing was enqueued.
    if (status != VT_ERROR_VALUE) return status;
  }
  if (given(linear)) p.c = linear.data;
  const vt_status status = gemm(p, ctx);
  if (status != VT_OK || out.numel == 0) return status;
  constexpr unsigned kThreads = 256;
  const int64_t wanted = (out.numel + kThreads - 1) / kThreads;
  const int64_t limit = int64_t(properties(ctx).sm_count) * 32;
  return launch(ctx, matrix_gelu[out.dtype], {unsigned(wanted < limit ? wanted : limit)},
                {kThreads}, 0, static_cast<void *>(out.data), static_cast<const void *>(p.c),
                out.numel);
}
