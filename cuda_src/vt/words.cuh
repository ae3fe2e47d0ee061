// A pack as the words that it is loaded as. Elements of 2 bytes that stay in registers for long would
// take one each; their words hold two.
#ifndef VT_WORDS_CUH
#define VT_WORDS_CUH

#include "vt/pack.cuh"

namespace VT_NS {

template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Words {
  static constexpr int kCount = sizeof(T) * N / 4;
  uint32_t x[kCount];

  __device__ __forceinline__ static Words none() {
    Words w;
#pragma unroll
    for (int i = 0; i < kCount; i++) w.x[i] = 0;
    return w;
  }
  // Of N elements at a boundary of as many bytes.
  __device__ __forceinline__ static Words load(const T *p) {
    return *reinterpret_cast<const Words *>(p);
  }
  // To such a boundary of global memory, in one store: that of a pack may be taken apart.
  __device__ __forceinline__ void store(T *p) const {
    static_assert(kCount == 4 || kCount == 2, "16 or 8 bytes");
    if constexpr (kCount == 4) {
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(x[0]), "r"(x[1]),
                   "r"(x[2]), "r"(x[3])
                   : "memory");
    } else {
      asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(p), "r"(x[0]), "r"(x[1]) : "memory");
    }
  }
  // Numbers of the compute type V, rounded.
  template <class V>
  __device__ __forceinline__ static Words of(const V (&v)[N]) {
    Words w;
    if constexpr (is_half_type<T>) {  // two with one instruction
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        if constexpr (is_same<T, bfloat16>::value) {
          w.x[i] = bit_cast<uint32_t>(__floats2bfloat162_rn(v[2 * i], v[2 * i + 1]));
        } else {
          w.x[i] = bit_cast<uint32_t>(__floats2half2_rn(v[2 * i], v[2 * i + 1]));
        }
      }
    } else {
      Pack<T, N> p;
#pragma unroll
      for (int k = 0; k < N; k++) p.x[k] = static_cast<T>(v[k]);
      w = bit_cast<Words>(p);
    }
    return w;
  }
  // The elements as the compute type V.
  template <class V>
  __device__ __forceinline__ void open(V (&v)[N]) const {
    if constexpr (is_same<T, bfloat16>::value) {
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        v[2 * i] = bit_cast<float>(x[i] << 16);
        v[2 * i + 1] = bit_cast<float>(x[i] & 0xffff0000u);
      }
    } else {
      const Pack<T, N> p = bit_cast<Pack<T, N>>(*this);
#pragma unroll
      for (int k = 0; k < N; k++) v[k] = static_cast<V>(static_cast<acc_t<T>>(p.x[k]));
    }
  }
  // The compiler would open words once and keep what they hold, in twice the registers: behind this
  // call it has to open them again.
  __device__ __forceinline__ void hold() {
#pragma unroll
    for (int i = 0; i < kCount; i++) asm volatile("" : "+r"(x[i]));
  }
};

template <class T, int N, int P>
__device__ __forceinline__ void hold(Words<T, N> (&w)[P]) {
#pragma unroll
  for (int p = 0; p < P; p++) w[p].hold();
}

}  // namespace VT_NS
#endif
