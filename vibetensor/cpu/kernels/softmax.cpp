// softmax and log_softmax along one dimension, and their gradients.
#include "vibetensor/cpu/kernels/rows.h"
#include "vibetensor/cpu/kernels/softmax_parts.h"

namespace VT_NS {

namespace {

template <class V>
struct Softmax {
  static void row(const V *const *in, V *y, int64_t n) {
    const V *x = in[0];
    const V scale = V(1) / sum_exp<true>(x, y, n, row_max(x, n));
    row_map(y, n, [=](auto p) { return p * scale; }, y);
  }

  static void columns(const V *const *in, const int64_t *strides, V *y, int64_t out_stride,
                      int64_t n, int64_t cols) {
    alignas(64) V largest[kRowColumns], sum[kRowColumns];
    column_max(in[0], strides[0], n, cols, largest);
    column_sum_exp<true>(in[0], strides[0], y, out_stride, n, cols, largest, sum);
    for (int64_t c = 0; c < cols; c++) sum[c] = V(1) / sum[c];
    for (int64_t r = 0; r < n; r++) {
      V *q = y + r * out_stride;
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) q[c] *= sum[c];
    }
  }
};

template <class V>
struct LogSoftmax {
  static void row(const V *const *in, V *y, int64_t n) {
    const V *x = in[0];
    const V largest = row_max(x, n);
    const V log_sum = vlog(sum_exp<false>(x, y, n, largest));
    row_map(y, n, [=](auto p) { return p - largest - log_sum; }, x);
  }

  static void columns(const V *const *in, const int64_t *strides, V *y, int64_t out_stride,
                      int64_t n, int64_t cols) {
    alignas(64) V largest[kRowColumns], sum[kRowColumns];
    column_max(in[0], strides[0], n, cols, largest);
    column_sum_exp<false, V>(in[0], strides[0], nullptr, 0, n, cols, largest, sum);
    for (int64_t c = 0; c < cols; c++) sum[c] = vlog(sum[c]);
    for (int64_t r = 0; r < n; r++) {
      const V *p = in[0] + r * strides[0];
      V *q = y + r * out_stride;
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) q[c] = p[c] - largest[c] - sum[c];
    }
  }
};

// in: grad, output. dx = y * (g - sum(g * y)).
template <class V>
struct SoftmaxBackward {
  static void row(const V *const *in, V *out, int64_t n) {
    const V *g = in[0], *y = in[1];
    const V dot = row_dot(g, y, n);
    row_map(out, n, [=](auto p, auto q) { return q * (p - dot); }, g, y);
  }

  static void columns(const V *const *in, const int64_t *strides, V *out, int64_t out_stride,
                      int64_t n, int64_t cols) {
    alignas(64) V dot[kRowColumns];
    for (int64_t c = 0; c < cols; c++) dot[c] = V(0);
    for (int64_t r = 0; r < n; r++) {
      const V *g = in[0] + r * strides[0], *y = in[1] + r * strides[1];
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) dot[c] += g[c] * y[c];
    }
    for (int64_t r = 0; r < n; r++) {
      const V *g = in[0] + r * strides[0], *y = in[1] + r * strides[1];
      V *q = out + r * out_stride;
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) q[c] = y[c] * (g[c] - dot[c]);
    }
  }
};

// in: grad, output. dx = g - exp(y) * sum(g).
template <class V>
struct LogSoftmaxBackward {
  static void row(const V *const *in, V *out, int64_t n) {
    const V *g = in[0], *y = in[1];
    const V sum = row_sum(g, n);
    row_map(out, n, [=](auto p, auto q) { return p - exp_small<V>(q) * sum; }, g, y);
  }

  static void columns(const V *const *in, const int64_t *strides, V *out, int64_t out_stride,
                      int64_t n, int64_t cols) {
    alignas(64) V sum[kRowColumns];
    for (int64_t c = 0; c < cols; c++) sum[c] = V(0);
    for (int64_t r = 0; r < n; r++) {
      const V *g = in[0] + r * strides[0];
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) sum[c] += g[c];
    }
    for (int64_t r = 0; r < n; r++) {
      const V *g = in[0] + r * strides[0], *y = in[1] + r * strides[1];
      V *q = out + r * out_stride;
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) q[c] = g[c] - exp_small(y[c]) * sum[c];
    }
  }
};

template <template <class> class Kernel, int K>
inline vt_status run(const vt_array *a, int64_t dim) {
  for (int k = 1; k <= K; k++) {
    if (a[k].dtype != a[0].dtype) return VT_ERROR_DTYPE;
  }
  return dispatch<kFloating>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return run_rows<T, K, Kernel<acc_t<T>>>(a, a[K], dim);
  });
}

}  // namespace

// values: dim, for all four.
vt_status softmax_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return run<Softmax, 1>(a, v[0].i);
}

vt_status log_softmax_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return run<LogSoftmax, 1>(a, v[0].i);
}

// arrays: grad, output, then grad_input.
vt_status softmax_backward_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return run<SoftmaxBackward, 2>(a, v[0].i);
}

vt_status log_softmax_backward_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return run<LogSoftmaxBackward, 2>(a, v[0].i);
}

}  // namespace VT_NS
