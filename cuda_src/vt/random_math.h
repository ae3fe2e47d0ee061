// From random words to distributions. Files that use this are compiled without contraction of a * b
// + c (-ffp-contract=off, nvcc -fmad=false) and it calls nothing but correctly rounded operations,
// so the results are the same to the bit on every processor and device.
#ifndef VT_RANDOM_MATH_H
#define VT_RANDOM_MATH_H

#include "vt/config.h"

namespace VT_NS {

// ---- uniform ----

// In [0, 1), of 24 bits.
VT_HD float uniform24(uint32_t word) { return float(int32_t(word >> 8)) * 0x1p-24f; }

// In [0, 1), of 53 bits. Two conversions of 32-bit integers, because every instruction set has those
// as vectors.
VT_HD double uniform53(uint32_t high, uint32_t low) {
  return (double(int32_t(high >> 5)) * 67108864.0 + double(int32_t(low >> 6))) * 0x1p-53;
}

// An integer in [0, range); a range of 0 stands for 2^64. The bias is below range / 2^64.
VT_HD uint64_t uniform_below(uint32_t high, uint32_t low, uint64_t range) {
  const uint64_t range_low = uint32_t(range), range_high = range >> 32;
  if (range == 0) return uint64_t(high) << 32 | low;
  const uint64_t ll = low * range_low, lh = low * range_high, hl = high * range_low;
  const uint64_t middle = (ll >> 32) + uint32_t(lh) + uint32_t(hl);
  return high * range_high + (lh >> 32) + (hl >> 32) + (middle >> 32);
}

// The same for a range below 2^32, which takes half the products.
VT_HD uint32_t uniform_below_32(uint32_t high, uint32_t low, uint32_t range) {
  return uint32_t((uint64_t(high) * range + (uint64_t(low) * range >> 32)) >> 32);
}

// A word is below this threshold with probability p, which is rounded to a multiple of 2^-32. In 64
// bits, since p = 1 needs 2^32.
VT_HD uint64_t bernoulli_threshold(double p) { return uint64_t(p * 4294967296.0 + 0.5); }

// ---- natural logarithm of u in (0, 1] ----
//
// u = 2^e * m with m in [sqrt(1/2), sqrt(2)), s = (m - 1) / (m + 1), and log m = 2s + s^3 R(s^2).
// The polynomials are minimax fits; the errors are below 1 ulp.

VT_HD float random_log(float u) {
  const int32_t bits = bit_cast<int32_t>(u) - 0x3f3504f3;
  const int32_t exponent = bits >> 23;
  const float f = bit_cast<float>((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
  const float s = f / (2.0f + f), z = s * s, half_square = 0.5f * f * f;
  const float r =
      z * (0.66666776381712740f + z * (0.39977541564909485f + z * 0.29871728023987845f));
  const float e = float(exponent);
  // log 2 in two parts, the upper one with 9 bits to spare so that its product is exact.
  return e * 0.693359375f - ((half_square - (s * (half_square + r) + e * -2.12194440e-4f)) - f);
}

VT_HD double random_log(double u) {
  // The exponent without a signed 64-bit shift or conversion, which few instruction sets have.
  const uint64_t bits = bit_cast<uint64_t>(u) - 0x3fe6a09e667f3bcdull + (1023ull << 52);
  const double e =
      bit_cast<double>((bits >> 52) | 0x4330000000000000ull) - (4503599627370496.0 + 1023.0);
  const double f = bit_cast<double>((bits & 0x000fffffffffffffull) + 0x3fe6a09e667f3bcdull) - 1.0;
  const double s = f / (2.0 + f), z = s * s, half_square = 0.5 * f * f;
  double r = 0.14795948672175098;
  r = 0.15314050648046373 + z * r;
  r = 0.18183564322696305 + z * r;
  r = 0.22222198573242350 + z * r;
  r = 0.28571428742387171 + z * r;
  r = 0.39999999999414680 + z * r;
  r = z * (0.66666666666667344 + z * r);
  return e * 6.93147180369123816490e-01 -
         ((half_square - (s * (half_square + r) + e * 1.90821492927058770002e-10)) - f);
}

// ---- sine and cosine of an angle given in quarter turns plus a remainder within +- 1/8 turn ----

template <class T>
struct SinCos {
  T sin, cos;
};

namespace detail {
VT_HD float flip_sign(float x, uint32_t sign) {
  return bit_cast<float>(bit_cast<uint32_t>(x) ^ (sign << 31));
}
VT_HD double flip_sign(double x, uint32_t sign) {
  return bit_cast<double>(bit_cast<uint64_t>(x) ^ (uint64_t(sign) << 63));
}
template <class T>
VT_HD SinCos<T> rotate(T sin, T cos, uint32_t quarter) {
  const bool swap = quarter & 1u;
  const T x = swap ? cos : sin, y = swap ? sin : cos;
  return {flip_sign(x, (quarter >> 1) & 1u), flip_sign(y, ((quarter + 1u) >> 1) & 1u)};
}
}  // namespace detail

// The angle word / 2^32 of a turn.
VT_HD SinCos<float> random_sincos(uint32_t word) {
  const uint32_t quarter = (word + 0x20000000u) >> 30;
  const float x = float(int32_t(word - (quarter << 30))) * 1.46291807926715968e-9f;  // 2 pi / 2^32
  const float z = x * x;
  const float s =
      -0.16666654943702322f + z * (0.0083321781461772968f + z * -1.9517298983966605e-4f);
  const float c =
      0.041666646866444681f + z * (-0.0013887367515782479f + z * 2.4438451595121096e-5f);
  return detail::rotate(x + x * (z * s), (1.0f - 0.5f * z) + z * z * c, quarter);
}

// The angle (high * 2^32 + low) / 2^64 of a turn; the lowest bit is dropped.
VT_HD SinCos<double> random_sincos(uint32_t high, uint32_t low) {
  const uint32_t quarter = (high + 0x20000000u) >> 30;
  const double whole = double(int32_t(high - (quarter << 30))) * 2147483648.0;
  const double x = (whole + double(int32_t(low >> 1))) * 6.8122431601731089e-19;  // 2 pi / 2^63
  const double z = x * x;
  double s = 1.5896827958732458e-10;
  s = -2.5050758653885354e-8 + z * s;
  s = 2.7557313695231316e-6 + z * s;
  s = -1.9841269829816968e-4 + z * s;
  s = 0.0083333333333224246 + z * s;
  s = -0.16666666666666632 + z * s;
  double c = -1.1359669909302456e-11;
  c = 2.0875723685152662e-9 + z * c;
  c = -2.7557314355246303e-7 + z * c;
  c = 2.4801587289491839e-5 + z * c;
  c = -0.0013888888888874139 + z * c;
  c = 0.041666666666666600 + z * c;
  return detail::rotate(x + x * (z * s), (1.0 - 0.5 * z) + z * z * c, quarter);
}

// ---- normal: Box and Muller, two words and two numbers at a time ----

VT_HD float random_sqrt(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}
VT_HD double random_sqrt(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

// Two standard normal numbers from two words. All 32 bits of the first go into the radius, which
// gives tails up to 6.7 sigma.
VT_HD SinCos<float> normal_pair(uint32_t radius, uint32_t angle) {
  // The integer as a float, rounded once: its halves are exact.
  const float whole = float(int32_t(radius >> 16)) * 65536.0f + float(int32_t(radius & 0xffffu));
  const float u = whole * 0x1p-32f + 0x1p-33f;
  const float r = random_sqrt(-2.0f * random_log(u));
  const SinCos<float> a = random_sincos(angle);
  return {r * a.sin, r * a.cos};
}

// The same in double, from the four words of a block; tails up to 8.6 sigma.
VT_HD SinCos<double> normal_pair(uint32_t radius_high, uint32_t radius_low, uint32_t angle_high,
                                 uint32_t angle_low) {
  const double u = uniform53(radius_high, radius_low) + 0x1p-53;
  const double r = random_sqrt(-2.0 * random_log(u));
  const SinCos<double> a = random_sincos(angle_high, angle_low);
  return {r * a.sin, r * a.cos};
}

// Exponential of rate 1, at most 36.7; 0 has probability 2^-53.
VT_HD double random_exponential(uint32_t high, uint32_t low) {
  return -random_log(uniform53(high, low) + 0x1p-53);
}

}  // namespace VT_NS
#endif
