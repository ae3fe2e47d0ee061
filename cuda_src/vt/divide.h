// Division by a number that is known before the launch.
#ifndef VT_DIVIDE_H
#define VT_DIVIDE_H

#include "vt/config.h"

namespace VT_NS {

// One multiplication instead of some twenty instructions, for dividends below 2^31 and divisors from 1
// to 2^31. Granlund and Montgomery, PLDI 1994.
struct Divider {
  uint32_t divisor, magic, shift;

  static Divider of(uint32_t d) {
    const uint32_t shift = d <= 1 ? 0 : 32 - __builtin_clz(d - 1);
    const uint64_t excess = (uint64_t(1) << 32) * ((uint64_t(1) << shift) - d) / d;
    return {d, uint32_t(excess + 1), shift};
  }
  VT_HD uint32_t quotient(uint32_t n) const {
#ifdef __CUDA_ARCH__
    return (__umulhi(n, magic) + n) >> shift;
#else
    return uint32_t(((uint64_t(n) * magic >> 32) + n) >> shift);
#endif
  }
};

}  // namespace VT_NS

#endif
