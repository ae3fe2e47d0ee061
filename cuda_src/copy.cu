// Copies between layouts: elements of one dtype by their size, conversions, transpositions through
// tiles in shared memory. Copies without gaps are the driver's.
#include "vt/copy_args.h"
#include "vt/pointwise.cuh"

namespace vt {

struct alignas(16) Bytes16 {
  uint64_t lo, hi;
};

// ---- any layout, one dtype ----

// `a.numel` units; neighbouring threads take neighbouring units.
template <class T>
__device__ __forceinline__ void move(const StridedArgs &a) {
  const uint32_t first = blockIdx.x * (kMoveThreads * kMoveUnits) + threadIdx.x;
  int32_t at[kMoveUnits][2] = {};
  uint32_t rest[kMoveUnits];
#pragma unroll
  for (int u = 0; u < kMoveUnits; u++) rest[u] = first + u * kMoveThreads;
#pragma unroll 1
  for (int d = 0; d < a.ndim; d++) {
#pragma unroll
    for (int u = 0; u < kMoveUnits; u++) {
      const uint32_t q = a.sizes[d].quotient(rest[u]);
      const int32_t r = int32_t(rest[u] - q * a.sizes[d].divisor);
      rest[u] = q;
      at[u][0] += r * a.strides[0][d];
      at[u][1] += r * a.strides[1][d];
    }
  }
  T x[kMoveUnits];
#pragma unroll
  for (int u = 0; u < kMoveUnits; u++) {
    if (first + u * kMoveThreads < a.numel) {
      x[u] = *reinterpret_cast<const T *>(a.data[1] + at[u][1]);
    }
  }
#pragma unroll
  for (int u = 0; u < kMoveUnits; u++) {
    if (first + u * kMoveThreads < a.numel) *reinterpret_cast<T *>(a.data[0] + at[u][0]) = x[u];
  }
}

// ---- transposition ----

// A tile of K x K elements. Reading and writing, a warp takes 4 lines of 8 vectors; the odd pitch
// spreads both over the banks.
template <class T, int V>
__device__ __forceinline__ void transpose(const TransposeArgs &a) {
  constexpr int K = transpose_tile(sizeof(T), V * sizeof(T)), kPitch = K + 1;
  constexpr int kColumns = K / V;              // vectors of a line
  constexpr int kAcross = V == 1 ? 32 : 8;     // those that a warp takes
  constexpr int kDown = 32 / kAcross;          // lines of a warp
  constexpr int kGroups = kColumns / kAcross;  // of vectors, in a line
  constexpr int kWarps = kTransposeThreads / 32;
  constexpr int kSteps = K / kDown * kGroups / kWarps;
  static_assert(kSteps * kWarps * 32 * V == K * K, "the warps cover the tile");
  __shared__ T tile[K * kPitch];

  uint32_t block = blockIdx.x;
  uint32_t rest = a.tiles[0].quotient(block);
  const int i0 = int(block - rest * a.tiles[0].divisor) * K;
  const uint32_t outer = a.tiles[1].quotient(rest);
  const int j0 = int(rest - outer * a.tiles[1].divisor) * K;
  char *out = a.out + j0 * a.out1 + int64_t(i0) * int64_t(sizeof(T));
  const char *in = a.in + i0 * a.in0 + int64_t(j0) * int64_t(sizeof(T));
  rest = outer;
#pragma unroll 1
  for (int d = 0; d < a.ndim; d++) {
    const uint32_t q = a.sizes[d].quotient(rest);
    const int64_t r = rest - q * a.sizes[d].divisor;
    rest = q;
    out += r * a.strides[0][d];
    in += r * a.strides[1][d];
  }
  const int ni = min(K, a.size[0] - i0), nj = min(K, a.size[1] - j0);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int lane_line = lane / kAcross, lane_column = lane % kAcross;

  Vector<T, V> x[kSteps];
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    const int group = s * kWarps + warp;
    const int i = group / kGroups * kDown + lane_line;
    const int j = (group % kGroups * kAcross + lane_column) * V;
    // With V > 1 the host has seen that lines are whole vectors.
    if (i < ni && j < nj) {
      x[s] = *reinterpret_cast<const Vector<T, V> *>(in + i * a.in0 + j * int(sizeof(T)));
    }
  }
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    const int group = s * kWarps + warp;
    const int i = group / kGroups * kDown + lane_line;
    const int j = (group % kGroups * kAcross + lane_column) * V;
    if (i < ni && j < nj) {
#pragma unroll
      for (int e = 0; e < V; e++) tile[i * kPitch + j + e] = x[s].get(e);
    }
  }
  __syncthreads();
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    const int group = s * kWarps + warp;
    const int j = group / kGroups * kDown + lane_line;
    const int i = (group % kGroups * kAcross + lane_column) * V;
    if (j < nj && i < ni) {
      Vector<T, V> y;
#pragma unroll
      for (int e = 0; e < V; e++) y.set(e, tile[(i + e) * kPitch + j]);
      *reinterpret_cast<Vector<T, V> *>(out + j * a.out1 + i * int(sizeof(T))) = y;
    }
  }
}

