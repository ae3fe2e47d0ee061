// Functors of one argument: parts of a number, rounding, powers, exponentials, trigonometry.
// See math.h.
#ifndef VT_UNARY_H
#define VT_UNARY_H

#include "vt/arithmetic.h"

namespace VT_NS {

template <class A>
VT_HD real_t<A> abs(A a) {
  if constexpr (is_complex<A>) {
    return cabs(a);
  } else if constexpr (is_floating<A>) {
    return vabs(a);
  } else {
    if constexpr (is_signed<A>) return a < A(0) ? neg(a) : a;
    return a;
  }
}

// NaN has the sign 0; a complex number's is the number over its absolute value.
template <class A>
VT_HD A sign(A a) {
  if constexpr (is_complex<A>) {
    real_t<A> r = abs(a);
    return r == real_t<A>(0) ? A(0) : a / r;
  } else {
    return A((a > A(0)) - (a < A(0)));
  }
}

template <class A>
VT_HD A conj(A a) {
  if constexpr (is_complex<A>) {
    return A(a.re, -a.im);
  } else {
    return a;
  }
}
template <class A>
VT_HD real_t<A> real(A a) {
  if constexpr (is_complex<A>) {
    return a.re;
  } else {
    return a;
  }
}
template <class A>
VT_HD real_t<A> imag(A a) {
  if constexpr (is_complex<A>) {
    return a.im;
  } else {
    return A(0);
  }
}

// Integers have nothing to round.
#define VT_ROUNDING(name)         \
  template <class A>              \
  VT_HD A name(A a) {             \
    if constexpr (is_integral<A>) \
      return a;                   \
    else                          \
      return v##name(a);          \
  }
VT_ROUNDING(floor)
VT_ROUNDING(ceil)
VT_ROUNDING(trunc)
VT_ROUNDING(round)
#undef VT_ROUNDING

#define VT_REAL_OR_COMPLEX(name) \
  template <class A>             \
  VT_HD A name(A a) {            \
    if constexpr (is_complex<A>) \
      return c##name(a);         \
    else                         \
      return v##name(a);         \
  }
VT_REAL_OR_COMPLEX(exp)
VT_REAL_OR_COMPLEX(log)
VT_REAL_OR_COMPLEX(sqrt)
VT_REAL_OR_COMPLEX(tanh)
#undef VT_REAL_OR_COMPLEX

#ifdef __CUDACC__
#define VT_TRIG(name) v##name(a)
#else
#define VT_TRIG(name) checked_##name(a)
#endif
template <class A>
VT_HD auto sin(A a) {
  if constexpr (is_complex<A>) {
    return csin(a);
  } else {
    return VT_TRIG(sin);
  }
}
template <class A>
VT_HD auto cos(A a) {
  if constexpr (is_complex<A>) {
    return ccos(a);
  } else {
    return VT_TRIG(cos);
  }
}
#undef VT_TRIG

template <class A>
VT_HD A expm1(A a) {
  if constexpr (is_complex<A>) {
    // e^a - 1 without cancellation: cos(y) - 1 = -2 sin(y/2)^2.
    real_t<A> half_sin = vsin(a.im * real_t<A>(0.5)), e = vexp(a.re);
    return A(vexpm1(a.re) * vcos(a.im) - real_t<A>(2) * half_sin * half_sin, e * vsin(a.im));
  } else {
    return vexpm1(a);
  }
}

template <class A>
VT_HD A log1p(A a) {
  if constexpr (is_complex<A>) {
    // |1 + a|^2 - 1 = re (2 + re) + im^2, which keeps small values; far out nothing cancels.
    using R = real_t<A>;
    A z = clog(a + R(1));
    double x = a.re, y = a.im;
    R square = R(x * (2 + x) + y * y);
    return vabs(square) < R(0.5) ? A(vlog1p(square) * R(0.5), z.im) : z;
  } else {
    return vlog1p(a);
  }
}

template <class A>
VT_HD A log2(A a) {
  if constexpr (is_complex<A>) {
    return clog(a) * real_t<A>(1.4426950408889634);
  } else {
    return vlog2(a);
  }
}
template <class A>
VT_HD A log10(A a) {
  if constexpr (is_complex<A>) {
    return clog(a) * real_t<A>(0.43429448190325183);
  } else {
    return vlog10(a);
  }
}

template <class A>
VT_HD A rsqrt(A a) {
  if constexpr (is_complex<A>) {
    return A(1) / csqrt(a);
  } else {
    return vrsqrt(a);
  }
}
template <class A>
VT_HD A erf(A a) {
  return verf(a);
}

}  // namespace VT_NS
#endif
