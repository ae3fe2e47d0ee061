// The kernels mm, bmm, addmm and linear. Integers have none, as in PyTorch. What a linear layer does
// besides, and its gradients in one product: linear_epilogue.cpp.

#include "vibetensor/cuda/kernels/gemm.h"
#include "vibetensor/cuda/launch.h"

namespace vt_cuda {
namespace {

// One matrix, or a batch of them.
Matrices matrices_of(const vt_array &x) {
  const int64_t *s = x.strides + x.ndim - 2;
  return {x.data, s[0], s[1], x.ndim == 3 ? x.strides[0] : 0};
}

Product product_of(const vt_array &a, const vt_array &b, const vt_array &out) {
  const int d = out.ndim - 2;
  Product p;
  p.dtype = a.dtype;
  p.out_dtype = out.dtype;
  if (d > 0) {
    p.batch = out.sizes[0];
    p.c_batch = out.strides[0];
  }
  p.m = a.sizes[d];
  p.k = a.sizes[d + 1];
  p.n = b.sizes[d + 1];
  p.a = matrices_of(a);
  p.b = matrices_of(b);
  p.c = out.data;
  p.c_row = out.strides[d];
  p.c_col = out.strides[d + 1];
  return p;
}

}  // namespace

Product linear_of(const vt_array &input, const vt_array &weight, const vt_array &bias,
                  const vt_array &out) {
  Product p;
  p.dtype = p.out_dtype = out.dtype;
  p.m = input.sizes[0];
  p.k = input.sizes[1];
  p.n = weight.sizes[0];
  p.a = matrices_of(input);
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

}  // namespace vt_cuda

using namespace vt_cuda;

// arrays: a (m, k), b (k, n), out (m, n).
extern "C" vt_status mm_cuda(const vt_array *arrays, const vt_value *, vt_context *ctx) {
  return gemm(product_of(arrays[0], arrays[1], arrays[2]), ctx);
}

// arrays: input (m, n), a (m, k), b (k, n), out (m, n), or batches of them; values: beta, alpha. out may be
// input.
extern "C" vt_status addmm_cuda(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const vt_array &input = arrays[0];
  Product p = product_of(arrays[1], arrays[2], arrays[3]);
  p.beta = factor_of(values[0]);
  p.alpha = factor_of(values[1]);
  const bool one = p.beta.re == 1 && p.beta.im == 0;
  if (one && input.ndim == 2 && input.strides[0] == 0 && p.m > 1) {
    p.bias = input.data;  // one row for all, as linear layers have it
    p.bias_stride = input.strides[1];
  } else {
    p.init = matrices_of(input);
  }
  return gemm(p, ctx);
}

// arrays: out (m, n), a (m, k), b (k, n); values: beta, alpha. out = beta out + alpha a b.
extern "C" vt_status addmm_into_cuda(const vt_array *arrays, const vt_value *values,
                                     vt_context *ctx) {
  const vt_array with_out[] = {arrays[0], arrays[1], arrays[2], arrays[0]};
  return addmm_cuda(with_out, values, ctx);
}

// arrays: input (rows, in), weight (out, in), bias (out) or none, out (rows, out).
extern "C" vt_status linear_cuda(const vt_array *arrays, const vt_value *, vt_context *ctx) {
  return gemm(linear_of(arrays[0], arrays[1], arrays[2], arrays[3]), ctx);
}

// arrays: a (batch, m, k), b (batch, k, n), out (batch, m, n).
extern "C" vt_status bmm_cuda(const vt_array *arrays, const vt_value *, vt_context *ctx) {
  return gemm(product_of(arrays[0], arrays[1], arrays[2]), ctx);
}
