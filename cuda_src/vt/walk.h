// A walk of up to N operands over one shape, as a kernel parameter: from the number of an element to
// its offset in each operand. The host builds it (vibetensor/cuda/kernels/walk.h).
#ifndef VT_WALK_H
#define VT_WALK_H

#include "vt/config.h"
#include "vt/divide.h"

namespace VT_NS {

// Dimensions a kernel takes; what is left after neighbours were merged is hardly ever more than three.
// The host loops over the outermost ones of a shape with more.
constexpr int kWalkDims = 12;

// Dimension 0 is the innermost; strides are in elements.
template <int N>
struct Walk {
  int64_t numel;
  int32_t ndim;
  int32_t narrow;  // numel and strides fit 32 bits: `divide` may be used
  Divider divide[kWalkDims];
  int64_t sizes[kWalkDims];
  int64_t strides[N][kWalkDims];

#ifdef __CUDACC__
  __device__ __forceinline__ void offsets(int64_t i, int64_t (&offset)[N]) const {
    if (narrow) {
      narrow_offsets(uint32_t(i), offset);
    } else {
      far_offsets(i, offset);
    }
  }
  // Dimension 0 comes by itself: its numbers need no loads.
  __device__ __forceinline__ void narrow_offsets(uint32_t i, int64_t (&offset)[N]) const {
    for (int k = 0; k < N; k++) offset[k] = 0;
    const auto add = [&](uint32_t at, int d) {
      for (int k = 0; k < N; k++) {  // one instruction, which the compiler does not find
        asm("mad.wide.s32 %0, %1, %2, %0;"
            : "+l"(offset[k])
            : "r"(at), "r"(int32_t(strides[k][d])));
      }
    };
    const auto step = [&](int d) {
      const uint32_t q = divide[d].quotient(i);
      add(i - q * divide[d].divisor, d);
      i = q;
    };
    if (ndim == 0) return;
    if (ndim > 1) step(0);
#pragma unroll 1
    for (int d = 1; d < ndim - 1; d++) step(d);
    add(i, ndim - 1);
  }
  __device__ __forceinline__ void far_offsets(int64_t i, int64_t (&offset)[N]) const {
    for (int k = 0; k < N; k++) offset[k] = 0;
    uint64_t rest = uint64_t(i);
#pragma unroll 1
    for (int d = 0; d < ndim; d++) {
      const uint64_t q = rest / uint64_t(sizes[d]);
      const int64_t at = int64_t(rest - q * uint64_t(sizes[d]));
      for (int k = 0; k < N; k++) offset[k] += at * strides[k][d];
      rest = q;
    }
  }
#endif
};

}  // namespace VT_NS
#endif
