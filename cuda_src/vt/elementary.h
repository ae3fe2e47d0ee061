// Elementary functions of one scalar, under one name for float and double and for host and device:
// vexp(x), vlog(x), ... On the host most are our own (elementary_float.h, elementary_double.h) and
// vectorise; on the device they are the library's.
#ifndef VT_ELEMENTARY_H
#define VT_ELEMENTARY_H

#include "vt/complex.h"
#include "vt/config.h"
#include "vt/half.h"

#ifndef __CUDACC__
#include "vt/elementary_double.h"
#include "vt/elementary_float.h"
#include "vt/elementary_normal.h"
#define VT_LIBM(name) __builtin_##name
#else
#include "vt/elementary_normal.h"
#define VT_LIBM(name) ::name
#endif

namespace VT_NS {

#define VT_DOUBLE(vname, name) \
  VT_HD double vname(double x) { return VT_LIBM(name)(x); }
#define VT_FLOAT(vname, name) \
  VT_HD float vname(float x) { return VT_LIBM(name##f)(x); }
#define VT_BOTH(vname, name) VT_DOUBLE(vname, name) VT_FLOAT(vname, name)

#ifdef __CUDACC__
VT_BOTH(vexp, exp)
VT_BOTH(vexpm1, expm1)
VT_BOTH(vlog, log)
VT_BOTH(vlog1p, log1p)
VT_BOTH(vlog2, log2)
VT_BOTH(vlog10, log10)
VT_BOTH(vtanh, tanh)
VT_BOTH(verf, erf)
VT_HD float vpow(float a, float b) { return ::powf(a, b); }

// The normal distribution function and its density.
VT_HD double normal_cdf(double x, double *density) {
  *density = 0.39894228040143268 * ::exp(-0.5 * x * x);
  return ::normcdf(x);
}
VT_HD double normal_cdf(double x) { return ::normcdf(x); }
#endif
VT_BOTH(vsin, sin)  // see checked.h for those that vectorise
VT_BOTH(vcos, cos)
VT_BOTH(vsqrt, sqrt)
VT_BOTH(vabs, fabs)
VT_BOTH(vfloor, floor)
VT_BOTH(vceil, ceil)
VT_BOTH(vtrunc, trunc)
VT_BOTH(vround, rint)  // half to even
#undef VT_DOUBLE
#undef VT_FLOAT
#undef VT_BOTH

VT_HD float vfmod(float a, float b) { return VT_LIBM(fmodf)(a, b); }
VT_HD double vfmod(double a, double b) { return VT_LIBM(fmod)(a, b); }
VT_HD double vpow(double a, double b) { return VT_LIBM(pow)(a, b); }
VT_HD float vcopysign(float a, float b) { return VT_LIBM(copysignf)(a, b); }
VT_HD double vcopysign(double a, double b) { return VT_LIBM(copysign)(a, b); }
VT_HD float vhypot(float a, float b) { return VT_LIBM(hypotf)(a, b); }
VT_HD double vhypot(double a, double b) { return VT_LIBM(hypot)(a, b); }

#ifdef __CUDA_ARCH__
VT_HD float vsigmoid(float x) { return reciprocal_1p(vexp(-x)); }
VT_HD double vsigmoid(double x) { return 1. / (1. + vexp(-x)); }
VT_HD float vrsqrt(float x) { return ::rsqrtf(x); }
VT_HD double vrsqrt(double x) { return ::rsqrt(x); }
#else
template <class A>
VT_HD A vsigmoid(A x) {
  return A(1) / (A(1) + vexp(-x));
}
template <class A>
VT_HD A vrsqrt(A x) {
  return A(1) / vsqrt(x);
}
#endif

}  // namespace VT_NS
#undef VT_LIBM
#endif
