// Conversion of one element to another dtype, as the CPU's casts do it: from floating to integer
// truncates, from complex to anything else takes the real part, to bool is "not zero".
#ifndef VT_CONVERT_H
#define VT_CONVERT_H

#include "vt/dtype.h"

namespace VT_NS {

template <class To, class From>
VT_HD To convert(From x) {
  if constexpr (is_same<To, From>::value) {
    return x;
  } else if constexpr (is_half_type<From>) {
    return convert<To>(float(x));
  } else if constexpr (is_half_type<To>) {
    return To(convert<float>(x));
  } else if constexpr (is_same<To, bool>::value) {
    return x != From(0);
  } else if constexpr (is_complex<To> && is_complex<From>) {
    return To(x);
  } else if constexpr (is_complex<To>) {
    return To(convert<real_t<To>>(x));
  } else if constexpr (is_complex<From>) {
    return convert<To>(x.re);
  } else if constexpr (is_floating<From> && is_same<To, uint8_t>::value) {
    return To(int64_t(x));  // negative numbers wrap
  } else if constexpr (is_floating<From> && is_integral<To> && sizeof(To) < 4) {
    return To(int32_t(x));
  } else {
    return To(x);
  }
}

// x as it is after a conversion to `dtype`, which is of the class C computes for: float for the half
// types, int64 for all integers.
template <class C>
VT_HD C narrow(C x, int dtype) {
  if constexpr (is_same<C, float>::value) {
    if (dtype == VT_F16) return float(half(x));
    if (dtype == VT_BF16) return float(bfloat16(x));
  } else if constexpr (is_same<C, int64_t>::value) {
    if (dtype == VT_U8) return uint8_t(x);
    if (dtype == VT_I8) return int8_t(x);
    if (dtype == VT_I16) return int16_t(x);
    if (dtype == VT_I32) return int32_t(x);
  }
  return x;
}

}  // namespace VT_NS

#endif
