// Building the walks that kernels get (vt/walk.h), and what the host sides of these families share.
#ifndef VT_CUDA_WALK_H
#define VT_CUDA_WALK_H

#include <stdint.h>
#include <stdlib.h>

#include "vibetensor/cuda/launch.h"
#include "vibetensor/types.h"
#include "vt/walk.h"

namespace vt_cuda {

using vt::Divider;
using vt::kWalkDims;
using vt::Walk;

inline int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int element_size(int dtype) {
  static constexpr uint8_t sizes[VT_NUM_DTYPES] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16};
  return sizes[dtype];
}

// Sets of dtypes, as bit masks over the codes.
enum : unsigned {
  kFloatingSet = 1u << VT_F16 | 1u << VT_BF16 | 1u << VT_F32 | 1u << VT_F64,
  kComplexSet = 1u << VT_C64 | 1u << VT_C128,
  kAllSet = (1u << VT_NUM_DTYPES) - 1,
  kRealSet = kAllSet & ~kComplexSet
};
inline bool in_set(unsigned set, int dtype) { return set >> dtype & 1u; }

inline bool is_contiguous(const vt_array &a) {
  if (a.contiguous) return true;
  int64_t expected = 1;
  for (int d = a.ndim - 1; d >= 0; d--) {
    if (a.sizes[d] == 1) continue;
    if (a.strides[d] != expected) return false;
    expected *= a.sizes[d];
  }
  return true;
}

// The dimensions of up to N operands over one shape, while they are put in order. Dimension 0 is the
// innermost; strides are in elements.
template <int N>
struct Dims {
  int ndim = 0;
  int64_t sizes[VT_MAX_DIMS];
  int64_t strides[N][VT_MAX_DIMS];

  // Appends a dimension outside of those already there. Dimensions of one element are dropped.
  template <class... S>
  void push(int64_t size, S... stride) {
    static_assert(sizeof...(S) == N, "one stride per operand");
    if (size == 1) return;
    const int64_t given[N] = {static_cast<int64_t>(stride)...};
    sizes[ndim] = size;
    for (int k = 0; k < N; k++) strides[k][ndim] = given[k];
    ndim++;
  }

  int64_t numel() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; d++) n *= sizes[d];
    return n;
  }

  // Orders the dimensions by the stride of operand `key`, smallest innermost, ties by the others.
  void sort(int key = 0) {
    for (int i = 1; i < ndim; i++) {
      for (int j = i; j > 0 && inside(j, j - 1, key); j--) exchange(j, j - 1);
    }
  }

  // Merges neighbours that are one dimension for every operand.
  void coalesce() {
    int kept = 0;
    for (int d = 1; d < ndim; d++) {
      bool merges = true;
      for (int k = 0; k < N; k++) merges &= strides[k][d] == strides[k][kept] * sizes[kept];
      if (merges) {
        sizes[kept] *= sizes[d];
      } else {
        kept++;
        sizes[kept] = sizes[d];
        for (int k = 0; k < N; k++) strides[k][kept] = strides[k][d];
      }
    }
    if (ndim > 0) ndim = kept + 1;
  }

  // The innermost dimensions as a kernel parameter.
  Walk<N> walk() const {
    Walk<N> w = {};
    w.ndim = ndim < kWalkDims ? ndim : kWalkDims;
    w.numel = 1;
    w.narrow = 1;
    for (int d = 0; d < w.ndim; d++) {
      w.numel *= sizes[d];
      w.sizes[d] = sizes[d];
      for (int k = 0; k < N; k++) {
        w.strides[k][d] = strides[k][d];
        w.narrow &= strides[k][d] == static_cast<int32_t>(strides[k][d]);
      }
    }
    w.narrow &= w.numel <= INT32_MAX;
    if (w.narrow && w.numel > 0) {
      for (int d = 0; d + 1 < w.ndim; d++) {
        w.divide[d] = Divider::of(static_cast<uint32_t>(sizes[d]));
      }
    }
    return w;
  }

  // Calls f(walk, offsets) so that all calls together are the whole walk: one call but for shapes of
  // more dimensions than a kernel takes. Nothing is called for an empty shape.
  template <class F>
  vt_status for_walks(const F &f) const {
    if (numel() == 0) return VT_OK;
    const Walk<N> w = walk();
    int64_t at[VT_MAX_DIMS] = {}, offsets[N] = {};
    for (;;) {
      const vt_status status = f(w, static_cast<const int64_t *>(offsets));
      if (status != VT_OK) return status;
      int d = kWalkDims;
      for (; d < ndim; d++) {
        for (int k = 0; k < N; k++) offsets[k] += strides[k][d];
        if (++at[d] < sizes[d]) break;
        for (int k = 0; k < N; k++) offsets[k] -= sizes[d] * strides[k][d];
        at[d] = 0;
      }
      if (d >= ndim) return VT_OK;
    }
  }

 private:
  bool inside(int a, int b, int key) const {
    for (int n = 0; n < N; n++) {
      const int k = (key + n) % N;
      const int64_t sa = llabs(strides[k][a]), sb = llabs(strides[k][b]);
      if (sa != sb) return sa < sb;
    }
    return false;
  }
  void exchange(int a, int b) {
    const int64_t size = sizes[a];
    sizes[a] = sizes[b];
    sizes[b] = size;
    for (int k = 0; k < N; k++) {
      const int64_t stride = strides[k][a];
      strides[k][a] = strides[k][b];
      strides[k][b] = stride;
    }
  }
};

// The dimensions of arrays of one shape but dimension `skip` (-1: all), in row-major order.
template <class... Arrays>
Dims<1 + sizeof...(Arrays)> dims_of(int skip, const vt_array &first, const Arrays &...rest) {
  Dims<1 + sizeof...(Arrays)> dims;
  for (int d = first.ndim - 1; d >= 0; d--) {
    if (d != skip) dims.push(first.sizes[d], first.strides[d], rest.strides[d]...);
  }
  return dims;
}

// Blocks that cover n units, `per_block` each.
inline Dim blocks_for(int64_t n, int64_t per_block) {
  return {static_cast<unsigned>(div_up(n, per_block))};
}

// The kernel for elements of 1, 2, 4, 8 or 16 bytes: 0 ... 4.
inline int size_slot(int64_t bytes) {
  return bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : bytes == 8 ? 3 : 4;
}

}  // namespace vt_cuda

#endif
