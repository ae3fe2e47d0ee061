// How a launch of any size covers any number of elements.
#ifndef VT_GRID_H
#define VT_GRID_H

#include <stdint.h>

namespace vt {

// Calls f(i) for every i in [0, n): thread t takes t, t + threads, ... so that neighbouring threads
// touch neighbouring elements whatever the grid is.
template <class F>
__device__ inline void for_each_element(int64_t n, F f) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

}  // namespace vt

#endif
