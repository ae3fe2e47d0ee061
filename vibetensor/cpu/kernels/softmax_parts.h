// Maxima and sums of exponentials over rows and over columns of float or double.
#ifndef VT_CPU_KERNELS_SOFTMAX_PARTS_H
#define VT_CPU_KERNELS_SOFTMAX_PARTS_H

#include "vibetensor/cpu/kernels/row_math.h"

namespace VT_NS {

// The sum of exp(x - shift) over a row; with Keep the terms are stored in y too.
template <bool Keep, class V>
VT_INLINE V sum_exp(const V *x, V *y, int64_t n, V shift) {
  constexpr int64_t K = kLanes<V>;
  vec<V> a{}, b{};
  int64_t i = 0;
  for (; i + 2 * K <= n; i += 2 * K) {
    const vec<V> p = exp_small<V>(load(x + i) - shift), q = exp_small<V>(load(x + i + K) - shift);
    if (Keep) store(y + i, p);
    if (Keep) store(y + i + K, q);
    a += p;
    b += q;
  }
  if (i + K <= n) {
    const vec<V> p = exp_small<V>(load(x + i) - shift);
    if (Keep) store(y + i, p);
    a += p;
    i += K;
  }
  if (i < n) {
    // The lanes beyond the end add exp(-inf).
    const vec<V> p = exp_small<V>(load_part(x + i, n - i, V(-__builtin_inf())) - shift);
    if (Keep) store_part(y + i, n - i, p);
    b += p;
  }
  return fold_add<V>(a + b);
}

template <class V>
VT_INLINE void column_max(const V *x, int64_t stride, int64_t n, int64_t cols, V *largest) {
  memcpy(largest, x, cols * sizeof(V));
  for (int64_t r = 1; r < n; r++) {
    const V *p = x + r * stride;
#pragma omp simd
    for (int64_t c = 0; c < cols; c++) largest[c] = p[c] > largest[c] ? p[c] : largest[c];
  }
}

// sum[c] = the sum over the rows of exp(x - shift[c]); with Keep the terms are stored in y too.
template <bool Keep, class V>
VT_INLINE void column_sum_exp(const V *x, int64_t stride, V *y, int64_t y_stride, int64_t n,
                              int64_t cols, const V *shift, V *sum) {
  for (int64_t c = 0; c < cols; c++) sum[c] = V(0);
  for (int64_t r = 0; r < n; r++) {
    const V *p = x + r * stride;
    V *q = Keep ? y + r * y_stride : nullptr;
#pragma omp simd
    for (int64_t c = 0; c < cols; c++) {
      const V e = exp_small(p[c] - shift[c]);
      if (Keep) q[c] = e;
      sum[c] += e;
    }
  }
}

}  // namespace VT_NS

#endif
