// cumsum along one dimension. Floating types are added in double, integers wrap.
//
// Few long lines are cut into chunks: a first launch sums the chunks, a second one scans each of them
// from the sum of those before it.
#include "vt/group.cuh"
#include "vt/pack.cuh"
#include "vt/scan_args.h"

namespace VT_NS {
namespace {

template <class T>
struct scan_type {
  using type = double;
};
template <class R>
struct scan_type<complex<R>> {
  using type = complex<double>;
};
#define VT_SCAN_INTEGER(T) \
  template <>              \
  struct scan_type<T> {    \
    using type = uint64_t; \
  };
VT_SCAN_INTEGER(uint8_t)
VT_SCAN_INTEGER(int8_t)
VT_SCAN_INTEGER(int16_t)
VT_SCAN_INTEGER(int32_t)
VT_SCAN_INTEGER(int64_t)
#undef VT_SCAN_INTEGER

template <class S, class T>
__device__ __forceinline__ S scan_load(T x) {
  if constexpr (is_integral<T>) {
    return static_cast<S>(static_cast<int64_t>(x));
  } else if constexpr (is_half_type<T>) {
    return static_cast<S>(static_cast<float>(x));
  } else {
    return static_cast<S>(x);
  }
}
template <class O, class S>
__device__ __forceinline__ O scan_store(S x) {
  if constexpr (is_half_type<O>) {
    return static_cast<O>(static_cast<float>(x));
  } else {
    return static_cast<O>(x);
  }
}

template <class S>
__device__ __forceinline__ S shuffle_up(const S &s, int by) {
  uint32_t words[sizeof(S) / 4];
  memcpy(words, &s, sizeof(S));
#pragma unroll
  for (unsigned i = 0; i < sizeof(S) / 4; i++) {
    words[i] = __shfl_up_sync(0xffffffffu, words[i], by);
  }
  S other;
  memcpy(&other, words, sizeof(S));
  return other;
}

// The sum over the group's threads before this one; `total` gets that of all. Groups are whole warps.
// `room` holds a value per warp and is not written before the next barrier but one.
template <class S>
__device__ __forceinline__ S sum_before(S s, S *room, S *total) {
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  S sum = s;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const S other = shuffle_up(sum, d);
    if (lane >= d) sum += other;
  }
  S before = shuffle_up(sum, 1);
  if (lane == 0) before = S(0);
  S *const mine = room + threadIdx.y * warps;
  if (lane == 31) mine[threadIdx.x / 32] = sum;
  __syncthreads();
  S all = S(0);
  for (int w = 0; w < warps; w++) {
    if (w == int(threadIdx.x / 32)) before += all;
    all += mine[w];
  }
  *total = all;
  return before;
}

template <class T, class O>
__device__ __forceinline__ void scan_rows(const ScanArgs &a) {
  using S = typename scan_type<T>::type;
  constexpr int I = kScanItems;
  alignas(16) __shared__ char bytes[(Group<S>::kRoom + 2 * 32) * sizeof(S)];
  S *room = reinterpret_cast<S *>(bytes) + Group<S>::kRoom;
  Group<S> group(reinterpret_cast<S *>(bytes));
  const int64_t line = int64_t(blockIdx.x) * blockDim.y + threadIdx.y, count = a.lines.count;
  const bool live = line < count;
  int64_t at[2];
  line_offsets(a.lines, live ? line : 0, at);
  const T *const x = static_cast<const T *>(a.in) + at[0];
  O *const y = static_cast<O *>(a.out) + at[1];
  const int64_t begin = int64_t(blockIdx.y) * a.chunk;
  const int64_t end = begin + a.chunk < a.lines.n ? begin + a.chunk : a.lines.n;
  S *const partial = static_cast<S *>(a.partial);

  S carry = S(0);
  if (!a.totals && blockIdx.y > 0) {
    for (unsigned p = threadIdx.x; live && p < blockIdx.y; p += blockDim.x) {
      carry += partial[p * count + line];
    }
    carry = group.fold(carry, Add<S>());
  }
  for (int64_t base = begin; base < end; base += blockDim.x * I) {
    const int64_t i = base + threadIdx.x * I;
    S v[I];
#pragma unroll
    for (int k = 0; k < I; k++) {
      v[k] = live && i + k < end ? scan_load<S>(x[(i + k) * a.lines.stride[0]]) : S(0);
    }
#pragma unroll
    for (int k = 1; k < I; k++) v[k] += v[k - 1];
    if (a.totals) {
      carry += v[I - 1];
      continue;
    }
    S total;
    const S before = carry + sum_before(v[I - 1], room, &total);
    carry += total;
    room = reinterpret_cast<S *>(bytes) + Group<S>::kRoom +
           (room == reinterpret_cast<S *>(bytes) + Group<S>::kRoom ? 32 : 0);
#pragma unroll
    for (int k = 0; k < I; k++) {
      if (live && i + k < end) y[(i + k) * a.lines.stride[1]] = scan_store<O>(before + v[k]);
    }
  }
  if (a.totals) {
    carry = group.fold(carry, Add<S>());
    if (threadIdx.x == 0 && live) partial[blockIdx.y * count + line] = carry;
  }
}

// A thread per line, for lines that lie side by side.
template <class T, class O>
__device__ __forceinline__ void scan_columns(const ScanArgs &a) {
  using S = typename scan_type<T>::type;
  constexpr int U = 4;
  const int64_t line = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, count = a.lines.count;
  if (line >= count) return;
  int64_t at[2];
  line_offsets(a.lines, line, at);
  const int64_t begin = int64_t(blockIdx.y) * a.chunk;
  const int64_t end = begin + a.chunk < a.lines.n ? begin + a.chunk : a.lines.n;
  const int64_t stride = a.lines.stride[0], out_stride = a.lines.stride[1];
  const T *const x = static_cast<const T *>(a.in) + at[0];
  O *const y = static_cast<O *>(a.out) + at[1];
  S *const partial = static_cast<S *>(a.partial);
  const bool totals = a.totals;
  S sum = S(0);
  for (unsigned p = 0; !totals && p < blockIdx.y; p++) sum += partial[p * count + line];
  int64_t i = begin;
#pragma unroll 1
  for (; i + U <= end; i += U) {
    T v[U];
#pragma unroll
    for (int u = 0; u < U; u++) v[u] = x[(i + u) * stride];
#pragma unroll
    for (int u = 0; u < U; u++) {
      sum += scan_load<S>(v[u]);
      if (!totals) y[(i + u) * out_stride] = scan_store<O>(sum);
    }
  }
#pragma unroll 1
  for (; i < end; i++) {
    sum += scan_load<S>(x[i * stride]);
    if (!totals) y[i * out_stride] = scan_store<O>(sum);
  }
  if (totals) partial[blockIdx.y * count + line] = sum;
}

}  // namespace
}  // namespace VT_NS

