// sum, mean and prod. Integers wrap, so they are taken unsigned; half types accumulate in float.
#include "vt/reduce_ops.cuh"

namespace VT_NS {
namespace {

template <class E>
struct Sum {
  using T = E;
  using State = acc_t<T>;
  static __device__ __forceinline__ State start() { return State(0); }
  template <int N>
  static __device__ __forceinline__ void fold(const ReduceArgs &, State &s, const T (&x)[N],
                                              int64_t, int64_t) {
    State v[N];
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = static_cast<State>(x[k]);
    // A tree: fewer steps that wait for each other.
#pragma unroll
    for (int n = N; n > 1; n = (n + 1) / 2) {
#pragma unroll
      for (int k = 0; k < n / 2; k++) v[k] += v[k + (n + 1) / 2];
    }
    s += v[0];
  }
  static __device__ __forceinline__ void merge(State &s, State o) { s += o; }
  static __device__ __forceinline__ void store(const ReduceArgs &a, int64_t offset, State s) {
    store_floating<T>(a, offset, a.flag ? s / static_cast<State>(a.elements) : s);
  }
};

template <class E>
struct IntegerSum {
  using T = E;
  using State = uint64_t;
  static __device__ __forceinline__ State start() { return 0; }
  // Narrow elements of one call are added in 32 bits first.
  template <int N>
  static __device__ __forceinline__ void fold(const ReduceArgs &, State &s, const T (&x)[N],
                                              int64_t, int64_t) {
    if constexpr (sizeof(T) <= 2) {
      int32_t sum = 0;
#pragma unroll
      for (int k = 0; k < N; k++) sum += static_cast<int32_t>(x[k]);
      s += static_cast<uint64_t>(static_cast<int64_t>(sum));
    } else {
#pragma unroll
      for (int k = 0; k < N; k++) s += static_cast<uint64_t>(static_cast<int64_t>(x[k]));
    }
  }
  static __device__ __forceinline__ void merge(State &s, State o) { s += o; }
  static __device__ __forceinline__ void store(const ReduceArgs &a, int64_t offset, State s) {
    reinterpret_cast<uint64_t *>(a.out)[offset] = s;
  }
};

template <class E>
struct Prod {
  using T = E;
  using State = acc_t<T>;
  static __device__ __forceinline__ State start() { return State(1); }
  template <int N>
  static __device__ __forceinline__ void fold(const ReduceArgs &, State &s, const T (&x)[N],
                                              int64_t, int64_t) {
#pragma unroll
    for (int k = 0; k < N; k++) s = s * static_cast<State>(x[k]);
  }
  static __device__ __forceinline__ void merge(State &s, State o) { s = s * o; }
  static __device__ __forceinline__ void store(const ReduceArgs &a, int64_t offset, State s) {
    reinterpret_cast<T *>(a.out)[offset] = static_cast<T>(s);
  }
};

template <class E>
struct IntegerProd {
  using T = E;
  using State = uint64_t;
  static __device__ __forceinline__ State start() { return 1; }
  template <int N>
  static __device__ __forceinline__ void fold(const ReduceArgs &, State &s, const T (&x)[N],
                                              int64_t, int64_t) {
#pragma unroll
    for (int k = 0; k < N; k++) s *= static_cast<uint64_t>(static_cast<int64_t>(x[k]));
  }
  static __device__ __forceinline__ void merge(State &s, State o) { s *= o; }
  static __device__ __forceinline__ void store(const ReduceArgs &a, int64_t offset, State s) {
    reinterpret_cast<uint64_t *>(a.out)[offset] = s;
  }
};

}  // namespace
}  // namespace VT_NS

VT_REDUCE_KERNELS(sum, u8, vt::IntegerSum<uint8_t>)
VT_REDUCE_KERNELS(sum, i8, vt::IntegerSum<int8_t>)
VT_REDUCE_KERNELS(sum, i16, vt::IntegerSum<int16_t>)
VT_REDUCE_KERNELS(sum, i32, vt::IntegerSum<int32_t>)
VT_REDUCE_KERNELS(sum, i64, vt::IntegerSum<int64_t>)
VT_REDUCE_KERNELS(sum, f16, vt::Sum<vt::half>)
VT_REDUCE_KERNELS(sum, bf16, vt::Sum<vt::bfloat16>)
VT_REDUCE_KERNELS(sum, f32, vt::Sum<float>)
VT_REDUCE_KERNELS(sum, f64, vt::Sum<double>)

VT_REDUCE_KERNELS(prod, u8, vt::IntegerProd<uint8_t>)
VT_REDUCE_KERNELS(prod, i8, vt::IntegerProd<int8_t>)
VT_REDUCE_KERNELS(prod, i16, vt::IntegerProd<int16_t>)
VT_REDUCE_KERNELS(prod, i32, vt::IntegerProd<int32_t>)
VT_REDUCE_KERNELS(prod, i64, vt::IntegerProd<int64_t>)
VT_REDUCE_KERNELS(prod, f16, vt::Prod<vt::half>)
VT_REDUCE_KERNELS(prod, bf16, vt::Prod<vt::bfloat16>)
VT_REDUCE_KERNELS(prod, f32, vt::Prod<float>)
VT_REDUCE_KERNELS(prod, f64, vt::Prod<double>)
VT_REDUCE_KERNELS(prod, c64, vt::Prod<vt::complex64>)
VT_REDUCE_KERNELS(prod, c128, vt::Prod<vt::complex128>)
