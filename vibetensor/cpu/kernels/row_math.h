// Vector math over contiguous rows of float or double: what softmax, norms and losses are made of.
#ifndef VT_CPU_KERNELS_ROW_MATH_H
#define VT_CPU_KERNELS_ROW_MATH_H

#include "vibetensor/cpu/kernels/lanes.h"
#include "vt/elementary.h"

namespace VT_NS {

// exp(x) for x <= 40 (NaN passes), of a scalar or a vector: shorter than vexp, because only the
// small end of the range needs care. x = n log(2) + r; the power of two is applied in two steps, so
// that results among the denormals round once.
template <class T>
struct ExpParts;

template <>
struct ExpParts<float> {
  static constexpr float lowest = -105.f;     // rounds to zero from here on
  static constexpr float shift = 12582912.f;  // 1.5 * 2^23: the sum's low bits are an integer
  static constexpr float log2_high = 0.693145752f, log2_low = 1.42860677e-6f;
  static constexpr int bits = 23, bias = 127, lift = 64;
  static constexpr float unlift = 5.42101086e-20f;  // 2^-64
  // (exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2.
  template <class V>
  static VT_INLINE V tail(V r) {
    V q = r * 1.382073388e-03f + 8.368677460e-03f;
    q = q * r + 4.166826606e-02f;
    q = q * r + 1.666652113e-01f;
    return q * r + 4.999999404e-01f;
  }
};

template <>
struct ExpParts<double> {
  static constexpr double lowest = -746.;
  static constexpr double shift = 6755399441055744.;  // 1.5 * 2^52
  static constexpr double log2_high = 6.93147180369123816490e-01;
  static constexpr double log2_low = 1.90821492927058770002e-10;
  static constexpr int bits = 52, bias = 1023, lift = 512;
  static constexpr double unlift = 7.458340731200207e-155;  // 2^-512
  // The power series, to r^13 / 13!.
  template <class V>
  static VT_INLINE V tail(V r) {
    V q = r * (1. / 6227020800.) + 1. / 479001600.;
    q = q * r + 1. / 39916800.;
    q = q * r + 1. / 3628800.;
    q = q * r + 1. / 362880.;
    q = q * r + 1. / 40320.;
    q = q * r + 1. / 5040.;
    q = q * r + 1. / 720.;
    q = q * r + 1. / 120.;
    q = q * r + 1. / 24.;
    q = q * r + 1. / 6.;
    return q * r + 0.5;
  }
};

// T is the element type, V is T or a vector of T, I the integer type(s) of the same size.
template <class T, class V, class I>
VT_INLINE V exp_small_as(V x) {
  using P = ExpParts<T>;
  const V lowest = V{} + P::lowest;
  const V c = x < lowest ? lowest : x;
  const V t = c * T(1.44269504088896341) + P::shift;
  const V n = t - P::shift;
  V r = c - n * P::log2_high;
  r = r - n * P::log2_low;
  const V p = P::tail(r) * (r * r) + r + T(1);
  const I exponent = (bit_cast<I>(t) + (P::bias + P::lift)) << P::bits;
  return p * bit_cast<V>(exponent) * P::unlift;
}
template <class T>
VT_INLINE T exp_small(T x) {
  return exp_small_as<T, T, lane_index<T>>(x);
}
template <class T>
VT_INLINE vec<T> exp_small(vec<T> x) {
  typedef lane_index<T> I __attribute__((vector_size(kVectorBytes)));
  return exp_small_as<T, vec<T>, I>(x);
}

template <class T>
VT_INLINE T fold_add(vec<T> v) {
  return fold_lanes<T>(v, [](auto a, auto b) { return a + b; });
}

// The largest element of a row; a NaN may be passed over.
template <class T>
VT_INLINE T row_max(const T *x, int64_t n) {
  constexpr int64_t K = kLanes<T>;
  const T lowest = -__builtin_inf();
  T m = lowest;
  int64_t i = 0;
  if (n >= K) {
    const auto larger_of = [](auto a, auto b) { return a > b ? a : b; };
    vec<T> a = splat(lowest), b = a, c = a, d = a;
    for (; i + 4 * K <= n; i += 4 * K) {
      a = larger_of(load(x + i), a);
      b = larger_of(load(x + i + K), b);
      c = larger_of(load(x + i + 2 * K), c);
      d = larger_of(load(x + i + 3 * K), d);
    }
    for (; i + K <= n; i += K) a = larger_of(load(x + i), a);
    // The last vector may overlap the one before: a maximum does not mind.
    b = larger_of(load(x + n - K), b);
    return fold_lanes<T>(larger_of(larger_of(a, b), larger_of(c, d)), larger_of);
  }
  for (; i < n; i++) m = x[i] > m ? x[i] : m;
  return m;
}

// The sum over a row of term(x[i], y[i], ...); the pointers' elements come as vectors. `term` of
// zeros must be zero.
template <class V, class Term, class... P>
VT_INLINE V row_fold_add(int64_t n, const Term &term, const P *...x) {
  constexpr int64_t K = kLanes<V>;
  vec<V> a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 4 * K <= n; i += 4 * K) {
    a += term(load(x + i)...);
    b += term(load(x + i + K)...);
    c += term(load(x + i + 2 * K)...);
    d += term(load(x + i + 3 * K)...);
  }
  for (; i + K <= n; i += K) a += term(load(x + i)...);
  if (i < n) b += term(load_part(x + i, n - i, V(0))...);
  return fold_add<V>((a + b) + (c + d));
}

template <class V>
VT_INLINE V row_sum(const V *x, int64_t n) {
  return row_fold_add<V>(n, [](auto p) { return p; }, x);
}
template <class V>
VT_INLINE V row_dot(const V *x, const V *y, int64_t n) {
  return row_fold_add<V>(n, [](auto p, auto q) { return p * q; }, x, y);
}

// The sums of x - center and of its square.
template <class V>
struct CentredSums {
  V first, second;
};
template <class V>
VT_INLINE CentredSums<V> row_centred(const V *x, int64_t n, V center) {
  constexpr int64_t K = kLanes<V>;
  vec<V> a{}, b{}, c{}, d{};
  int64_t i = 0;
  vec<V> e{}, f{};
  for (; i + 4 * K <= n; i += 4 * K) {
    const vec<V> p = load(x + i) - center, q = load(x + i + K) - center;
    const vec<V> r = load(x + i + 2 * K) - center, s = load(x + i + 3 * K) - center;
    a += p + r;
    b += q + s;
    c += p * p;
    d += q * q;
    e += r * r;
    f += s * s;
  }
  for (; i + K <= n; i += K) {
    const vec<V> p = load(x + i) - center;
    a += p;
    c += p * p;
  }
  if (i < n) {
    const vec<V> p = load_part(x + i, n - i, center) - center;
    b += p;
    d += p * p;
  }
  return {fold_add<V>(a + b), fold_add<V>((c + d) + (e + f))};
}

// y[i] = f(x[i], ...), by vectors. A row may be mapped in place.
template <class V, class F, class... P>
VT_INLINE void row_map(V *y, int64_t n, const F &f, const P *...x) {
  constexpr int64_t K = kLanes<V>;
  int64_t i = 0;
  for (; i + 2 * K <= n; i += 2 * K) {
    const vec<V> a = f(load(x + i)...), b = f(load(x + i + K)...);
    store(y + i, a);
    store(y + i + K, b);
  }
  if (i + K <= n) {
    store(y + i, f(load(x + i)...));
    i += K;
  }
  if (i < n) store_part(y + i, n - i, f(load_part(x + i, n - i, V(0))...));
}

}  // namespace VT_NS

#endif
