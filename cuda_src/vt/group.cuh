// Folding one value per thread over a group: the threads of one row (threadIdx.y) of a block.
//
// blockDim.x is a power of two and the block a whole number of warps, so that a group is part of a
// warp or a number of warps. All threads of the block must call fold(), whether they have work or
// not. The order of the fold depends on the shape of the block only.
#ifndef VT_GROUP_CUH
#define VT_GROUP_CUH

#include "vt/config.h"

namespace VT_NS {

// The value of the thread whose number within the warp differs by `bits`.
template <class S>
__device__ __forceinline__ S shuffle_xor(const S &s, int bits) {
  static_assert(sizeof(S) % 4 == 0, "states are made of whole words");
  constexpr int kWords = sizeof(S) / 4;
  uint32_t words[kWords];
  memcpy(words, &s, sizeof(S));
#pragma unroll
  for (int i = 0; i < kWords; i++) words[i] = __shfl_xor_sync(0xffffffffu, words[i], bits);
  S other;
  memcpy(&other, words, sizeof(S));
  return other;
}

// Two buffers in turn: a group may still read one while the next fold writes the other, and the
// barrier of that fold comes before the first is written again. One barrier a fold is enough so.
template <class S>
class Group {
 public:
  // Room in shared memory: 64 values, one per warp and buffer.
  static constexpr int kRoom = 64;
  __device__ explicit Group(S *room) : room_(room), turn_(0) {}

  // All threads of the group get f over its values. f is associative and commutative but for
  // rounding.
  template <class F>
  __device__ __forceinline__ S fold(S s, const F &f) {
    s = fold_lanes(s, blockDim.x, f);
    if (blockDim.x <= 32) return s;
    S *const room = room_ + 32 * turn_;
    turn_ ^= 1;
    const int thread = threadIdx.y * blockDim.x + threadIdx.x, warps = blockDim.x / 32;
    if (thread % 32 == 0) room[thread / 32] = s;
    __syncthreads();
    return fold_lanes(room[threadIdx.y * warps + (thread & (warps - 1))], warps, f);
  }

 private:
  // Over so many neighbouring lanes, a power of two; over the warp where they are more.
  template <class F>
  static __device__ __forceinline__ S fold_lanes(S s, int lanes, const F &f) {
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
      if (d < lanes) s = f(s, shuffle_xor(s, d));
    }
    return s;
  }

  S *room_;
  int turn_;
};

template <class V>
struct Add {
  __device__ __forceinline__ V operator()(V a, V b) const { return a + b; }
};
// A NaN may be passed over.
template <class V>
struct Larger {
  __device__ __forceinline__ V operator()(V a, V b) const { return b > a ? b : a; }
};

// Two values folded at once.
template <class V>
struct Two {
  V a, b;
};
template <class V>
struct AddTwo {
  __device__ __forceinline__ Two<V> operator()(const Two<V> &p, const Two<V> &q) const {
    return {p.a + q.a, p.b + q.b};
  }
};

}  // namespace VT_NS
#endif
