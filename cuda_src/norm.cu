// Layer norm and rms norm over rows of neighbouring elements.
#include "vt/norm_rows.cuh"

namespace VT_NS {
namespace {

// Rows of an array.
template <class T, int P>
struct StoredRows {
  static constexpr int K = kPack<T>;
  const NormArgs &a;
  Words<T, K> next[P];

  __device__ __forceinline__ explicit StoredRows(const NormArgs &args) : a(args) {}
  __device__ __forceinline__ void fetch(int row, int n) {
    load_words(next, static_cast<const T *>(a.x) + row * a.x_stride, n);
  }
  __device__ __forceinline__ void take(Words<T, K> (&now)[P], int, int) const {
#pragma unroll
    for (int p = 0; p < P; p++) now[p] = next[p];
  }
};

template <class T, int P, bool kAhead>
__device__ __forceinline__ void norm_stored(const NormArgs &a) {
  StoredRows<T, P> rows(a);
  norm_rows<T, T, P, kAhead>(a, rows);
}

}  // namespace
}  // namespace VT_NS

#define VT_NORM_KERNELS(SUFFIX, T)                                    \
  extern "C" __global__ void __maxnreg__(vt::kNormRows.registers)     \
      vt_norm_rows_##SUFFIX(const __grid_constant__ vt::NormArgs a) { \
    vt::norm_stored<T, vt::kNormRows.packs, false>(a);                \
  }                                                                   \
  extern "C" __global__ void __maxnreg__(vt::kNormWide.registers)     \
      vt_norm_wide_##SUFFIX(const __grid_constant__ vt::NormArgs a) { \
    vt::norm_stored<T, vt::kNormWide.packs, true>(a);                 \
  }                                                                   \
  extern "C" __global__ void __launch_bounds__(vt::kNormLong, 1)      \
      vt_norm_long_##SUFFIX(const __grid_constant__ vt::NormArgs a) { \
    vt::norm_long<T>(a);                                              \
  }

VT_NORM_KERNELS(f16, vt::half)
VT_NORM_KERNELS(bf16, vt::bfloat16)
VT_NORM_KERNELS(f32, float)
VT_NORM_KERNELS(f64, double)
