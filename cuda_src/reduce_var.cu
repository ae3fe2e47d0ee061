// var: count, mean and sum of squared distances, merged as by Chan, Golub and LeVeque (1979). The
// elements of one load are a block of their own, so that the divisions are few.
#include "vt/reduce_ops.cuh"

namespace VT_NS {
namespace {

template <class E>
struct Var {
  using T = E;
  using V = acc_t<T>;
  struct State {
    V count, mean, squares;
  };
  static __device__ __forceinline__ void merge_parts(State &s, V count, V mean, V squares) {
    if (count == V(0)) return;
    const V total = s.count + count, distance = mean - s.mean, share = count / total;
    s.mean += distance * share;
    s.squares += squares + distance * distance * (s.count * share);
    s.count = total;
  }
  static __device__ __forceinline__ State start() { return {V(0), V(0), V(0)}; }
  template <int N>
  static __device__ __forceinline__ void fold(const ReduceArgs &, State &s, const T (&x)[N],
                                              int64_t, int64_t) {
    V sum = V(0), squares = V(0);
#pragma unroll
    for (int k = 0; k < N; k++) sum += static_cast<V>(x[k]);
    const V mean = sum * V(1. / N);
#pragma unroll
    for (int k = 0; k < N; k++) {
      const V d = static_cast<V>(x[k]) - mean;
      squares += d * d;
    }
    merge_parts(s, V(N), mean, squares);
  }
  static __device__ __forceinline__ void merge(State &s, const State &o) {
    merge_parts(s, o.count, o.mean, o.squares);
  }
  static __device__ __forceinline__ void store(const ReduceArgs &a, int64_t offset,
                                               const State &s) {
    const double freedom = static_cast<double>(a.elements) - a.correction;
    const V v = s.squares / static_cast<V>(freedom > 0 ? freedom : 0.);
    reinterpret_cast<T *>(a.out)[offset] = static_cast<T>(a.elements > 0 ? v : V(0) / V(0));
  }
};

}  // namespace
}  // namespace VT_NS

VT_REDUCE_KERNELS(var, f16, vt::Var<vt::half>)
VT_REDUCE_KERNELS(var, bf16, vt::Var<vt::bfloat16>)
VT_REDUCE_KERNELS(var, f32, vt::Var<float>)
VT_REDUCE_KERNELS(var, f64, vt::Var<double>)
