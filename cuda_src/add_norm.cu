// Layer norm and rms norm of residual + dropout(x), which is stored as well.
#include "vt/norm.cuh"

namespace VT_NS {
namespace {

// Where add_norm_rows gets its rows from: fetch() asks for one that will be needed, take() has it as numbers.
// The sum is stored, and goes on as it was stored.
template <class T, class X>
struct AddedRows {
  static constexpr int E = norm_slice(sizeof(T));
  using V = acc_t<T>;
  using Slice = RowSlice<T, E>;
  static constexpr int K = Slice::K;
  const AddNormArgs &a;
  const NormArgs &norm;
  typename Slice::Raw residual;
  Pack<X, K> x[Slice::P];

  __device__ __forceinline__ explicit AddedRows(const AddNormArgs &args)
      : a(args), norm(args.norm) {}
  __device__ __forceinline__ void fetch(int64_t row, int n) {
    const X *const from = static_cast<const X *>(a.x) + row * a.x_stride;
#pragma unroll
    for (int p = 0; p < Slice::P; p++) {
      const int i = Slice::index(true, p * K);
      if (i < n) x[p] = load_pack<X, K>(from + i);
    }
    Slice::fetch(residual, static_cast<const T *>(a.residual) + row * a.residual_stride, n, 1,
                 true);
  }
  __device__ __forceinline__ void take(V (&v)[E], int64_t row, int n) const {
    Slice::unpack(v, residual, n, true, V(0));
#pragma unroll
    for (int p = 0; p < Slice::P; p++) {
      const int i = Slice::index(true, p * K);
      if (i >= n) continue;
      V y[K];
#pragma unroll
      for (int k = 0; k < K; k++) y[k] = static_cast<V>(x[p].x[k]);
      if (a.dropout.active) a.dropout.template apply<V, K>(y, row * norm.n + i);
#pragma unroll
      for (int k = 0; k < K; k++) v[p * K + k] = static_cast<V>(store_as<T>(v[p * K + k] + y[k]));
    }
    Slice::store(v, static_cast<T *>(a.sum) + row * a.sum_stride, n, 1, true);
  }
};

// Each group takes every so many-th row, which must be made of whole packs. A row stays in registers, and the next
// one is fetched while it is worked on.
template <class T, class X, class O>
__device__ __forceinline__ void add_norm_rows(const AddNormArgs &args) {
  using V = acc_t<T>;
  constexpr int E = norm_slice(sizeof(T));
  using Slice = RowSlice<T, E>;
  AddedRows<T, X> rows(args);
  const NormArgs &a = rows.norm;
  __shared__ V room[Group<V>::kRoom];
  Group<V> group(room);
  const int64_t step = int64_t(gridDim.x) * blockDim.y;
  const V count = static_cast<V>(a.n);
  int64_t first = int64_t(blockIdx.x) * blockDim.y, row = first + threadIdx.y;
  rows.fetch(row, row < a.rows ? int(a.n) : 0);
#pragma unroll 1
  for (; first < a.rows; first += step, row += step) {
    const int n = row < a.rows ? int(a.n) : 0;
    V v[E];
    rows.take(v, row, n);
    const int64_t next = row + step;
    rows.fetch(next, next < a.rows ? int(a.n) : 0);
    V mean = V(0), sum = V(0);
    if (!a.rms) {
#pragma unroll
      for (int e = 0; e < E; e++) sum += v[e];
      mean = group.fold(sum, Add<V>()) / count;
      sum = V(0);
#pragma unroll
      for (int e = 0; e < E; e++) v[e] = Slice::index(true, e) < n ? v[e] - mean : V(0);
    }
#pragma unroll
    for (int e = 0; e < E; e++) sum += v[e] * v[e];
    sum = group.fold(sum, Add<V>());
    const V rstd = V(1) / sqrt_of(sum / count + static_cast<V>(a.eps));
#pragma unroll
    for (int e = 0; e < E; e++) v[e] *= rstd;
    map_parameter<T>(v, a.weight, n, [](V p, V w) { return p * w; });
    map_parameter<T>(v, a.bias, n, [](V p, V b) { return p + b; });
    store_as_type<T>(v, static_cast<O *>(a.out) + row * a.out_stride, n);
    if (threadIdx.x == 0 && n > 0) {
      if (a.mean) static_cast<V *>(a.mean)[row] = mean;
      if (a.rstd) static_cast<V *>(a.rstd)[row] = rstd;
    }
  }
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
  extern "C" __global__ void __maxnreg__(vt::kAddNormRegisters)              \
      vt_add_norm_rows_##SUFFIX(const __grid_constant__ vt::AddNormArgs a) { \
    vt::add_norm_rows<T, X, O>(a);                                           \
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