#define VT_SCAN_KERNELS(SUFFIX, T, O)                                      \
  extern "C" __global__ void __launch_bounds__(vt::kScanThreads)           \
      vt_cumsum_rows_##SUFFIX(const __grid_constant__ vt::ScanArgs a) {    \
    vt::scan_rows<T, O>(a);                                                \
  }                                                                        \
  extern "C" __global__ void __launch_bounds__(vt::kScanThreads)           \
      vt_cumsum_columns_##SUFFIX(const __grid_constant__ vt::ScanArgs a) { \
    vt::scan_columns<T, O>(a);                                             \
  }

VT_SCAN_KERNELS(u8, uint8_t, int64_t)
VT_SCAN_KERNELS(i8, int8_t, int64_t)
VT_SCAN_KERNELS(i16, int16_t, int64_t)
VT_SCAN_KERNELS(i32, int32_t, int64_t)
VT_SCAN_KERNELS(i64, int64_t, int64_t)
VT_SCAN_KERNELS(f16, vt::half, vt::half)
VT_SCAN_KERNELS(bf16, vt::bfloat16, vt::bfloat16)
VT_SCAN_KERNELS(f32, float, float)
VT_SCAN_KERNELS(f64, double, double)
VT_SCAN_KERNELS(c64, vt::complex64, vt::complex64)
VT_SCAN_KERNELS(c128, vt::complex128, vt::complex128)
