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
  int32_t narrow;  // numel fits 31 bits: `divide` may be used
  Divider divide[kWalkDims];
  int64_t sizes[kWalkDims];
  int64_t strides[N][kWalkDims];

#ifdef __CUDACC__
  __device__ __forceinline__ void offsets(int64_t i, int64_t (&offset)[N]) const {
    if (narrow) {
      uint32_t rest = uint32_t(i);
      if (ndim <= 1) {
        for (int k = 0; k < N; k++) offset[k] = ndim == 0 ? 0 : int64_t(rest) * strides[k][0];
        return;
      }
      for (int k = 0; k < N; k++) offset[k] = 0;
#pragma unroll 1
      for (int d = 0; d < ndim - 1; d++) {
        const uint32_t q = divide[d].quotient(rest);
        const int64_t at = int64_t(rest - q * divide[d].divisor);
        for (int k = 0; k < N; k++) offset[k] += at * strides[k][d];
        rest = q;
      }
      for (int k = 0; k < N; k++) offset[k] += int64_t(rest) * strides[k][ndim - 1];
    } else {
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
  }
#endif
};

}  // namespace VT_NS
#endif
