// What the kernels of layer norm and rms norm share.
#ifndef VT_NORM_CUH
#define VT_NORM_CUH

#include "vt/norm_args.h"
#include "vt/rows.cuh"

namespace VT_NS {

// v[e] = f(v[e], p[e]) over the thread's slice of a row; without a parameter nothing.
template <class T, int E, class F>
__device__ __forceinline__ void map_parameter(acc_t<T> (&v)[E], const Parameter &p, int n,
                                              const F &f) {
  using V = acc_t<T>;
  using Slice = RowSlice<T, E>;
  constexpr int K = Slice::K;
  if (!p.data) return;
  with_floating(p.data, p.dtype, [&](auto data) {
    using W = typename pointee<decltype(data)>::type;
#pragma unroll
    for (int k = 0; k < Slice::P; k++) {
      const int i = Slice::index(true, k * K);
      if (i < n) {
        const Pack<W, K> w = load_pack<W, K>(data + i);
#pragma unroll
        for (int j = 0; j < K; j++) v[k * K + j] = f(v[k * K + j], as_compute<V>(w.x[j]));
      }
    }
  });
}

// Whether rows of two types can be walked in packs together.
template <class A, class B>
__device__ __forceinline__ bool in_phase(const A *a, const B *b) {
  if constexpr (sizeof(A) != sizeof(B)) return false;
  return same_phase(reinterpret_cast<const char *>(a), reinterpret_cast<const char *>(b));
}

// A row of any length and alignment is read twice: first for its moments, merged as those of var.
template <class V>
struct Moments {
  V count, mean, squares;
  __device__ __forceinline__ void merge(V n, V m, V s) {
    if (n == V(0)) return;
    const V total = count + n, distance = m - mean, share = n / total;
    mean += distance * share;
    squares += s + distance * distance * (count * share);
    count = total;
  }
};

// The norm is stored as O.
template <class T, class O = T>
__device__ __forceinline__ void norm_long(const NormArgs &a) {
  using V = acc_t<T>;
  __shared__ Moments<V> room[Group<V>::kRoom];
  Group<Moments<V>> group(room);
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t n = row < a.rows ? a.n : 0;
  const T *const x = static_cast<const T *>(a.x) + row * a.x_stride;
  O *const y = static_cast<O *>(a.out) + row * a.out_stride;
  const bool rms = a.rms;
  Moments<V> m = {V(0), V(0), V(0)};
  for_row(x, n, true, [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    const Pack<T, N> p = load_pack<T, N>(x + i);
    V mean = V(0), squares = V(0);
    if (!rms) {
#pragma unroll
      for (int k = 0; k < N; k++) mean += static_cast<V>(p.x[k]);
      mean *= V(1. / N);
    }
#pragma unroll
    for (int k = 0; k < N; k++) {
      const V d = static_cast<V>(p.x[k]) - mean;
      squares += d * d;
    }
    if (rms) {
      m.squares += squares;
    } else {
      m.merge(V(N), mean, squares);
    }
  });
  m = group.fold(m, [rms](Moments<V> p, const Moments<V> &q) {
    if (rms) {
      p.squares += q.squares;
    } else {
      p.merge(q.count, q.mean, q.squares);
    }
    return p;
  });
  const V rstd = V(1) / sqrt_of(m.squares / static_cast<V>(a.n) + static_cast<V>(a.eps));
  const V mean = m.mean;
  const bool has_weight = a.weight.data, has_bias = a.bias.data;
  // Without a weight or a bias the other one stands in, unread.
  with_floating(a.weight.data, a.weight.dtype, [&](auto weight) {
    for_row(y, n, in_phase(x, y), [&](auto count, int64_t i) {
      constexpr int N = decltype(count)::value;
      const Pack<T, N> p = load_pack<T, N>(x + i);
      Pack<O, N> out;
#pragma unroll
      for (int k = 0; k < N; k++) {
        V v = (static_cast<V>(p.x[k]) - mean) * rstd;
        if (has_weight) v *= as_compute<V>(weight[i + k]);
        if (has_bias) {
          with_floating(a.bias.data, a.bias.dtype,
                        [&](auto bias) { v += as_compute<V>(bias[i + k]); });
        }
        out.x[k] = store_as<O>(v);
      }
      store_pack<O, N>(y + i, out);
    });
  });
  if (threadIdx.x == 0 && n > 0) {
    if (a.mean) static_cast<V *>(a.mean)[row] = mean;
    if (a.rstd) static_cast<V *>(a.rstd)[row] = rstd;
  }
}

}  // namespace VT_NS
#endif
