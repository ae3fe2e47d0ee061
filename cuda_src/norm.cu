// Layer norm and rms norm over rows of neighbouring elements.
#include "vt/norm.cuh"
#include "vt/words.cuh"

namespace VT_NS {
namespace {

// Each group takes every so many-th row, which must be made of whole packs, P of them for each thread.
// A row stays in registers, as do the weight and the bias, which are read once. With kAhead the next row
// is fetched while one is worked on: for rows so wide that too few groups are there to do it in turn.
template <class T, int P, bool kAhead>
__device__ __forceinline__ void norm_rows(const NormArgs &a) {
  using V = acc_t<T>;
  constexpr int K = kPack<T>;
  using Slice = Words<T, K>;
  __shared__ V room[Group<V>::kRoom];
  Group<V> group(room);
  const int rows = int(a.rows), width = int(a.n), step = gridDim.x * blockDim.y;
  const V count = static_cast<V>(a.n), scale = V(1) / count;
  const bool rms = a.rms, has_weight = a.weight.data, has_bias = a.bias.data;
  const auto at = [](int p) { return (p * int(blockDim.x) + int(threadIdx.x)) * K; };
  const auto fetch = [&](Slice(&to)[P], const void *from, int64_t offset, bool there) {
#pragma unroll
    for (int p = 0; p < P; p++) {
      to[p] = Slice::none();
      if (there && at(p) < width)
        to[p] = Slice::load(static_cast<const T *>(from) + offset + at(p));
    }
  };
  Slice weight[P], bias[P], now[P], next[P];
  fetch(weight, a.weight.data, 0, has_weight);
  fetch(bias, a.bias.data, 0, has_bias);
  int first = blockIdx.x * blockDim.y, row = first + threadIdx.y;
  if constexpr (kAhead) fetch(next, a.x, row * a.x_stride, row < rows);
#pragma unroll 1
  for (; first < rows; first += step, row += step) {
    if constexpr (kAhead) {
#pragma unroll
      for (int p = 0; p < P; p++) now[p] = next[p];
      fetch(next, a.x, (row + step) * a.x_stride, row + step < rows);
    } else {
      fetch(now, a.x, row * a.x_stride, row < rows);
    }
    hold(weight);
    hold(bias);
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
    const int n = row < rows ? width : 0;
#pragma unroll
    for (int p = 0; p < P; p++) {
      if (at(p) >= n) continue;
      now[p].open(v);
#pragma unroll
      for (int k = 0; k < K; k++) sum += (v[k] - mean) * (v[k] - mean);
    }
    sum = group.fold(sum, Add<V>());
    hold(now);
    const V rstd = V(1) / sqrt_of(sum * scale + static_cast<V>(a.eps));
    T *const out = static_cast<T *>(a.out) + row * a.out_stride;
#pragma unroll
    for (int p = 0; p < P; p++) {
      if (at(p) >= n) continue;
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
      Pack<T, K> y;
#pragma unroll
      for (int k = 0; k < K; k++) y.x[k] = store_as<T>(v[k]);
      store_pack<T, K>(out + at(p), y);
    }
    if (threadIdx.x == 0 && n > 0) {
      if (a.mean) static_cast<V *>(a.mean)[row] = mean;
      if (a.rstd) static_cast<V *>(a.rstd)[row] = rstd;
    }
  }
}

}  // namespace
}  // namespace VT_NS

#define VT_NORM_KERNELS(SUFFIX, T)                                    \
  extern "C" __global__ void __maxnreg__(vt::kNormRows.registers)     \
      vt_norm_rows_##SUFFIX(const __grid_constant__ vt::NormArgs a) { \
    vt::norm_rows<T, vt::kNormRows.packs, false>(a);                  \
  }                                                                   \
  extern "C" __global__ void __maxnreg__(vt::kNormWide.registers)     \
      vt_norm_wide_##SUFFIX(const __grid_constant__ vt::NormArgs a) { \
    vt::norm_rows<T, vt::kNormWide.packs, true>(a);                   \
  }                                                                   \
  extern "C" __global__ void __launch_bounds__(vt::kNormLong, 1)      \
      vt_norm_long_##SUFFIX(const __grid_constant__ vt::NormArgs a) { \
    vt::norm_long<T>(a);                                              \
  }

VT_NORM_KERNELS(f16, vt::half)
VT_NORM_KERNELS(bf16, vt::bfloat16)
VT_NORM_KERNELS(f32, float)
VT_NORM_KERNELS(f64, double)
