// A number given to a kernel, as an element.
#ifndef VT_CPU_SCALAR_H
#define VT_CPU_SCALAR_H

#include "vibetensor/cpu/kernel_utils.h"

namespace VT_NS {

// Integers never pass through a float on their way to an integer; what does not fit wraps.
template <class T>
T element_from(const vt_value &v) {
  if constexpr (is_complex<T>) {
    using R = real_t<T>;
    return v.kind == VT_VALUE_INT ? T(static_cast<R>(v.i))
                                  : T(static_cast<R>(v.re), static_cast<R>(v.im));
  } else if constexpr (is_same<T, bool>::value) {
    return v.kind == VT_VALUE_INT ? v.i != 0 : v.re != 0 || v.im != 0;
  } else if constexpr (is_integral<T>) {
    return static_cast<T>(v.kind == VT_VALUE_INT ? v.i : static_cast<int64_t>(v.re));
  } else {
    using A = acc_t<T>;
    return static_cast<T>(v.kind == VT_VALUE_INT ? static_cast<A>(v.i) : static_cast<A>(v.re));
  }
}

}  // namespace VT_NS
#endif
