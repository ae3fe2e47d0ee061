// Vectors as wide as the instruction set this file is compiled for.
//
// Written with the compiler's vector types, so one source serves SSE2, AVX2 and AVX-512; loops that
// the compiler vectorises by itself do not need this.
#ifndef VT_CPU_SIMD_H
#define VT_CPU_SIMD_H

#include <utility>

#include "vibetensor/cpu/kernel_utils.h"

namespace VT_NS {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Simd {
  static constexpr int lanes = kVectorBytes / int(sizeof(T));
  typedef T type __attribute__((vector_size(kVectorBytes)));
  // The same in memory that is aligned to one element only.
  typedef T unaligned __attribute__((vector_size(kVectorBytes), aligned(sizeof(T)), may_alias));
};
template <class T>
using vec = typename Simd<T>::type;
template <class T>
constexpr int kLanes = Simd<T>::lanes;

template <class T>
VT_INLINE vec<T> load(const T *p) {
  return *reinterpret_cast<const typename Simd<T>::unaligned *>(p);
}
template <class T>
VT_INLINE void store(T *p, vec<T> v) {
  *reinterpret_cast<typename Simd<T>::unaligned *>(p) = v;
}
// x in every lane. Taking away zero keeps even -0.
template <class T>
VT_INLINE vec<T> splat(T x) {
  return x - vec<T>{};
}

// The sum of all lanes, halves first.
template <class T>
VT_INLINE T sum_lanes(vec<T> v) {
  T parts[kLanes<T>];
  store(parts, v);
#pragma GCC unroll 8
  for (int h = kLanes<T> / 2; h > 0; h /= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < h; i++) parts[i] += parts[i + h];
  }
  return parts[0];
}

// ---- transposition in registers ----

// One exchange step: lanes with bit H clear stay in `a`, the others change places with `b`.
template <int H, class T, int... I>
VT_INLINE void exchange_lanes(vec<T> &a, vec<T> &b, std::integer_sequence<int, I...>) {
  using Index = typename RawBytes<sizeof(T)>::type;
  typedef Index Mask __attribute__((vector_size(kVectorBytes)));
  constexpr int L = kLanes<T>;
  const Mask low = {Index(I & H ? L + I - H : I)...};
  const Mask high = {Index(I & H ? L + I : I + H)...};
  const vec<T> first = __builtin_shuffle(a, b, low);
  b = __builtin_shuffle(a, b, high);
  a = first;
}

template <int H, class T>
VT_INLINE void transpose_step(vec<T> *r) {
  if constexpr (H > 0) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; i++) {
      if (!(i & H)) {
        exchange_lanes<H, T>(r[i], r[i + H], std::make_integer_sequence<int, kLanes<T>>{});
      }
    }
    transpose_step<H / 2, T>(r);
  }
}

// Transposes the square of lanes() vectors r[0], r[1], ...
template <class T>
VT_INLINE void transpose_lanes(vec<T> *r) {
  transpose_step<kLanes<T> / 2, T>(r);
}

// Copies a rows x cols matrix of unit column stride into its transpose: to[c * to_ld + r].
template <class T>
inline void transpose_copy(T *__restrict to, int64_t to_ld, const T *__restrict from,
                           int64_t from_ld, int64_t rows, int64_t cols) {
  constexpr int L = kLanes<T>;
  int64_t r = 0;
  for (; r + L <= rows; r += L) {
    int64_t c = 0;
    for (; c + L <= cols; c += L) {
      vec<T> v[L];
#pragma GCC unroll 16
      for (int i = 0; i < L; i++) v[i] = load(from + (r + i) * from_ld + c);
      transpose_lanes<T>(v);
#pragma GCC unroll 16
      for (int i = 0; i < L; i++) store(to + (c + i) * to_ld + r, v[i]);
    }
    for (; c < cols; c++) {
      for (int i = 0; i < L; i++) to[c * to_ld + r + i] = from[(r + i) * from_ld + c];
    }
  }
  for (; r < rows; r++) {
    for (int64_t c = 0; c < cols; c++) to[c * to_ld + r] = from[r * from_ld + c];
  }
}

// ---- runs of elements ----

// Reads n elements of any stride as the compute type; the overloads of vt/half.h convert whole runs
// of half types. Copies are spelled out: a call of memcpy would cost more than a short run.
template <class S, class T>
VT_INLINE void read_run(T *to, const S *from, int64_t stride, int64_t n) {
  if constexpr (is_half_type<S>) {
    if (stride == 1) return load_run(to, from, n);
  }
  if constexpr (std::is_same<S, T>::value && !is_complex<S>) {
    if (stride == 1) {
      int64_t i = 0;
      for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load(from + i));
      for (; i < n; i++) to[i] = from[i];
      return;
    }
  }
  load_row(to, from, stride, n);
}

// The reverse, with one rounding.
template <class S, class T>
VT_INLINE void write_run(S *to, int64_t stride, const T *from, int64_t n) {
  if constexpr (is_half_type<S>) {
    if (stride == 1) return store_run(to, from, n);
  }
  store_row(to, stride, from, n);
}

}  // namespace VT_NS

#endif
