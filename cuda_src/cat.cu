// Joins arrays without gaps along a dimension: all inputs in one launch, blockIdx.y is the input. A
// unit is as wide as the widths and addresses allow, so the kernels differ by its size only.
#include "vt/copy_args.h"

namespace vt {

struct alignas(16) Bytes16 {
  uint64_t lo, hi;
};

template <class T>
__device__ __forceinline__ void cat(const CatArgs &a) {
  const int k = blockIdx.y;
  const uint32_t width = a.width[k].divisor, n = width * a.rows;
  const uint32_t first = blockIdx.x * (kCatThreads * kCatUnits) + threadIdx.x;
  const T *in = reinterpret_cast<const T *>(a.in[k]);
  T *out = reinterpret_cast<T *>(a.out) + a.at[k];
  T x[kCatUnits];
#pragma unroll
  for (int u = 0; u < kCatUnits; u++) {
    const uint32_t i = first + u * kCatThreads;
    if (i < n) x[u] = in[i];
  }
#pragma unroll
  for (int u = 0; u < kCatUnits; u++) {
    const uint32_t i = first + u * kCatThreads;
    if (i >= n) continue;
    const uint32_t row = a.width[k].quotient(i);
    out[row * a.row + (i - row * width)] = x[u];
  }
}

}  // namespace vt

#define VT_CAT(N, T)                                            \
  extern "C" __global__ void __launch_bounds__(vt::kCatThreads) \
      vt_cat_##N(const __grid_constant__ vt::CatArgs a) {       \
    vt::cat<T>(a);                                              \
  }
VT_CAT(1, uint8_t)
VT_CAT(2, uint16_t)
VT_CAT(4, uint32_t)
VT_CAT(8, uint64_t)
VT_CAT(16, vt::Bytes16)
