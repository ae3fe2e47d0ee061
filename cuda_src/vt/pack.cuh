// Elements that move 16 bytes at a time.
#ifndef VT_PACK_CUH
#define VT_PACK_CUH

#include "vt/dtype.h"

namespace VT_NS {

template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
  T x[N];
};

// Elements of a 16-byte load.
template <class T>
constexpr int kPack = sizeof(T) < 16 ? int(16 / sizeof(T)) : 1;

template <class T, int N>
__device__ __forceinline__ Pack<T, N> load_pack(const T *p) {
  return *reinterpret_cast<const Pack<T, N> *>(p);
}
template <class T, int N>
__device__ __forceinline__ void store_pack(T *p, const Pack<T, N> &v) {
  *reinterpret_cast<Pack<T, N> *>(p) = v;
}

template <class T>
__device__ __forceinline__ bool is_aligned(const T *p) {
  return (reinterpret_cast<uintptr_t>(p) & 15) == 0;
}
// Elements before the first 16-byte boundary, at most n.
template <class T>
__device__ __forceinline__ int64_t unaligned_head(const T *p, int64_t n) {
  const int64_t head = (-(reinterpret_cast<uintptr_t>(p) / sizeof(T))) & (kPack<T> - 1);
  return head < n ? head : n;
}

// The compute type's value stored as T.
template <class T>
__device__ __forceinline__ T store_as(acc_t<T> v) {
  return static_cast<T>(v);
}

}  // namespace VT_NS
#endif
