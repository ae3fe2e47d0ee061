// Reads and writes four elements of any dtype. Kept out of line: the code is the same for all kernels
// of a file, and the switch over the dtype is a branch that all threads take alike.
#ifndef VT_POINTWISE_CONVERT_CUH
#define VT_POINTWISE_CONVERT_CUH

#include "vt/convert.h"

namespace vt {

template <class T>
struct Four {
  T e[4];
};
struct Offsets {
  int32_t o[4];  // bytes
};
// Four neighbours, in one access or in several of 16 bytes.
template <class E>
struct alignas(sizeof(E) < 4 ? 4 * sizeof(E) : 16) Wide {
  E e[4];
};

template <class C, class E>
__device__ __forceinline__ Four<C> load_as(const char *base, const Offsets &at, bool wide, int n) {
  Wide<E> raw;
  if (wide && n == 4) {
    raw = *reinterpret_cast<const Wide<E> *>(base + at.o[0]);
  } else {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      raw.e[j] = E(0);
      if (j < n) raw.e[j] = *reinterpret_cast<const E *>(base + at.o[j]);
    }
  }
  Four<C> x;
#pragma unroll
  for (int j = 0; j < 4; j++) x.e[j] = convert<C>(raw.e[j]);
  return x;
}

template <class E, class C>
__device__ __forceinline__ void store_as(char *base, const Offsets &at, bool wide, Four<C> x,
                                         int n) {
  Wide<E> raw;
#pragma unroll
  for (int j = 0; j < 4; j++) raw.e[j] = convert<E>(x.e[j]);
  if (wide && n == 4) {
    *reinterpret_cast<Wide<E> *>(base + at.o[0]) = raw;
  } else {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (j < n) *reinterpret_cast<E *>(base + at.o[j]) = raw.e[j];
    }
  }
}

template <class C>
__device__ __forceinline__ Four<C> narrow_four(Four<C> x, int dtype) {
#pragma unroll
  for (int j = 0; j < 4; j++) x.e[j] = narrow(x.e[j], dtype);
  return x;
}

#define VT_FOR_DTYPES(DO) \
  DO(VT_BOOL, bool)       \
  DO(VT_U8, uint8_t)      \
  DO(VT_I8, int8_t)       \
  DO(VT_I16, int16_t)     \
  DO(VT_I32, int32_t)     \
  DO(VT_I64, int64_t)     \
  DO(VT_F16, half)        \
  DO(VT_BF16, bfloat16)   \
  DO(VT_F32, float)       \
  DO(VT_F64, double)      \
  DO(VT_C64, complex64)   \
  DO(VT_C128, complex128)

// Elements stored as `dtype`, converted to `loop_dtype` and held as C; n of them exist.
template <class C>
__device__ __noinline__ Four<C> load_four(const char *base, Offsets at, bool wide, int dtype,
                                          int loop_dtype, int n) {
  Four<C> x;
  switch (dtype) {
#define VT_CASE(CODE, E)                  \
  case CODE:                              \
    x = load_as<C, E>(base, at, wide, n); \
    break;
    VT_FOR_DTYPES(VT_CASE)
#undef VT_CASE
  }
  return dtype == loop_dtype ? x : narrow_four(x, loop_dtype);
}

// The way back: x is a result of the dtype `loop_dtype`.
template <class C>
__device__ __noinline__ void store_four(char *base, Offsets at, bool wide, int dtype,
                                        int loop_dtype, Four<C> x, int n) {
  if (dtype != loop_dtype) x = narrow_four(x, loop_dtype);
  switch (dtype) {
#define VT_CASE(CODE, E)               \
  case CODE:                           \
    store_as<E>(base, at, wide, x, n); \
    break;
    VT_FOR_DTYPES(VT_CASE)
#undef VT_CASE
  }
}

}  // namespace vt

#endif
