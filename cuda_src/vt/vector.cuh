// V elements that move in one access.
#ifndef VT_VECTOR_CUH
#define VT_VECTOR_CUH

#include "vt/config.h"

namespace vt {

template <int Bytes>
struct bits_of;
template <>
struct bits_of<1> {
  using type = uint8_t;
};
template <>
struct bits_of<2> {
  using type = uint16_t;
};

// Short elements are kept as they come, several to a register: picking one out is a shift that the
// conversion to float often absorbs, and copying one to all places is one instruction per register.
template <class E, int V, bool PACKED = (sizeof(E) < 4 && sizeof(E) * V >= 4)>
struct alignas(sizeof(E) * V < 16 ? sizeof(E) * V : 16) Vector {
  using Bits = typename bits_of<sizeof(E)>::type;
  static constexpr int kPerWord = 4 / sizeof(E);
  uint32_t word[V / kPerWord];

  __device__ __forceinline__ E get(int j) const {
    const int shift = j % kPerWord * (32 / kPerWord);
    return bit_cast<E>(Bits(word[j / kPerWord] >> shift));
  }
  __device__ __forceinline__ void set(int j, E x) {
    const uint32_t bits = uint32_t(bit_cast<Bits>(x)) << j % kPerWord * (32 / kPerWord);
    word[j / kPerWord] = j % kPerWord == 0 ? bits : word[j / kPerWord] | bits;
  }
  // Element 0 everywhere.
  __device__ __forceinline__ void spread() {
    const uint32_t one = bit_cast<Bits>(get(0));
#pragma unroll
    for (int j = 0; j < V / kPerWord; j++) {
      word[j] = one * (sizeof(E) == 2 ? 0x00010001u : 0x01010101u);
    }
  }
};

template <class E, int V>
struct alignas(sizeof(E) * V < 16 ? sizeof(E) * V : 16) Vector<E, V, false> {
  E e[V];

  __device__ __forceinline__ E get(int j) const { return e[j]; }
  __device__ __forceinline__ void set(int j, E x) { e[j] = x; }
  __device__ __forceinline__ void spread() {
#pragma unroll
    for (int j = 1; j < V; j++) e[j] = e[0];
  }
};

}  // namespace vt

#endif
