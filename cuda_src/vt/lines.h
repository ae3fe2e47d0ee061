// N arrays of one shape as lines along one dimension, as a kernel parameter.
#ifndef VT_LINES_H
#define VT_LINES_H

#include "vt/config.h"

namespace VT_NS {

// Line l = (o, i), with i < inner, starts at o * outer_stride + i * inner_stride; its n elements are
// `stride` apart. In elements.
template <int N>
struct Lines {
  int64_t count, n, inner;
  int64_t outer_stride[N], stride[N], inner_stride[N];
};

#ifdef __CUDACC__
template <int N>
__device__ __forceinline__ void line_offsets(const Lines<N> &l, int64_t line, int64_t (&at)[N]) {
  int64_t o = line, i = 0;
  if (l.inner > 1) {
    if (l.count <= INT32_MAX) {
      o = uint32_t(line) / uint32_t(l.inner);
    } else {
      o = line / l.inner;
    }
    i = line - o * l.inner;
  }
#pragma unroll
  for (int k = 0; k < N; k++) at[k] = o * l.outer_stride[k] + i * l.inner_stride[k];
}
#endif

}  // namespace VT_NS
#endif
