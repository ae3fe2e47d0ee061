// Layer norm and rms norm of residual + dropout(x), which is stored as well.
#include "vt/norm_rows.cuh"

namespace VT_NS {
namespace {

// Rows of a sum. It is stored, and goes on as it was stored.
template <class T, class X, int P>
struct AddedRows {
  static constexpr int K = kPack<T>;
  using V = acc_t<T>;
  const AddNormArgs &a;
  Words<T, K> residual[P];
  Words<X, K> x[P];

  __device__ __forceinline__ explicit AddedRows(const AddNormArgs &args) : a(args) {}
  __device__ __forceinline__ void fetch(int row, int n) {
    load_words(residual, static_cast<const T *>(a.residual) + row * a.residual_stride, n);
    load_words(x, static_cast<const X *>(a.x) + row * a.x_stride, n);
  }
  __device__ __forceinline__ void take(Words<T, K> (&now)[P], int row, int n) const {
    T *const sum = static_cast<T *>(a.sum) + row * a.sum_stride;
#pragma unroll
    for (int p = 0; p < P; p++) {
      const int i = pack_at<K>(p);
      now[p] = residual[p];
      if (i >= n) continue;
      V v[K], y[K];
      residual[p].open(v);
      x[p].open(y);
      if (a.dropout.active) a.dropout.template apply<V, K>(y, row * a.norm.n + i);
#pragma unroll
      for (int k = 0; k < K; k++) v[k] += y[k];
      now[p] = Words<T, K>::of(v);
      now[p].store(sum + i);
    }
  }
};

template <class T, class X, class O, int P, bool kAhead>
__device__ __forceinline__ void norm_added(const AddNormArgs &a) {
  AddedRows<T, X, P> rows(a);
  norm_rows<T, O, P, kAhead>(a.norm, rows);
}

// The sum of a long row, then its norm.
template <class T, class X, class O>
__device__ __forceinline__ void add_norm_long(const AddNormArgs &a) {
  using V = acc_t<T>;
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t n = row < a.norm.rows ? a.norm.n : 0;
  const X *const x = static_cast<const X *>(a.x) + row * a.x_stride;
  const T *const residual = static_cast<const T *>(a.residual) + row * a.residual_stride;
  T *const sum = static_cast<T *>(a.sum) + row * a.sum_stride;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    V y[1] = {static_cast<V>(x[i])};
    if (a.dropout.active) a.dropout.template apply<V, 1>(y, row * a.norm.n + i);
    sum[i] = store_as<T>(static_cast<V>(residual[i]) + y[0]);
  }
  __syncthreads();
  NormArgs norm = a.norm;
  norm.x = a.sum;
  norm.x_stride = a.sum_stride;
  norm_long<T, O>(norm);
}

}  // namespace
}  // namespace VT_NS

#define VT_ADD_NORM_KERNELS(SUFFIX, T, X, O)                                 \
  extern "C" __global__ void __maxnreg__(vt::kAddNormRows.registers)         \
      vt_add_norm_rows_##SUFFIX(const __grid_constant__ vt::AddNormArgs a) { \
    vt::norm_added<T, X, O, vt::kAddNormRows.packs, false>(a);               \
  }                                                                          \
  extern "C" __global__ void __maxnreg__(vt::kAddNormWide.registers)         \
      vt_add_norm_wide_##SUFFIX(const __grid_constant__ vt::AddNormArgs a) { \
    vt::norm_added<T, X, O, vt::kAddNormWide.packs, true>(a);                \
  }                                                                          \
  extern "C" __global__ void __launch_bounds__(vt::kNormLong, 1)             \
      vt_add_norm_long_##SUFFIX(const __grid_constant__ vt::AddNormArgs a) { \
    vt::add_norm_long<T, X, O>(a);                                           \
  }

VT_ADD_NORM_KERNELS(f16, vt::half, vt::half, vt::half)
VT_ADD_NORM_KERNELS(bf16, vt::bfloat16, vt::bfloat16, vt::bfloat16)
VT_ADD_NORM_KERNELS(f32, float, float, float)
VT_ADD_NORM_KERNELS(f64, double, double, double)
// A half type added to float; the norm is of either.
VT_ADD_NORM_KERNELS(f16_f32, float, vt::half, float)
VT_ADD_NORM_KERNELS(bf16_f32, float, vt::bfloat16, float)
VT_ADD_NORM_KERNELS(f16_low, float, vt::half, vt::half)
VT_ADD_NORM_KERNELS(bf16_low, float, vt::bfloat16, vt::bfloat16)
