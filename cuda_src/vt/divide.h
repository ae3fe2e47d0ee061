// Division by a divider (pointwise_args.h) that the host made.
#ifndef VT_DIVIDE_H
#define VT_DIVIDE_H

#include "vt/config.h"
#include "vt/pointwise_args.h"

namespace VT_NS {

VT_HD uint32_t divide(uint32_t n, const Divider &by) {
#ifdef __CUDA_ARCH__
  return (__umulhi(n, by.magic) + n) >> by.shift;
#else
  return uint32_t(((uint64_t(n) * by.magic >> 32) + n) >> by.shift);
#endif
}

// For divisors from 1 to 2^31.
inline Divider make_divider(uint32_t divisor) {
  const uint32_t shift = divisor <= 1 ? 0 : 32 - __builtin_clz(divisor - 1);
  const uint64_t magic = ((uint64_t(1) << 32) * ((uint64_t(1) << shift) - divisor)) / divisor + 1;
  return {divisor, uint32_t(magic), shift};
}

}  // namespace VT_NS

#endif
