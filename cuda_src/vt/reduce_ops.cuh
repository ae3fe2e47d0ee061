// Operators of vt/reduce.cuh that several families share.
#ifndef VT_REDUCE_OPS_CUH
#define VT_REDUCE_OPS_CUH

#include "vt/reduce.cuh"

namespace VT_NS {

// The integer with the bits of an element.
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
template <>
struct bits_of<4> {
  using type = uint32_t;
};
template <>
struct bits_of<8> {
  using type = uint64_t;
};

template <class T>
__device__ __forceinline__ T flipped(T x, uint64_t mask) {
  using Bits = typename bits_of<sizeof(T)>::type;
  return bit_cast<T>(static_cast<Bits>(bit_cast<Bits>(x) ^ static_cast<Bits>(mask)));
}

// What elements are compared as: at least a word, which shuffles move.
template <class T>
struct compare_type {
  using type = acc_t<T>;
};
template <>
struct compare_type<uint8_t> {
  using type = int32_t;
};
template <>
struct compare_type<int8_t> {
  using type = int32_t;
};
template <>
struct compare_type<int16_t> {
  using type = int32_t;
};

// The smallest value of a type, -infinity for floating types.
template <class V>
__device__ __forceinline__ V lowest_value() {
  if constexpr (is_same<V, float>::value) {
    return bit_cast<float>(0xff800000u);
  } else if constexpr (is_same<V, double>::value) {
    return bit_cast<double>(uint64_t(0xfff0000000000000u));
  } else {
    return is_signed<V> ? static_cast<V>(uint64_t(1) << (8 * sizeof(V) - 1)) : V(0);
  }
}

// Whether a is before b in the order of maxima: NaN before every number.
template <class V>
__device__ __forceinline__ bool beats(V a, V b) {
  return (a > b) | ((a != a) & (b == b));
}

// Stores a floating result: as T, or as float where the input is half.
template <class T>
__device__ __forceinline__ void store_floating(const ReduceArgs &a, int64_t offset, acc_t<T> v) {
  if constexpr (is_half_type<T>) {
    if (a.out_dtype == VT_F32) {
      reinterpret_cast<float *>(a.out)[offset] = v;
      return;
    }
  }
  reinterpret_cast<T *>(a.out)[offset] = static_cast<T>(v);
}

}  // namespace VT_NS
#endif
