// Arrays made from a formula: constants, ranges, triangles of a matrix. Constants and triangles only
// move bit patterns, so they know element sizes but no dtypes.
#include "vt/convert.h"
#include "vt/copy_args.h"
#include "vt/walk.h"

namespace vt {

struct alignas(16) Bytes16 {
  uint64_t lo, hi;
};

// ---- constants ----

// `bytes` bytes from `out` on, of which `head` come before the first whole 16; the pattern is repeated
// with every address that is a multiple of 16.
__device__ __forceinline__ void fill(char *out, const Pattern &pattern, int64_t bytes, int head) {
  const int64_t whole = (bytes - head) / 16;
  const int64_t first = int64_t(blockIdx.x) * (kFillThreads * kFillUnits) + threadIdx.x;
  const Pattern value = pattern;
  Pattern *to = reinterpret_cast<Pattern *>(out + head);
#pragma unroll
  for (int u = 0; u < kFillUnits; u++) {
    const int64_t i = first + u * kFillThreads;
    if (i < whole) to[i] = value;
  }
  // The bytes before and after, at most 30.
  const int rest = int(bytes - whole * 16);
  if (blockIdx.x == 0 && int(threadIdx.x) < rest) {
    const int64_t at = int(threadIdx.x) < head ? threadIdx.x : bytes - rest + threadIdx.x;
    const int phase = int((reinterpret_cast<uintptr_t>(out) + at) & 15);
    out[at] = char(pattern.bytes[phase]);
  }
}

// ---- ranges ----

// out[i * stride] = f(i), computed as A, in the given dtype. `f` is cheap: one element per thread.
template <class F>
__device__ __forceinline__ void fill_by_position(char *out, int64_t stride, int64_t n, int dtype,
                                                 const F &f) {
  const int64_t i = int64_t(blockIdx.x) * kFillThreads + threadIdx.x;
  if (i >= n) return;
  const auto x = f(i);
  using A = decltype(x);
  switch (dtype) {
#define VT_CASE(CODE, T)                                    \
  case CODE:                                                \
    reinterpret_cast<T *>(out)[i * stride] = convert<T>(x); \
    break;
    VT_CASE(VT_U8, uint8_t)
    VT_CASE(VT_I8, int8_t)
    VT_CASE(VT_I16, int16_t)
    VT_CASE(VT_I32, int32_t)
    VT_CASE(VT_I64, int64_t)
    VT_CASE(VT_F16, half)
    VT_CASE(VT_BF16, bfloat16)
    VT_CASE(VT_F32, float)
    VT_CASE(VT_F64, double)
#undef VT_CASE
  }
}

// Evenly spaced from both ends, so that the ends are exact and a symmetric range is symmetric.
__device__ __forceinline__ double spaced(double start, double end, double step, int64_t i,
                                         int64_t n) {
  const double x = i < n / 2 ? start + step * double(i) : end - step * double(n - 1 - i);
  return n == 1 ? start : x;
}

// ---- triangles ----

constexpr int kTriangleThreads = 256, kTriangleUnits = 4;

// Dimension 0 of the walk is the column, dimension 1 the row; what lies on the wrong side of the
// diagonal is zero.
template <class T>
__device__ __forceinline__ void triangle(const Walk<2> &walk, char *out, const char *in,
                                         int64_t diagonal, int lower) {
  const int64_t first = int64_t(blockIdx.x) * (kTriangleThreads * kTriangleUnits) + threadIdx.x;
  T x[kTriangleUnits];
  int64_t offset[kTriangleUnits][2];
#pragma unroll
  for (int u = 0; u < kTriangleUnits; u++) {
    const int64_t i = first + u * kTriangleThreads;
    if (i >= walk.numel) continue;
    int64_t column, row;
    if (walk.narrow) {
      const uint32_t line = walk.divide[0].quotient(uint32_t(i));
      column = uint32_t(i) - line * walk.divide[0].divisor;
      const uint32_t plane = walk.ndim > 2 ? walk.divide[1].quotient(line) : 0;
      row = walk.ndim > 2 ? line - plane * walk.divide[1].divisor : line;
    } else {
      column = i % walk.sizes[0];
      row = i / walk.sizes[0] % walk.sizes[1];
    }
    walk.offsets(i, offset[u]);
    x[u] = T{};
    if (lower ? column - row <= diagonal : column - row >= diagonal) {
      x[u] = reinterpret_cast<const T *>(in)[offset[u][1]];
    }
  }
#pragma unroll
  for (int u = 0; u < kTriangleUnits; u++) {
    if (first + u * kTriangleThreads < walk.numel) reinterpret_cast<T *>(out)[offset[u][0]] = x[u];
  }
}

}  // namespace vt

using namespace vt;

extern "C" {
__global__ void __launch_bounds__(kFillThreads)
    vt_fill(char *out, const __grid_constant__ Pattern pattern, int64_t bytes, int head) {
  fill(out, pattern, bytes, head);
}

// start + i * step, exact of integers and rounded once of reals.
__global__ void vt_arange_integer(char *out, int64_t stride, int64_t n, int dtype, int64_t start,
                                  int64_t step) {
  fill_by_position(out, stride, n, dtype, [=](int64_t i) {
    return int64_t(uint64_t(start) + uint64_t(i) * uint64_t(step));
  });
}
__global__ void vt_arange_real(char *out, int64_t stride, int64_t n, int dtype, double start,
                               double step) {
  fill_by_position(out, stride, n, dtype, [=](int64_t i) { return start + double(i) * step; });
}

// start, end and step are of the type that the dtype computes in; of integers in double.
__global__ void vt_linspace(char *out, int64_t stride, int64_t n, int dtype, double start,
                            double end, double step) {
  fill_by_position(out, stride, n, dtype,
                   [=](int64_t i) { return spaced(start, end, step, i, n); });
}
// Complex numbers: the real and the imaginary parts are two arrays.
__global__ void vt_linspace_integer(char *out, int64_t stride, int64_t n, int dtype, double start,
                                    double end, double step) {
  fill_by_position(out, stride, n, dtype,
                   [=](int64_t i) { return int64_t(spaced(start, end, step, i, n)); });
}

#define VT_TRIANGLE(N, T)                                                              \
  __global__ void __launch_bounds__(kTriangleThreads)                                  \
      vt_triangle_##N(const __grid_constant__ Walk<2> walk, char *out, const char *in, \
                      int64_t diagonal, int lower) {                                   \
    triangle<T>(walk, out, in, diagonal, lower);                                       \
  }
VT_TRIANGLE(1, uint8_t)
VT_TRIANGLE(2, uint16_t)
VT_TRIANGLE(4, uint32_t)
VT_TRIANGLE(8, uint64_t)
VT_TRIANGLE(16, Bytes16)
}
