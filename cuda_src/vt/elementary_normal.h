// The normal distribution function of float, on the host and on the device, where it takes less than
// half the instructions of the library's.
#ifndef VT_ELEMENTARY_NORMAL_H
#define VT_ELEMENTARY_NORMAL_H

#include "vt/config.h"

namespace VT_NS {

#ifdef __CUDACC__
VT_HD float exp_limited(float x) { return ::expf(x); }
// a / b within 2 ulp, for b from 1 to 2^126.
VT_HD float quotient(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fdividef(a, b);
#else
  return a / b;
#endif
}
// 1 / (1 + w) within 2 ulp, for w >= 0. The approximate instruction loses results that are denormal, so
// it is given a sixteenth and its result divided by 16.
VT_HD float reciprocal_1p(float w) {
#ifdef __CUDA_ARCH__
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(__fmaf_rn(w, 0.0625f, 0.0625f)));
  return r * 0.0625f;
#else
  return 1.f / (1.f + w);
#endif
}
#else
VT_HD float quotient(float a, float b) { return a / b; }
VT_HD float reciprocal_1p(float w) { return 1.f / (1.f + w); }
#endif

// The normal distribution function and its density: for x < 0 the density times a ratio of polynomials,
// so that also the tail has full relative accuracy.
VT_HD float normal_cdf(float x, float *density) {
  float t = __builtin_fabsf(x);
  t = t > 13.f ? 13.f : t;  // from here on the tail counts as zero
  float p = 4.011671340728061e-03f;
  p = p * t + 3.992639954944209e-02f;
  p = p * t + 1.8113466506959044e-01f;
  p = p * t + 4.354527184612687e-01f;
  p = p * t + 0.5f;
  float q = 1.0055623335072315e-02f;
  q = q * t + 1.0008811130676287e-01f;
  q = q * t + 4.639261533677147e-01f;
  q = q * t + 1.1937673051609885e+00f;
  q = q * t + 1.668790350735802e+00f;
  q = q * t + 1.f;
  float e = exp_limited(-0.5f * t * t);
  e = e < 3e-37f ? 0.f : e;
  *density = 0.398942280f * e;
  float tail = quotient(e * p, q);
  return x < 0.f ? tail : 1.f - tail;
}

// The normal distribution function alone, without an exponential: 1 / (1 + w)^16 is fitted to twice the
// tail. Squaring 1 + w by w (2 + w) keeps the digits of a small w.
VT_HD float normal_cdf(float x) {
  float t = __builtin_fabsf(x);
  t = t > 1000.f ? 1000.f : t;  // the tail is 0 long before; no infinity may meet another
  float s = t * t;
  float even = -1.062074716e-06f * s + 5.156313637e-05f;
  float odd = 1.531028175e-07f * s + 7.143645234e-06f;
  even = even * s + 3.289324697e-03f;
  odd = odd * s + 2.694682735e-05f;
  even = even * s + 4.986791685e-02f;
  odd = odd * s + 2.113629691e-02f;
  float w = odd * s + even * t;
  for (int i = 0; i < 4; i++) w = w * (2.f + w);
  float tail = 0.5f * reciprocal_1p(w);
  return x < 0.f ? tail : 1.f - tail;
}

}  // namespace VT_NS
#endif
