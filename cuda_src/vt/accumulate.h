// Adding to an element of an array: the arithmetic, and the atomic form of it.
#ifndef VT_ACCUMULATE_H
#define VT_ACCUMULATE_H

#include "vt/complex.h"
#include "vt/half.h"

namespace VT_NS {

// The sum in T's arithmetic; for bool it is "or".
template <class T>
__device__ __forceinline__ T plus(T a, T b) {
  if constexpr (is_same<T, bool>::value) {
    return a || b;
  } else if constexpr (is_integral<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return a + b;
  }
}
template <class T>
__device__ __forceinline__ T times(T a, T b) {
  if constexpr (is_same<T, bool>::value) {
    return a && b;
  } else if constexpr (is_integral<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  } else {
    return a * b;
  }
}

// An element of 1 or 2 bytes is exchanged within its aligned word of 4, which never crosses the end of
// an allocation.
template <class T>
__device__ __forceinline__ void atomic_plus_small(T *place, T x) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place);
  uint32_t *word = reinterpret_cast<uint32_t *>(address & ~uintptr_t(3));
  const uint32_t shift = 8 * (address & 3), mask = (sizeof(T) == 1 ? 0xffu : 0xffffu) << shift;
  uint32_t seen = *word, expected;
  do {
    expected = seen;
    const T sum = plus(static_cast<T>(expected >> shift), x);
    const uint32_t replaced = (expected & ~mask) | (static_cast<uint32_t>(sum) << shift & mask);
    seen = atomicCAS(word, expected, replaced);
  } while (seen != expected);
}

// A half type is added within its aligned word as well, in one operation that returns nothing; its neighbour
// gets -0, which leaves every number as it is.
template <class T>
__device__ __forceinline__ void atomic_plus_half(T *place, T x) {
  constexpr uint32_t kMinusZero = 0x8000u;
  const uintptr_t address = reinterpret_cast<uintptr_t>(place);
  const uint32_t two =
      address & 2 ? uint32_t(x.bits) << 16 | kMinusZero : kMinusZero << 16 | x.bits;
  const uintptr_t pair = address & ~uintptr_t(3);
#if __CUDA_ARCH__ >= 900
  if constexpr (is_same<T, half>::value) {
    asm volatile("red.relaxed.gpu.global.add.noftz.f16x2 [%0], %1;" ::"l"(pair), "r"(two)
                 : "memory");
  } else {
    asm volatile("red.relaxed.gpu.global.add.noftz.bf16x2 [%0], %1;" ::"l"(pair), "r"(two)
                 : "memory");
  }
#else
  if constexpr (is_same<T, half>::value) {
    atomicAdd(reinterpret_cast<__half2 *>(pair), bit_cast<__half2>(two));
  } else {
    atomicAdd(reinterpret_cast<__nv_bfloat162 *>(pair), bit_cast<__nv_bfloat162>(two));
  }
#endif
}

// *place += x, in global memory. The order in which several threads get there is not fixed.
template <class T>
__device__ __forceinline__ void atomic_plus(T *place, acc_t<T> x) {
  if constexpr (is_same<T, bool>::value) {
    if (x) *place = true;  // all who write write the same
  } else if constexpr (is_complex<T>) {
    atomicAdd(&place->re, x.re);
    atomicAdd(&place->im, x.im);
  } else if constexpr (is_half_type<T>) {
    atomic_plus_half(place, static_cast<T>(x));
  } else if constexpr (sizeof(T) < 4) {
    atomic_plus_small(place, x);
  } else if constexpr (is_same<T, int64_t>::value) {
    atomicAdd(reinterpret_cast<unsigned long long *>(place), static_cast<unsigned long long>(x));
  } else {
    atomicAdd(place, x);
  }
}

}  // namespace VT_NS
#endif