// ---- conversions ----

template <class From>
struct exactly {};  // an operand of this type whatever the loop's
template <class From, class T>
struct operand<exactly<From>, T> {
  using type = From;
};
template <class To>
struct cast_to {
  template <class From>
  static VT_HD To call(From x) {
    return convert<To>(x);
  }
};
struct identity {
  template <class A>
  static VT_HD A call(A x) {
    return x;
  }
};

}  // namespace vt

using namespace vt;

#define VT_MOVE(N, T)                                        \
  extern "C" __global__ void __launch_bounds__(kMoveThreads) \
      vt_move_##N(const __grid_constant__ StridedArgs a) {   \
    move<T>(a);                                              \
  }
VT_MOVE(1, uint8_t)
VT_MOVE(2, uint16_t)
VT_MOVE(4, uint32_t)
VT_MOVE(8, uint64_t)
VT_MOVE(16, Bytes16)

// vt_transpose_N moves vectors of 16 bytes, vt_transpose_N_one single elements.
#define VT_TRANSPOSE(NAME, T, V)                                     \
  extern "C" __global__ void __launch_bounds__(kTransposeThreads)    \
      vt_transpose_##NAME(const __grid_constant__ TransposeArgs a) { \
    transpose<T, V>(a);                                              \
  }
VT_TRANSPOSE(1, uint8_t, 16)
VT_TRANSPOSE(2, uint16_t, 8)
VT_TRANSPOSE(4, uint32_t, 4)
VT_TRANSPOSE(8, uint64_t, 2)
VT_TRANSPOSE(16, Bytes16, 1)
VT_TRANSPOSE(1_one, uint8_t, 1)
VT_TRANSPOSE(2_one, uint16_t, 1)
VT_TRANSPOSE(4_one, uint32_t, 1)
VT_TRANSPOSE(8_one, uint64_t, 1)

// Conversions that training with reduced precision consists of.
#define VT_CAST(FROM, TO, FROM_NAME, TO_NAME)                                 \
  extern "C" __global__ void __launch_bounds__(kPointwiseThreads)             \
      vt_cast_##FROM_NAME##_##TO_NAME(const __grid_constant__ VectorArgs a) { \
    run_vectors<cast_to<TO>, TO, 0, exactly<FROM>>(a);                        \
  }
VT_CAST(float, vt::bfloat16, f32, bf16)
VT_CAST(vt::bfloat16, float, bf16, f32)
VT_CAST(float, vt::half, f32, f16)
VT_CAST(vt::half, float, f16, f32)
VT_CAST(float, double, f32, f64)
VT_CAST(double, float, f64, f32)
VT_CAST(bool, float, bool, f32)
VT_CAST(int64_t, float, i64, f32)

// All others, by the class of what they read.
#define VT_CAST_ANY(C, NAME)                                      \
  extern "C" __global__ void __launch_bounds__(kPointwiseThreads) \
      vt_cast_any_##NAME(const __grid_constant__ StridedArgs a) { \
    run_strided<identity, C, 0, self>(a);                         \
  }
VT_CAST_ANY(int64_t, i64)
VT_CAST_ANY(float, f32)
VT_CAST_ANY(double, f64)
VT_CAST_ANY(complex64, c64)
VT_CAST_ANY(complex128, c128)
