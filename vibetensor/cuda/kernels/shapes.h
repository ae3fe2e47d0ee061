// Arithmetic of launch shapes.
#ifndef VT_CUDA_SHAPES_H
#define VT_CUDA_SHAPES_H

#include <stdint.h>

namespace vt_cuda {

// The smallest power of two that is at least n.
inline int64_t power_of_two_from(int64_t n) {
  int64_t p = 1;
  while (p < n) p *= 2;
  return p;
}

inline int64_t clamp(int64_t x, int64_t lo, int64_t hi) { return x < lo ? lo : x > hi ? hi : x; }

// Whether 16 bytes may be moved at once from an address on.
inline bool is_aligned(const void *p) { return (reinterpret_cast<uintptr_t>(p) & 15) == 0; }

}  // namespace vt_cuda

#endif
