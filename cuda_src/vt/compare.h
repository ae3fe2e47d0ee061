// Functors that return bool, bitwise functors, and selection. See math.h.
#ifndef VT_COMPARE_H
#define VT_COMPARE_H

#include "vt/elementary.h"

namespace VT_NS {

template <class A>
VT_HD bool eq(A a, A b) {
  return a == b;
}
template <class A>
VT_HD bool ne(A a, A b) {
  return a != b;
}
template <class A>
VT_HD bool lt(A a, A b) {
  return a < b;
}
template <class A>
VT_HD bool le(A a, A b) {
  return a <= b;
}
template <class A>
VT_HD bool gt(A a, A b) {
  return a > b;
}
template <class A>
VT_HD bool ge(A a, A b) {
  return a >= b;
}

template <class A>
VT_HD bool truth(A a) {
  return a != A(0);
}
template <class A>
VT_HD bool logical_and(A a, A b) {
  return truth(a) & truth(b);
}
template <class A>
VT_HD bool logical_or(A a, A b) {
  return truth(a) | truth(b);
}
template <class A>
VT_HD bool logical_xor(A a, A b) {
  return truth(a) != truth(b);
}
template <class A>
VT_HD bool logical_not(A a) {
  return !truth(a);
}

template <class A>
VT_HD A bitwise_and(A a, A b) {
  return A(a & b);
}
template <class A>
VT_HD A bitwise_or(A a, A b) {
  return A(a | b);
}
template <class A>
VT_HD A bitwise_xor(A a, A b) {
  return A(a ^ b);
}
template <class A>
VT_HD A bitwise_not(A a) {
  if constexpr (is_same<A, bool>::value) {
    return !a;
  } else {
    return A(~a);
  }
}

template <class A>
VT_HD bool isnan(A a) {
  if constexpr (is_complex<A>) {
    return (a.re != a.re) | (a.im != a.im);
  } else {
    return a != a;
  }
}
template <class A>
VT_HD bool isfinite(A a) {
  if constexpr (is_complex<A>) {
    return isfinite(a.re) & isfinite(a.im);
  } else if constexpr (is_floating<A>) {
    return a - a == A(0);
  } else {
    return true;
  }
}
template <class A>
VT_HD bool isinf(A a) {
  if constexpr (is_complex<A>) {
    return isinf(a.re) | isinf(a.im);
  } else if constexpr (is_floating<A>) {
    return (a == a) & (a - a != A(0));
  } else {
    return false;
  }
}

template <class A>
VT_HD A where(bool condition, A a, A b) {
  return condition ? a : b;
}
template <class A>
VT_HD A masked_fill(A x, bool mask, A value) {
  return mask ? value : x;
}

}  // namespace VT_NS
#endif
