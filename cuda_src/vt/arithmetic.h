// Functors of arithmetic: add ... pow, lerp, clamp, maximum. See math.h.
#ifndef VT_ARITHMETIC_H
#define VT_ARITHMETIC_H

#include "vt/checked.h"
#include "vt/elementary.h"

namespace VT_NS {

// Signed overflow wraps, as it does in PyTorch; so the arithmetic is done unsigned. (The short
// types are promoted to int, where nothing overflows.)
template <class A>
struct wrapping {
  using type = A;
};
template <>
struct wrapping<int32_t> {
  using type = uint32_t;
};
template <>
struct wrapping<int64_t> {
  using type = uint64_t;
};
template <class A>
using wrapping_t = typename wrapping<A>::type;

template <class A>
VT_HD A neg(A a) {
  if constexpr (is_integral<A>) {
    return A(wrapping_t<A>(0) - wrapping_t<A>(a));
  } else {
    return -a;
  }
}

template <class A>
VT_HD A add(A a, A b, A alpha) {
  using W = wrapping_t<A>;
  return A(W(a) + W(alpha) * W(b));
}
template <class A>
VT_HD A add(A a, A b) {
  using W = wrapping_t<A>;
  return A(W(a) + W(b));
}
template <class A>
VT_HD A sub(A a, A b, A alpha) {
  return VT_NS::add(a, b, neg(alpha));
}
template <class A>
VT_HD A sub(A a, A b) {
  using W = wrapping_t<A>;
  return A(W(a) - W(b));
}
template <class A>
VT_HD A mul(A a, A b) {
  using W = wrapping_t<A>;
  return A(W(a) * W(b));
}
// Integer division by zero is an error that the caller has reported; here it only must not trap.
// Neither must the lowest integer divided by -1.
template <class A>
VT_HD A div_trunc(A a, A b) {
  if constexpr (is_integral<A>) {
    if (b == A(0)) return A(0);
    if constexpr (is_signed<A>) {
      if (b == A(-1)) return neg(a);
    }
    return A(a / b);
  } else {
    return vtrunc(a / b);
  }
}

template <class A>
VT_HD A div(A a, A b) {
  if constexpr (is_integral<A>) {
    return div_trunc(a, b);
  } else {
    return a / b;
  }
}

// The rest of remainder and of div_floor, given fmod(a, b), for floating types.
template <class A>
VT_HD A remainder_from_fmod(A r, A b) {
  return r != A(0) && ((r < A(0)) != (b < A(0))) ? r + b : r;
}
// As Python does it: through the remainder, because a / b may round up to an integer.
template <class A>
VT_HD A div_floor_from_fmod(A a, A b, A r) {
  A q = (a - r) / b;
  q = r != A(0) && ((b < A(0)) != (r < A(0))) ? q - A(1) : q;
  A floored = vfloor(q);
  floored = q - floored > A(0.5) ? floored + A(1) : floored;
  floored = q == A(0) ? vcopysign(A(0), a / b) : floored;
  return b == A(0) ? a / b : floored;
}

struct exact_fmod {
  template <class A>
  static VT_HD A call(A a, A b) {
    return vfmod(a, b);
  }
};
struct exact_remainder {
  template <class A>
  static VT_HD A call(A a, A b) {
    return remainder_from_fmod(vfmod(a, b), b);
  }
};
struct exact_div_floor {
  template <class A>
  static VT_HD A call(A a, A b) {
    return div_floor_from_fmod(a, b, vfmod(a, b));
  }
};

template <class A>
VT_HD A fmod_integer(A a, A b) {
  if (b == A(0)) return A(0);
  if constexpr (is_signed<A>) {
    if (b == A(-1)) return A(0);
  }
  return A(a % b);
}

template <class A>
VT_HD auto fmod(A a, A b) {
  if constexpr (is_integral<A>) {
    return fmod_integer(a, b);
  } else {
#ifdef __CUDACC__
    return exact_fmod::call(a, b);
#else
    bool ok;
    A r = fmod_fast(a, b, &ok);
    return checked<A, exact_fmod>{r, ok};
#endif
  }
}

// Python's: the result has the sign of b.
template <class A>
VT_HD auto remainder(A a, A b) {
  if constexpr (is_integral<A>) {
    A r = fmod_integer(a, b);
    if constexpr (is_signed<A>) r = r != A(0) && ((r < A(0)) != (b < A(0))) ? A(r + b) : r;
    return r;
  } else {
#ifdef __CUDACC__
    return exact_remainder::call(a, b);
#else
    bool ok;
    A r = fmod_fast(a, b, &ok);
    return checked<A, exact_remainder>{remainder_from_fmod(r, b), ok};
#endif
  }
}

template <class A>
VT_HD auto div_floor(A a, A b) {
  if constexpr (is_integral<A>) {
    A q = div_trunc(a, b);
    if constexpr (is_signed<A>) {
      bool inexact = fmod_integer(a, b) != A(0);
      q = inexact && ((a < A(0)) != (b < A(0))) ? A(q - A(1)) : q;
    }
    return q;
  } else {
#ifdef __CUDACC__
    return exact_div_floor::call(a, b);
#else
    bool ok;
    A r = fmod_fast(a, b, &ok);
    return checked<A, exact_div_floor>{div_floor_from_fmod(a, b, r), ok};
#endif
  }
}

template <class A>
VT_HD A reciprocal(A a) {
  return A(1) / a;
}
template <class A>
VT_HD A square(A a) {
  return mul(a, a);
}

template <class A>
VT_HD A pow(A a, A b) {
  if constexpr (is_complex<A>) {
    return cpow(a, b);
  } else if constexpr (is_same<A, bool>::value) {
    return a || !b;
  } else if constexpr (is_integral<A>) {
    if constexpr (is_signed<A>) {
      // 1 / a^-b, truncated.
      if (b < A(0)) return a == A(1) ? A(1) : a == A(-1) ? ((b & 1) ? A(-1) : A(1)) : A(0);
    }
    using W = wrapping_t<A>;
    W result = 1, base = W(a);
    for (uint64_t n = uint64_t(b); n != 0; n >>= 1) {
      if (n & 1) result = W(result * base);
      base = W(base * base);
    }
    return A(result);
  } else {
    return vpow(a, b);
  }
}

// NaN wins.
template <class A>
VT_HD A maximum(A a, A b) {
  return a > b || a != a ? a : b;
}
template <class A>
VT_HD A minimum(A a, A b) {
  return a < b || a != a ? a : b;
}
template <class A>
VT_HD A clamp_min(A x, A lo) {
  return x != x ? x : (x < lo || lo != lo ? lo : x);
}
template <class A>
VT_HD A clamp_max(A x, A hi) {
  return x != x ? x : (x > hi || hi != hi ? hi : x);
}
template <class A>
VT_HD A clamp(A x, A lo, A hi) {
  return clamp_max(clamp_min(x, lo), hi);
}

// The form is chosen so that w = 1 gives b exactly.
template <class A>
VT_HD A lerp(A a, A b, A w) {
  A d = b - a;
  bool near_a;
  if constexpr (is_complex<A>) {
    near_a = w.re * w.re + w.im * w.im < real_t<A>(0.25);
  } else {
    near_a = vabs(w) < A(0.5);
  }
  A from_a = a + w * d, from_b = b + d * (w - A(1));
  return near_a ? from_a : from_b;
}

}  // namespace VT_NS
#endif
