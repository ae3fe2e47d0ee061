// Elementary functions of double for the host, as in elementary_float.h: branch-free, right for every
// input, polynomials fitted for this file. AVX2 converts no 64-bit integers, so exponents move between
// integer and floating point by their bits.
#ifndef VT_ELEMENTARY_DOUBLE_H
#define VT_ELEMENTARY_DOUBLE_H

#include "vt/config.h"

namespace VT_NS {

VT_HD double double_from_bits(uint64_t i) { return bit_cast<double>(i); }
VT_HD uint64_t double_bits(double x) { return bit_cast<uint64_t>(x); }

constexpr double round_shift = 6755399441055744.;  // 1.5 * 2^52

// 2^n of a biased exponent n + 1023 in [1, 2046].
VT_HD double exp2_biased(uint64_t biased) { return double_from_bits(biased << 52); }

// x = n * log(2) + r with |r| <= log(2) / 2, for |x| < 1e6; returns n + 4096.
VT_HD uint64_t reduce_log2(double x, double *r) {
  double t = x * 1.4426950408889634 + (round_shift + 4096.);
  double n = t - (round_shift + 4096.);
  double f = x - n * 6.93147180369123816490e-01;  // 33 bits: exact multiples
  *r = f - n * 1.90821492927058770002e-10;
  return double_bits(t) & 0xffffu;
}

// exp(r) - 1 - r for |r| <= log(2) / 2.
VT_HD double exp_tail(double r) {
  double q = 2.091813926216654e-09;
  q = q * r + 2.511003542408702e-08;
  q = q * r + 2.755726431171092e-07;
  q = q * r + 2.755724237915773e-06;
  q = q * r + 2.4801587333955158e-05;
  q = q * r + 1.9841269886547964e-04;
  q = q * r + 1.3888888888880942e-03;
  q = q * r + 8.333333333322224e-03;
  q = q * r + 4.166666666666667e-02;
  q = q * r + 1.6666666666666674e-01;
  q = q * r + 0.5;
  return q * (r * r);
}

VT_HD double vexp(double x) {
  // Beyond these the result is 0 or infinity; a NaN passes both comparisons.
  double c = x < -750. ? -750. : x;
  c = c > 710. ? 710. : c;
  double r;
  uint64_t n = reduce_log2(c, &r);
  double p = (exp_tail(r) + r) + 1.;
  // In two steps, so that results in the denormals round once and n = 1024 does not overflow early.
  uint64_t half_n = n >> 1;
  return p * exp2_biased(half_n - (2048 - 1023)) * exp2_biased(n - half_n - (2048 - 1023));
}

VT_HD double vexpm1(double x) {
  double c = x < -50. ? -50. : x;
  c = c > 710. ? 710. : c;
  double r;
  uint64_t n = reduce_log2(c, &r);
  double p = exp_tail(r) + r;
  double scale = exp2_biased(n - (4096 - 1023) - 1);  // half the result, because n can be 1024
  double y = 2. * (scale * p + (scale - 0.5));
  return __builtin_fabs(x) < 1e-16 ? x : y;
}

// x = m * 2^e with m in [sqrt(1/2), sqrt(2)), for positive normal x; returns e.
VT_HD double split_mantissa(double x, double *m) {
  constexpr uint64_t root_half = 0x3fe6a09e667f3bcd;
  uint64_t bits = double_bits(x) - root_half;
  *m = double_from_bits((bits & 0x000fffffffffffff) + root_half);
  // e + 2048 as the low bits of a double of 2^52.
  uint64_t biased = (bits + (uint64_t(2048) << 52)) >> 52;
  return double_from_bits(biased | 0x4330000000000000) - (4503599627370496. + 2048.);
}

// log(1 + f) - f for 1 + f in [sqrt(1/2), sqrt(2)]. With s = f / (2 + f) the logarithm is
// 2 atanh(s) = 2s + s R(s^2), and 2s = f - (f^2 / 2 - s f^2 / 2).
VT_HD double log1p_tail(double f) {
  double s = f / (2. + f), z = s * s;
  double r = 1.4810520371788835e-01;
  r = r * z + 1.531316433347454e-01;
  r = r * z + 1.8183571542958457e-01;
  r = r * z + 2.2222199090855246e-01;
  r = r * z + 2.8571428729285203e-01;
  r = r * z + 3.999999999951982e-01;
  r = r * z + 6.66666666666671e-01;
  double h = 0.5 * f * f;
  return s * (h + r * z) - h;
}

VT_HD double log_special(double x, double y) {
  y = x == __builtin_inf() ? x : y;
  y = x == 0. ? -__builtin_inf() : y;
  return x >= 0. ? y : __builtin_nan("");
}

VT_HD double vlog(double x) {
  bool tiny = x < 2.2250738585072014e-308;
  double scaled = tiny ? x * 18014398509481984. : x, m;
  double e = split_mantissa(scaled, &m) - (tiny ? 54. : 0.);
  double f = m - 1.;
  double y = log1p_tail(f) + e * 1.90821492927058770002e-10;
  y = y + f;
  y = y + e * 6.93147180369123816490e-01;
  return log_special(x, y);
}

// Exact for powers of two.
VT_HD double vlog2(double x) {
  bool tiny = x < 2.2250738585072014e-308;
  double scaled = tiny ? x * 18014398509481984. : x, m;
  double e = split_mantissa(scaled, &m) - (tiny ? 54. : 0.);
  double f = m - 1.;
  // log2(m) = log(m) + log(m) * (log2(e) - 1): the larger term stays exact.
  double low = log1p_tail(f);
  double y = (f + low) * 0.44269504088896341;
  y = y + low;
  y = y + f;
  y = y + e;
  return log_special(x, y);
}

VT_HD double vlog10(double x) {
  bool tiny = x < 2.2250738585072014e-308;
  double scaled = tiny ? x * 18014398509481984. : x, m;
  double e = split_mantissa(scaled, &m) - (tiny ? 54. : 0.);
  double f = m - 1.;
  double low = log1p_tail(f);
  // log10(2) split so that its upper part times an exponent is exact.
  double y = low * 0.43429448190325183 + e * 3.69423907715893078616e-13;
  y = y + f * 0.43429448190325183;
  y = y + e * 3.01029995663611771306e-01;
  return log_special(x, y);
}

VT_HD double vlog1p(double x) {
  double m;
  double e = split_mantissa(1. + x, &m);
  // 1 + x = 2^e * (1 + f); working from x itself keeps the bits that 1 + x lost.
  bool large = e > 64.;
  uint64_t biased = double_bits(1023. - (large ? 0. : e) + round_shift) & 0xffffu;
  double scale = exp2_biased(biased);
  double f = x * scale + (scale - 1.);
  f = large ? m - 1. : f;
  double y = log1p_tail(f) + e * 1.90821492927058770002e-10;
  y = y + f;
  y = y + e * 6.93147180369123816490e-01;
  y = __builtin_fabs(x) < 1e-17 ? x : y;
  y = x == __builtin_inf() ? x : y;
  y = x == -1. ? -__builtin_inf() : y;
  return x >= -1. ? y : __builtin_nan("");
}

// sin_limited and cos_limited are for arguments up to this.
constexpr float trig_limit = 1048576.f;

// x = n * pi/2 + r for |x| <= trig_limit; returns n in the low bits.
VT_HD uint64_t reduce_pi_half(double x, double *r) {
  double t = x * 0.63661977236758138 + round_shift;
  double n = t - round_shift;
  // The parts of pi/2 have 33 bits each: their multiples are exact for n < 2^20.
  double d = x - n * 1.57079632673412561417e+00;
  d = d - n * 6.07710050630396597660e-11;
  *r = d - n * 2.02226624879595063154e-21;
  return double_bits(t);
}

VT_HD double sin_poly(double r) {
  double s = r * r;
  double p = 1.58944166395042e-10;
  p = p * s - 2.5050729644684552e-08;
  p = p * s + 2.755731362183637e-06;
  p = p * s - 1.98412698300644e-04;
  p = p * s + 8.333333333323575e-03;
  p = p * s - 1.666666666666664e-01;
  return p * (s * r) + r;
}

VT_HD double cos_poly(double r) {
  double s = r * r;
  double p = -1.1367797639812378e-11;
  p = p * s + 2.087589465038794e-09;
  p = p * s - 2.755731571979198e-07;
  p = p * s + 2.480158729457783e-05;
  p = p * s - 1.3888888888882785e-03;
  p = p * s + 4.166666666666665e-02;
  double h = 0.5 * s, w = 1. - h;
  return w + (((1. - w) - h) + p * (s * s));
}

VT_HD double sin_quadrant(double r, uint64_t n) {
  double y = (n & 1) ? cos_poly(r) : sin_poly(r);
  return double_from_bits(double_bits(y) ^ ((n & 2) << 62));
}

VT_HD double sin_limited(double x) {
  double r;
  uint64_t n = reduce_pi_half(x, &r);
  return x == 0. ? x : sin_quadrant(r, n);
}

VT_HD double cos_limited(double x) {
  double r;
  uint64_t n = reduce_pi_half(x, &r);
  return sin_quadrant(r, n + 1);
}

VT_HD double vtanh(double x) {
  double t = __builtin_fabs(x);
  double e = vexpm1(2. * (t > 20. ? 20. : t));
  return __builtin_copysign(e / (e + 2.), x);
}

// erf(t) - t for t in [0, 1), erfc(t) for t in [1, 6], given gauss = exp(-t^2): ratios of polynomials
// that share the division.
VT_HD double erf_ratio(double t, double gauss) {
  bool small = t < 1.;
  double s = t * t;
  double p = -2.029955528683424e-05;
  p = p * s - 0.0004862738344467199;
  p = p * s - 0.008755028920049146;
  p = p * s - 0.047948714774163875;
  p = p * s - 0.3171606336534957;
  p = p * s + 0.1283791670955126;
  double q = 2.029955528683424e-05;
  q = q * s + 6.812436819785099e-04;
  q = q * s + 1.0582353560685183e-02;
  q = q * s + 9.325302973969972e-02;
  q = q * s + 4.5930937793412957e-01;
  q = q * s + 1.;
  double u = 0.009956974555456419;
  u = u * t + 0.0911964068797232;
  u = u * t + 0.39511872349604055;
  u = u * t + 0.98559455698767;
  u = u * t + 1.419627123639556;
  u = u * t + 0.9999997703260868;
  double v = 0.017648348428642244;
  v = v * t + 0.1616389319158331;
  v = v * t + 0.7091952584639262;
  v = v * t + 1.8273099141097737;
  v = v * t + 2.860720467618966;
  v = v * t + 2.5480039539437187;
  v = v * t + 1.;
  return (small ? t * p : u * gauss) / (small ? q : v);
}

VT_HD double verf(double x) {
  double t = __builtin_fabs(x);
  t = t > 6. ? 6. : t;
  double ratio = erf_ratio(t, vexp(-t * t));
  return __builtin_copysign(t < 1. ? t + ratio : 1. - ratio, x);
}

// The normal distribution function and its density.
VT_HD double normal_cdf(double x, double *density) {
  double t = __builtin_fabs(x) * 0.70710678118654752;
  bool far = t > 6.;
  t = far ? 6. : t;
  double gauss = far ? 0. : vexp(-t * t);
  *density = 0.39894228040143268 * gauss;
  double ratio = erf_ratio(t, gauss);
  double tail = t < 1. ? 0.5 - 0.5 * (t + ratio) : 0.5 * ratio;
  return x < 0. ? tail : 1. - tail;
}
VT_HD double normal_cdf(double x) {
  double density;
  return normal_cdf(x, &density);
}

}  // namespace VT_NS
#endif
