// The norm of rows that stay in registers, wherever they come from.
#ifndef VT_NORM_ROWS_CUH
#define VT_NORM_ROWS_CUH

#include "vt/norm.cuh"
#include "vt/words.cuh"

namespace VT_NS {

// The element that a thread's p-th pack of K begins with: neighbouring threads have neighbouring packs.
template <int K>
__device__ __forceinline__ int pack_at(int p) {
  return (p * int(blockDim.x) + int(threadIdx.x)) * K;
}
// The thread's packs of a row of n elements; what lies beyond is zero.
template <class T, int K, int P>
__device__ __forceinline__ void load_words(Words<T, K> (&to)[P], const void *row, int n) {
#pragma unroll
  for (int p = 0; p < P; p++) {
    to[p] = Words<T, K>::none();
    if (pack_at<K>(p) < n) to[p] = Words<T, K>::load(static_cast<const T *>(row) + pack_at<K>(p));
  }
}

// Each group takes every so many-th row, which must be made of whole packs, P of them for each thread.
// A row stays in registers as it is stored, as do the weight and the bias, which are read once.
// With kAhead the next row is fetched while one is worked on: for rows so wide that too few groups are
// there to do it in turn.
// Source<T, P>: fetch() asks for a row (n is 0 beyond the last one), take() has it. The norm is stored as O.
template <class T, class O, int P, bool kAhead, class Source>
__device__ __forceinline__ void norm_rows(const NormArgs &a, Source &source) {
  using V = acc_t<T>;
  constexpr int K = kPack<T>;
  __shared__ V room[Group<V>::kRoom];
  Group<V> group(room);
  const int rows = int(a.rows), width = int(a.n), step = gridDim.x * blockDim.y;
  const V count = static_cast<V>(a.n), scale = V(1) / count;
  const bool rms = a.rms, has_weight = a.weight.data, has_bias = a.bias.data;
  Words<T, K> weight[P], bias[P], now[P];
  load_words(weight, a.weight.data, has_weight ? width : 0);
  load_words(bias, a.bias.data, has_bias ? width : 0);
  int first = blockIdx.x * blockDim.y, row = first + threadIdx.y;
  if constexpr (kAhead) source.fetch(row, row < rows ? width : 0);
#pragma unroll 1
  for (; first < rows; first += step, row += step) {
    const int n = row < rows ? width : 0;
    if constexpr (!kAhead) source.fetch(row, n);
    source.take(now, row, n);
    if constexpr (kAhead) source.fetch(row + step, row + step < rows ? width : 0);
    hold(weight);
    hold(bias);
    hold(now);
    V v[K], mean = V(0), sum = V(0);
    if (!rms) {
#pragma unroll
      for (int p = 0; p < P; p++) {
        now[p].open(v);
#pragma unroll
        for (int k = 0; k < K; k++) sum += v[k];
      }
      mean = group.fold(sum, Add<V>()) / count;  // of a constant row its very value
      sum = V(0);
      hold(now);
    }
#pragma unroll
    for (int p = 0; p < P; p++) {
      if (pack_at<K>(p) >= n) continue;
      now[p].open(v);
#pragma unroll
      for (int k = 0; k < K; k++) sum += (v[k] - mean) * (v[k] - mean);
    }
    sum = group.fold(sum, Add<V>());
    hold(now);
    const V rstd = V(1) / sqrt_of(sum * scale + static_cast<V>(a.eps));
    O *const out = static_cast<O *>(a.out) + row * a.out_stride;
#pragma unroll
    for (int p = 0; p < P; p++) {
      if (pack_at<K>(p) >= n) continue;
      V f[K];
      now[p].open(v);
#pragma unroll
      for (int k = 0; k < K; k++) v[k] = (v[k] - mean) * rstd;
      if (has_weight) {
        weight[p].open(f);
#pragma unroll
        for (int k = 0; k < K; k++) v[k] *= f[k];
      }
      if (has_bias) {
        bias[p].open(f);
#pragma unroll
        for (int k = 0; k < K; k++) v[k] += f[k];
      }
      Words<O, K>::of(v).store(out + pack_at<K>(p));
    }
    if (threadIdx.x == 0 && n > 0) {
      if (a.mean) static_cast<V *>(a.mean)[row] = mean;
      if (a.rstd) static_cast<V *>(a.rstd)[row] = rstd;
    }
  }
}

}  // namespace VT_NS
#endif
