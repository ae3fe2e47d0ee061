// silu(gate) * up and its gradients. Every input is read once, every result written once.
#include "vt/activation.h"
#include "vt/pack.cuh"
#include "vt/swiglu_args.h"

namespace VT_NS {
namespace {

// Calls f(row, i) for every row of this block's threads and every N-th of its n elements.
template <int N, class F>
__device__ __forceinline__ void for_elements(int64_t rows, int64_t n, const F &f) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const int64_t step = int64_t(gridDim.y) * blockDim.x * N;
#pragma unroll 2
  for (int64_t i = (int64_t(blockIdx.y) * blockDim.x + threadIdx.x) * N; i < n; i += step)
    f(row, i);
}

template <class T, int N>
__device__ __forceinline__ void forward(const SwigluArgs &a) {
  using V = acc_t<T>;
  for_elements<N>(a.rows, a.n, [&](int64_t row, int64_t i) {
    const auto gate = load_pack<T, N>(static_cast<const T *>(a.gate) + row * a.gate_stride + i);
    const auto up = load_pack<T, N>(static_cast<const T *>(a.up) + row * a.up_stride + i);
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; k++) {
      out.x[k] = store_as<T>(silu(static_cast<V>(gate.x[k])) * static_cast<V>(up.x[k]));
    }
    store_pack<T, N>(static_cast<T *>(a.out) + row * a.out_stride + i, out);
  });
}

// With s = sigmoid(gate): dgate = g up s (1 + gate (1 - s)), dup = g gate s.
template <class T, int N>
__device__ __forceinline__ void backward(const SwigluBackwardArgs &a) {
  using V = acc_t<T>;
  for_elements<N>(a.rows, a.n, [&](int64_t row, int64_t i) {
    const auto g = load_pack<T, N>(static_cast<const T *>(a.g) + row * a.g_stride + i);
    const auto gate = load_pack<T, N>(static_cast<const T *>(a.gate) + row * a.gate_stride + i);
    const auto up = load_pack<T, N>(static_cast<const T *>(a.up) + row * a.up_stride + i);
    Pack<T, N> dgate, dup;
#pragma unroll
    for (int k = 0; k < N; k++) {
      const V d = static_cast<V>(g.x[k]), x = static_cast<V>(gate.x[k]);
      const V s = sigmoid(x);
      dgate.x[k] = store_as<T>(d * static_cast<V>(up.x[k]) * (s * (V(1) + x * (V(1) - s))));
      dup.x[k] = store_as<T>(d * (x * s));
    }
    if (a.dgate) store_pack<T, N>(static_cast<T *>(a.dgate) + row * a.dgate_stride + i, dgate);
    if (a.dup) store_pack<T, N>(static_cast<T *>(a.dup) + row * a.dup_stride + i, dup);
  });
}

}  // namespace
}  // namespace VT_NS

#define VT_SWIGLU_KERNEL(NAME, F, ARGS, SUFFIX, T)                 \
  extern "C" __global__ void __launch_bounds__(vt::kSwigluThreads) \
      NAME##_##SUFFIX(const __grid_constant__ vt::ARGS a) {        \
    if (a.packed) {                                                \
      vt::F<T, vt::kPack<T>>(a);                                   \
    } else {                                                       \
      vt::F<T, 1>(a);                                              \
    }                                                              \
  }
#define VT_SWIGLU_KERNELS(SUFFIX, T)                          \
  VT_SWIGLU_KERNEL(vt_swiglu, forward, SwigluArgs, SUFFIX, T) \
  VT_SWIGLU_KERNEL(vt_swiglu_backward, backward, SwigluBackwardArgs, SUFFIX, T)

VT_SWIGLU_KERNELS(f16, vt::half)
VT_SWIGLU_KERNELS(bf16, vt::bfloat16)
VT_SWIGLU_KERNELS(f32, float)
VT_SWIGLU_KERNELS(f64, double)
