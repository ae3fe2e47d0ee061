// The derivative of GELU applied to a gradient in place, and the sums of the result over the rows, which are
// the gradient of the bias before it: memory is read once and written once. The library's own epilogue does
// the same in a kernel that takes three times as long.
#include "vt/activation.h"
#include "vt/gelu_rows_args.h"
#include "vt/pack.cuh"

namespace VT_NS {
namespace {

template <class T>
__device__ __forceinline__ void gelu_backward_rows(const GeluRowsArgs &a) {
  using V = acc_t<T>;
  constexpr int K = kPack<T>, W = kGeluRowsX * K;
  __shared__ V room[kGeluRowsY][W];
  const int64_t first = int64_t(blockIdx.x) * W, c = first + threadIdx.x * K;
  const int64_t step = int64_t(gridDim.y) * kGeluRowsY;
  V sums[K];
#pragma unroll
  for (int k = 0; k < K; k++) sums[k] = V(0);
  if (c < a.n) {
    T *const grad = static_cast<T *>(a.grad) + c;
    const T *const x = static_cast<const T *>(a.x) + c;
#pragma unroll 2
    for (int64_t r = int64_t(blockIdx.y) * kGeluRowsY + threadIdx.y; r < a.rows; r += step) {
      Pack<T, K> g = load_pack<T, K>(grad + r * a.n);
      const Pack<T, K> at = load_pack<T, K>(x + r * a.n);
#pragma unroll
      for (int k = 0; k < K; k++) {
        g.x[k] = store_as<T>(gelu_tanh_backward(static_cast<V>(g.x[k]), static_cast<V>(at.x[k])));
        sums[k] += static_cast<V>(g.x[k]);
      }
      store_pack<T, K>(grad + r * a.n, g);
    }
  }
  if (!a.sums) return;
#pragma unroll
  for (int k = 0; k < K; k++) room[threadIdx.y][threadIdx.x * K + k] = sums[k];
  __syncthreads();
  for (int i = threadIdx.y * kGeluRowsX + threadIdx.x; i < W; i += kGeluRowsX * kGeluRowsY) {
    V sum = room[0][i];
    for (int y = 1; y < kGeluRowsY; y++) sum += room[y][i];
    if (first + i < a.n) static_cast<V *>(a.sums)[int64_t(blockIdx.y) * a.n + first + i] = sum;
  }
}

}  // namespace
}  // namespace VT_NS

#define VT_GELU_ROWS_KERNEL(SUFFIX, T)                                             \
  extern "C" __global__ void __launch_bounds__(vt::kGeluRowsX *vt::kGeluRowsY)     \
      vt_gelu_backward_rows_##SUFFIX(const __grid_constant__ vt::GeluRowsArgs a) { \
    vt::gelu_backward_rows<T>(a);                                                  \
  }

VT_GELU_ROWS_KERNEL(f16, vt::half)
VT_GELU_ROWS_KERNEL(bf16, vt::bfloat16)
VT_GELU_ROWS_KERNEL(f32, float)
VT_GELU_ROWS_KERNEL(f64, double)
