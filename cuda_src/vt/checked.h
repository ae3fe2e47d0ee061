// Functions with a fast form that is right for nearly all arguments only. The functor returns a
// `checked` result; the loop first looks whether a whole block may use the fast form, and else calls
// the exact function, which does not vectorise. Host only: a GPU thread just branches.
#ifndef VT_CHECKED_H
#define VT_CHECKED_H

#include "vt/elementary.h"

#ifndef __CUDACC__
namespace VT_NS {

template <class A, class Exact>
struct checked {
  using value_type = A;
  using exact = Exact;  // struct with a static call(...) of the functor's arguments
  A value;
  bool ok;
};

struct exact_sin {
  template <class A>
  static A call(A x) {
    return vsin(x);
  }
};
struct exact_cos {
  template <class A>
  static A call(A x) {
    return vcos(x);
  }
};

template <class A>
VT_HD checked<A, exact_sin> checked_sin(A x) {
  return {sin_limited(x), vabs(x) <= A(trig_limit)};
}
template <class A>
VT_HD checked<A, exact_cos> checked_cos(A x) {
  return {cos_limited(x), vabs(x) <= A(trig_limit)};
}

// The remainder by one division: a - trunc(a / b) * b is exact where the quotient fits the mantissa.
template <class W, class A>
VT_HD A fmod_by_division(W a, W b, W limit, bool *ok) {
  W quotient = a / b;
  W q = vtrunc(quotient);
  W r = a - q * b;
  // The quotient may have been rounded up to an integer.
  r = (r < W(0)) != (a < W(0)) && r != W(0) ? r + vcopysign(b, a) : r;
  r = q == W(0) ? a : r;
  *ok = vabs(quotient) < limit;
  return A(vcopysign(r, a));
}
VT_HD float fmod_fast(float a, float b, bool *ok) {
  return fmod_by_division<double, float>(a, b, 536870912., ok);
}
VT_HD double fmod_fast(double a, double b, bool *ok) {
#ifdef __FMA__
  return fmod_by_division<double, double>(a, b, 4503599627370496., ok);
#else
  *ok = false;  // the product is not exact
  return a;
#endif
}

}  // namespace VT_NS
#endif
#endif
