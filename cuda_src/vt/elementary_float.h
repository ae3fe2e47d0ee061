// Elementary functions of float for the host: branch-free, so that a loop over them vectorises, right
// for every input (infinities, NaN, signed zeros, denormals). The polynomials are minimax fits made
// for this file; `a * b + c` is meant to become one instruction where the processor has it.
// Errors, in units in the last place, are those measured over all floats with FMA.
#ifndef VT_ELEMENTARY_FLOAT_H
#define VT_ELEMENTARY_FLOAT_H

#include "vt/config.h"

namespace VT_NS {

VT_HD float float_from_bits(int32_t i) { return bit_cast<float>(i); }
VT_HD int32_t float_bits(float x) { return bit_cast<int32_t>(x); }
VT_HD float select(bool c, float a, float b) { return c ? a : b; }

// 2^n for n in [-126, 127].
VT_HD float exp2_int(int32_t n) { return float_from_bits((n + 127) << 23); }

// x = n * log(2) + r with |r| <= log(2) / 2, for |x| < 1e5. Adding 1.5 * 2^23 rounds to an integer and
// leaves it in the low bits. The upper part of log(2) has few bits, so that its multiples are exact.
VT_HD int32_t reduce_log2(float x, float *r) {
  constexpr float shift = 12582912.f;
  float t = x * 1.44269504f + shift;
  float n = t - shift;
  float f = x - n * 0.693145752f;
  *r = f - n * 1.42860677e-6f;
  return float_bits(t) - float_bits(shift);
}

// (exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2. In two halves, because the chain of dependent
// instructions, not their number, limits such loops.
VT_HD float exp_quadratic(float r) {
  float low = 1.666652113e-01f * r + 4.999999404e-01f;
  float high = 8.368677460e-03f * r + 4.166826606e-02f;
  float s = r * r;
  high = 1.382073388e-03f * s + high;
  return high * s + low;
}

// 1.0 ulp.
VT_HD float vexp(float x) {
  // Beyond these the result is 0 or infinity; a NaN passes both comparisons.
  float c = x < -105.f ? -105.f : x;
  c = c > 89.f ? 89.f : c;
  float r;
  int32_t n = reduce_log2(c, &r);
  float q = exp_quadratic(r);
  float p = q * (r * r) + r;
  p = p + 1.f;
  // In two steps, so that results in the denormals round once and n = 128 does not overflow early.
  int32_t half_n = n >> 1;
  return p * exp2_int(half_n) * exp2_int(n - half_n);
}

// 1.2 ulp.
VT_HD float vexpm1(float x) {
  float c = x < -30.f ? -30.f : x;
  c = c > 89.f ? 89.f : c;
  float r;
  int32_t n = reduce_log2(c, &r);
  float s = r * r;
  float even = 1.393233077e-03f * s + 4.166649282e-02f;
  float odd = 1.976257190e-04f * s + 8.333545178e-03f;
  even = even * s + 5.000000000e-01f;
  odd = odd * s + 1.666666567e-01f;
  float p = (odd * r + even) * s + r;
  // Half the result, because n can be 128.
  float scale = exp2_int(n - 1);
  float y = 2.f * (scale * p + (scale - 0.5f));
  return __builtin_fabsf(x) < 1e-7f ? x : y;
}

// log(1 + f) - f + f^2 / 2 for 1 + f in [sqrt(1/2), sqrt(2)].
VT_HD float log1p_cubic(float f) {
  float s = f * f;
  float even = 1.276221573e-01f * s + 1.420157999e-01f;
  float odd = -7.636435330e-02f * s - 1.315961033e-01f;
  even = even * s + 2.000124156e-01f;
  odd = odd * s - 1.662340909e-01f;
  even = even * s + 3.333333135e-01f;
  odd = odd * s - 2.500081956e-01f;
  return (odd * f + even) * (f * s);
}

// x = m * 2^e with m in [sqrt(1/2), sqrt(2)), for positive normal x; returns e.
VT_HD int32_t split_mantissa(float x, float *m) {
  constexpr int32_t root_half = 0x3f3504f3;
  int32_t bits = float_bits(x) - root_half;
  *m = float_from_bits((bits & 0x007fffff) + root_half);
  return bits >> 23;
}

// What log, log2 and log1p return outside their domain.
VT_HD float log_special(float x, float y) {
  y = x == __builtin_inff() ? x : y;
  y = x == 0.f ? -__builtin_inff() : y;
  return x >= 0.f ? y : __builtin_nanf("");
}

// 0.9 ulp.
VT_HD float vlog(float x) {
  bool tiny = x < 1.17549435e-38f;
  float scaled = tiny ? x * 8388608.f : x;
  float m;
  float e = float(split_mantissa(scaled, &m)) - (tiny ? 23.f : 0.f);
  float f = m - 1.f;
  float y = log1p_cubic(f) + e * 1.42860677e-6f;
  y = y - 0.5f * f * f;
  y = y + f;
  y = y + e * 0.693145752f;
  return log_special(x, y);
}

// 1.0 ulp; exact for powers of two.
VT_HD float vlog2(float x) {
  bool tiny = x < 1.17549435e-38f;
  float scaled = tiny ? x * 8388608.f : x;
  float m;
  float e = float(split_mantissa(scaled, &m)) - (tiny ? 23.f : 0.f);
  float f = m - 1.f;
  // log2(m) = log(m) + log(m) * (log2(e) - 1): the larger term stays exact.
  float low = log1p_cubic(f) - 0.5f * f * f;
  float y = (f + low) * 0.442695041f;
  y = y + low;
  y = y + f;
  y = y + e;
  return log_special(x, y);
}

VT_HD float vlog10(float x) {
  bool tiny = x < 1.17549435e-38f;
  float scaled = tiny ? x * 8388608.f : x;
  float m;
  float e = float(split_mantissa(scaled, &m)) - (tiny ? 23.f : 0.f);
  float f = m - 1.f;
  float low = log1p_cubic(f) - 0.5f * f * f;
  // log10(2) split so that its upper part times an exponent is exact.
  float y = low * 0.434294492f + e * 4.6050390e-6f;
  y = y + f * 0.434294492f;
  y = y + e * 0.301025391f;
  return log_special(x, y);
}

// 1.1 ulp.
VT_HD float vlog1p(float x) {
  float m;
  int32_t e = split_mantissa(1.f + x, &m);
  // 1 + x = 2^e * (1 + f); working from x itself keeps the bits that 1 + x lost.
  float scale = exp2_int(e > 64 ? 0 : -e);
  float f = x * scale + (scale - 1.f);
  f = e > 64 ? m - 1.f : f;
  float ef = float(e);
  float y = log1p_cubic(f) + ef * 1.42860677e-6f;
  y = y - 0.5f * f * f;
  y = y + f;
  y = y + ef * 0.693145752f;
  y = __builtin_fabsf(x) < 1e-8f ? x : y;
  y = x == __builtin_inff() ? x : y;
  y = x == -1.f ? -__builtin_inff() : y;
  return x >= -1.f ? y : __builtin_nanf("");
}

// x = n * pi/2 + r for |x| <= trig_limit, worked out in double; returns n in the low bits.
VT_HD int32_t reduce_pi_half(float x, float *r) {
  constexpr double shift = 6755399441055744.;  // 1.5 * 2^52
  double t = double(x) * 0.63661977236758138 + shift;
  double n = t - shift;
  // The parts of pi/2 have 33 bits each: their multiples are exact.
  double d = double(x) - n * 1.57079632673412561417e+00;
  *r = float(d - n * 6.07710050650619224932e-11);
  return int32_t(bit_cast<int64_t>(t));
}

VT_HD float sin_poly(float r) {
  float s = r * r;
  float p = -1.951840823e-04f;
  p = p * s + 8.332190104e-03f;
  p = p * s - 1.666665524e-01f;
  return p * (s * r) + r;
}

VT_HD float cos_poly(float r) {
  float s = r * r;
  float p = 2.443066842e-05f;
  p = p * s - 1.388730132e-03f;
  p = p * s + 4.166664556e-02f;
  float h = 0.5f * s, w = 1.f - h;
  return w + (((1.f - w) - h) + p * (s * s));
}

VT_HD float sin_quadrant(float r, int32_t n) {
  float y = (n & 1) ? cos_poly(r) : sin_poly(r);
  return float_from_bits(float_bits(y) ^ int32_t(uint32_t(n & 2) << 30));
}

VT_HD float sin_limited(float x) {
  float r;
  int32_t n = reduce_pi_half(x, &r);
  return x == 0.f ? x : sin_quadrant(r, n);
}

VT_HD float cos_limited(float x) {
  float r;
  int32_t n = reduce_pi_half(x, &r);
  return sin_quadrant(r, n + 1);
}

// exp for |x| < 87.
VT_HD float exp_limited(float x) {
  float r;
  int32_t n = reduce_log2(x, &r);
  float q = exp_quadratic(r);
  float p = q * (r * r) + r;
  return (p + 1.f) * exp2_int(n);
}

// Up to 1 a correction of x, then 1 - 2 / (exp(2x) + 1); the two share the division.
VT_HD float vtanh(float x) {
  float t = __builtin_fabsf(x);
  bool small = t < 1.f;
  t = t > 10.f ? 10.f : t;
  float s = t * t;
  float p = -1.4707495821e-02f * s - 3.3333333256e-01f;
  float q = (1.5744606587e-02f * s + 4.4412241261e-01f) * s + 1.f;
  float correction = (small ? p * (s * t) : -2.f) / (small ? q : exp_limited(2.f * t) + 1.f);
  return __builtin_copysignf((small ? t : 1.f) + correction, x);
}

VT_HD float verf(float x) {
  float t = __builtin_fabsf(x);
  float c = t > 3.95f ? 3.95f : t;
  // Below 0.9: x + x P(x^2).
  float s = c * c;
  float p = 7.914265007e-05f;
  p = p * s - 8.033550694e-04f;
  p = p * s + 5.191283301e-03f;
  p = p * s - 2.685541473e-02f;
  p = p * s + 1.128362268e-01f;
  p = p * s - 3.761262894e-01f;
  p = p * s + 1.283791661e-01f;
  float near = p * t + t;
  // Above: 1 - exp(-R(x)).
  float r = 2.091256283e-05f;
  r = r * c - 4.323246249e-04f;
  r = r * c + 4.160584416e-03f;
  r = r * c - 2.509156056e-02f;
  r = r * c + 1.082366332e-01f;
  r = r * c + 6.333866715e-01f;
  r = r * c + 1.129495144e+00f;
  r = r * c - 1.705507602e-04f;
  float far = 1.f - exp_limited(-r);
  return __builtin_copysignf(t < 0.9f ? near : far, t == t ? x : t);
}

// |x|^b in double, rounded once, then the sign and the exceptions of C99. About 0.5 ulp.
VT_HD float vpow(float a, float b) {
  // log2|a| = e + 2 atanh(s) / log(2), s = (m - 1) / (m + 1).
  double x = __builtin_fabs(double(a));
  constexpr uint64_t root_half = 0x3fe6a09e667f3bcd;
  uint64_t bits = bit_cast<uint64_t>(x) - root_half;
  double m = bit_cast<double>((bits & 0x000fffffffffffff) + root_half);
  uint64_t biased = (bits + (uint64_t(2048) << 52)) >> 52;
  double e = bit_cast<double>(biased | 0x4330000000000000) - (4503599627370496. + 2048.);
  double s = (m - 1.) / (m + 1.), z = s * s;
  double l = 0.2829103604338391;
  l = l * z + 0.31990495590371604;
  l = l * z + 0.412209271222635;
  l = l * z + 0.5770779421691227;
  l = l * z + 0.9617966941140552;
  l = l * z + 2.8853900817778495;
  double log2 = e + s * l;
  double infinity = __builtin_inf();
  log2 = x == 0. ? -infinity : log2;
  log2 = x == infinity ? infinity : log2;
  log2 = x != x ? x : log2;
  // 1 to any power is 1, and so is anything to the power 0.
  double y = (x == 1.) | (b == 0.f) ? 0. : log2 * double(b);
  y = y > 300. ? 300. : y;
  y = y < -300. ? -300. : y;
  constexpr double shift = 6755399441055744. + 1023.;
  double t = y + shift;
  double r = y - (t - shift);
  double w = 1.5316466829527858e-05;
  w = w * r + 0.00015469734609467367;
  w = w * r + 0.0013333422627378703;
  w = w * r + 0.009618025593004157;
  w = w * r + 0.05550410976125565;
  w = w * r + 0.24022651213689292;
  w = w * r + 0.6931471805350234;
  w = w * r + 0.9999999999595351;
  float result = float(w * bit_cast<double>(bit_cast<uint64_t>(t) << 52));
  // A negative base needs an integer exponent; an odd one gives a negative result.
  bool integer = __builtin_truncf(b) == b;
  bool odd = integer & (__builtin_truncf(0.5f * b) != 0.5f * b);
  bool negative = float_bits(a) < 0;
  result = negative & odd ? -result : result;
  bool invalid = (a < 0.f) & !integer & (a != -__builtin_inff());
  invalid = invalid | ((a == -1.f) & (b != b));
  return invalid ? __builtin_nanf("") : result;
}

}  // namespace VT_NS
#endif
