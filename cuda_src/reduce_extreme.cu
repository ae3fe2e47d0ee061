// amax, amin, any, all. A minimum is the maximum of elements whose bits are turned round: all bits of
// integers, the sign of floating types.
#include "vt/reduce_ops.cuh"

namespace VT_NS {
namespace {

template <class E>
struct Extreme {
  using T = E;
  using V = typename compare_type<T>::type;
  using State = V;
  static __device__ __forceinline__ V larger(V a, V b) { return ((a > b) | (a != a)) ? a : b; }
  static __device__ __forceinline__ State start() { return lowest_value<V>(); }
  template <int N>
  static __device__ __forceinline__ void fold(const ReduceArgs &a, State &s, const T (&x)[N],
                                              int64_t, int64_t) {
#pragma unroll
    for (int k = 0; k < N; k++) s = larger(static_cast<V>(flipped(x[k], a.mask)), s);
  }
  static __device__ __forceinline__ void merge(State &s, State o) { s = larger(o, s); }
  static __device__ __forceinline__ void store(const ReduceArgs &a, int64_t offset, State s) {
    reinterpret_cast<T *>(a.out)[offset] = flipped(static_cast<T>(s), a.mask);
  }
};

// Elements as bits, of which those in the mask say whether the element is true.
template <class E>
struct Truth {
  using T = E;
  using State = uint32_t;  // any: a true one was seen; all: a false one
  static __device__ __forceinline__ State start() { return 0; }
  template <int N>
  static __device__ __forceinline__ void fold(const ReduceArgs &a, State &s, const T (&x)[N],
                                              int64_t, int64_t) {
#pragma unroll
    for (int k = 0; k < N; k++) s |= ((x[k] & static_cast<T>(a.mask)) != 0) == (a.flag != 0);
  }
  static __device__ __forceinline__ void merge(State &s, State o) { s |= o; }
  static __device__ __forceinline__ void store(const ReduceArgs &a, int64_t offset, State s) {
    reinterpret_cast<uint8_t *>(a.out)[offset] = (s != 0) == (a.flag != 0);
  }
};

}  // namespace
}  // namespace VT_NS

VT_REDUCE_KERNELS(extreme, u8, vt::Extreme<uint8_t>)
VT_REDUCE_KERNELS(extreme, i8, vt::Extreme<int8_t>)
VT_REDUCE_KERNELS(extreme, i16, vt::Extreme<int16_t>)
VT_REDUCE_KERNELS(extreme, i32, vt::Extreme<int32_t>)
VT_REDUCE_KERNELS(extreme, i64, vt::Extreme<int64_t>)
VT_REDUCE_KERNELS(extreme, f16, vt::Extreme<vt::half>)
VT_REDUCE_KERNELS(extreme, bf16, vt::Extreme<vt::bfloat16>)
VT_REDUCE_KERNELS(extreme, f32, vt::Extreme<float>)
VT_REDUCE_KERNELS(extreme, f64, vt::Extreme<double>)

// One for every element size.
VT_REDUCE_KERNELS(truth, u8, vt::Truth<uint8_t>)
VT_REDUCE_KERNELS(truth, i16, vt::Truth<uint16_t>)
VT_REDUCE_KERNELS(truth, i32, vt::Truth<uint32_t>)
VT_REDUCE_KERNELS(truth, i64, vt::Truth<uint64_t>)
