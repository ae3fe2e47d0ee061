// Integers shorter than 32 bits: one kernel for all of them, which computes in int32 and looks at the
// dtype when it loads and stores. Sums, products and powers wrap the same after the store.
#ifndef VT_SMALL_CUH
#define VT_SMALL_CUH

#include "vt/pointwise_args.h"
#include "vt/vector.cuh"
#include "vibetensor/types.h"

namespace vt {

struct Small {
  int32_t x;
  Small() = default;
  __device__ __forceinline__ explicit Small(int32_t value) : x(value) {}
  __device__ __forceinline__ operator int32_t() const { return x; }
};
template <>
struct acc_type<Small> {
  using type = int32_t;
};

// What memory holds for an element E of a vector form.
template <class E>
__device__ __forceinline__ int size_of(const VectorArgs &) {
  return sizeof(E);
}
template <>
__device__ __forceinline__ int size_of<Small>(const VectorArgs &a) {
  return a.dtype == VT_I16 ? 2 : 1;
}

template <class E>
__device__ __forceinline__ E load_element(const void *at, const VectorArgs &) {
  return *static_cast<const E *>(at);
}
template <>
__device__ __forceinline__ Small load_element<Small>(const void *at, const VectorArgs &a) {
  if (a.dtype == VT_I16) return Small(*static_cast<const int16_t *>(at));
  const uint8_t byte = *static_cast<const uint8_t *>(at);
  return Small(a.dtype == VT_I8 ? int32_t(int8_t(byte)) : int32_t(byte));
}
template <class E>
__device__ __forceinline__ void store_element(void *at, E x, const VectorArgs &) {
  *static_cast<E *>(at) = x;
}
__device__ __forceinline__ void store_element(void *at, Small x, const VectorArgs &a) {
  if (a.dtype == VT_I16) {
    *static_cast<int16_t *>(at) = int16_t(x.x);
  } else {
    *static_cast<uint8_t *>(at) = uint8_t(x.x);
  }
}

template <class E, int V>
__device__ __forceinline__ void load_vector(Vector<E, V> &x, const char *at, const VectorArgs &) {
  x = *reinterpret_cast<const Vector<E, V> *>(at);
}
template <class E, int V>
__device__ __forceinline__ void store_vector(const Vector<E, V> &x, char *at, const VectorArgs &) {
  *reinterpret_cast<Vector<E, V> *>(at) = x;
}

template <class E>
__device__ __forceinline__ void load_run(Vector<Small, 16> &x, const char *at) {
  constexpr int kPart = 16 / sizeof(E);
#pragma unroll
  for (int p = 0; p < 16 / kPart; p++) {
    const auto part = reinterpret_cast<const Vector<E, kPart> *>(at)[p];
#pragma unroll
    for (int j = 0; j < kPart; j++) x.e[p * kPart + j] = Small(part.get(j));
  }
}
template <class E>
__device__ __forceinline__ void store_run(const Vector<Small, 16> &x, char *at) {
  constexpr int kPart = 16 / sizeof(E);
#pragma unroll
  for (int p = 0; p < 16 / kPart; p++) {
    Vector<E, kPart> part;
#pragma unroll
    for (int j = 0; j < kPart; j++) part.set(j, E(x.e[p * kPart + j].x));
    reinterpret_cast<Vector<E, kPart> *>(at)[p] = part;
  }
}
__device__ __forceinline__ void load_vector(Vector<Small, 16> &x, const char *at,
                                            const VectorArgs &a) {
  if (a.dtype == VT_I16) {
    load_run<int16_t>(x, at);
  } else if (a.dtype == VT_I8) {
    load_run<int8_t>(x, at);
  } else {
    load_run<uint8_t>(x, at);
  }
}
__device__ __forceinline__ void store_vector(const Vector<Small, 16> &x, char *at,
                                             const VectorArgs &a) {
  if (a.dtype == VT_I16) {
    store_run<int16_t>(x, at);
  } else {
    store_run<uint8_t>(x, at);
  }
}

}  // namespace vt

#endif
