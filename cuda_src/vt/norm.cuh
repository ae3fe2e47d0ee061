// What the kernels of layer norm and rms norm share: parameters of any floating dtype.
#ifndef VT_NORM_CUH
#define VT_NORM_CUH

#include "vt/norm_args.h"
#include "vt/rows.cuh"

namespace VT_NS {

template <class P>
struct pointee;
template <class T>
struct pointee<const T *> {
  using type = T;
};

// Calls f with a pointer of the C++ type of a floating dtype.
template <class F>
__device__ __forceinline__ void with_floating(const void *data, int dtype, const F &f) {
  switch (dtype) {
    case VT_F16:
      return f(static_cast<const half *>(data));
    case VT_BF16:
      return f(static_cast<const bfloat16 *>(data));
    case VT_F32:
      return f(static_cast<const float *>(data));
    default:
      return f(static_cast<const double *>(data));
  }
}

// x as the compute type V, from any floating type.
template <class V, class T>
__device__ __forceinline__ V as_compute(T x) {
  return static_cast<V>(static_cast<acc_t<T>>(x));
}

// v[e] = f(v[e], p[e]) over the thread's slice of a row; without a parameter nothing.
template <class T, int E, class F>
__device__ __forceinline__ void map_parameter(acc_t<T> (&v)[E], const NormParameter &p, int n,
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

template <class V>
struct Two {
  V a, b;
};
template <class V>
struct AddTwo {
  __device__ __forceinline__ Two<V> operator()(const Two<V> &p, const Two<V> &q) const {
    return {p.a + q.a, p.b + q.b};
  }
};

}  // namespace VT_NS
#endif
