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

}  // namespace VT_NS
#endif
