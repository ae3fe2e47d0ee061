// complex<T>: two reals, row order (real, imaginary). Our own rather than std::complex, whose inline
// functions the linker could take from a file built for another instruction set.
//
// Multiplication and division are the textbook forms PyTorch uses (no recovery of infinities); the
// transcendental functions come from the C library on the host and from libcu++ on the device.
#ifndef VT_COMPLEX_H
#define VT_COMPLEX_H

#include "vt/config.h"

#ifdef __CUDACC__
#include <cuda/std/complex>
#else
#include <math.h>
#endif

namespace VT_NS {

#ifdef __CUDACC__
#define VT_COMPLEX_ALIGN(T) alignas(2 * sizeof(T)) /* one load; device memory is so aligned */
#else
#define VT_COMPLEX_ALIGN(T) /* a foreign buffer may be aligned to T only */
#endif

template <class T>
struct VT_COMPLEX_ALIGN(T) complex {
  T re, im;
  complex() = default;
  VT_HD constexpr complex(T real, T imag = T(0)) : re(real), im(imag) {}
  template <class U>
  VT_HD constexpr explicit complex(const complex<U> &z) : re(T(z.re)), im(T(z.im)) {}
  VT_HD constexpr T real() const { return re; }
  VT_HD constexpr T imag() const { return im; }
  VT_HD complex &operator+=(complex b) { return *this = complex(re + b.re, im + b.im); }
  VT_HD complex &operator-=(complex b) { return *this = complex(re - b.re, im - b.im); }
  VT_HD complex &operator*=(complex b);
  VT_HD complex &operator/=(complex b);
};
using complex64 = complex<float>;
using complex128 = complex<double>;

template <class T>
struct real_type<complex<T>> {
  using type = T;
};

template <class T>
VT_HD complex<T> operator+(complex<T> a, complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class T>
VT_HD complex<T> operator-(complex<T> a, complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class T>
VT_HD complex<T> operator-(complex<T> a) {
  return {-a.re, -a.im};
}
// -(a * b), rounded by itself: fused with the sum after it, z * conj(z) would not be real. Flipping the
// sign as an integer is what the compiler does not see through.
VT_HD float negated_product(float a, float b) {
#ifdef __CUDA_ARCH__
  return -__fmul_rn(a, b);
#else
  return bit_cast<float>(bit_cast<uint32_t>(a * b) ^ 0x80000000u);
#endif
}
VT_HD double negated_product(double a, double b) {
#ifdef __CUDA_ARCH__
  return -__dmul_rn(a, b);
#else
  return bit_cast<double>(bit_cast<uint64_t>(a * b) ^ 0x8000000000000000u);
#endif
}

template <class T>
VT_HD complex<T> operator*(complex<T> a, complex<T> b) {
  return {negated_product(a.im, b.im) - negated_product(a.re, b.re),
          -negated_product(a.re, b.im) - negated_product(a.im, b.re)};
}
template <class T>
VT_HD complex<T> operator*(complex<T> a, T s) {
  return {a.re * s, a.im * s};
}
template <class T>
VT_HD complex<T> operator*(T s, complex<T> a) {
  return {a.re * s, a.im * s};
}
template <class T>
VT_HD complex<T> operator/(complex<T> a, T s) {
  return {a.re / s, a.im / s};
}

// Smith's method: dividing by the larger part first keeps |b|^2 from overflowing.
template <class T>
VT_HD complex<T> operator/(complex<T> a, complex<T> b) {
  // Adding zero makes a positive zero of a negative one.
  T abs_re = (b.re < T(0) ? -b.re : b.re) + T(0), abs_im = (b.im < T(0) ? -b.im : b.im) + T(0);
  if (abs_re >= abs_im) {
    if (abs_re == T(0)) return {a.re / abs_re, a.im / abs_re};
    T ratio = b.im / b.re, scale = T(1) / (b.re + b.im * ratio);
    return {(a.re + a.im * ratio) * scale, (a.im - a.re * ratio) * scale};
  }
  T ratio = b.re / b.im, scale = T(1) / (b.re * ratio + b.im);
  return {(a.re * ratio + a.im) * scale, (a.im * ratio - a.re) * scale};
}
template <class T>
VT_HD complex<T> operator/(T a, complex<T> b) {
  return complex<T>(a) / b;
}
template <class T>
VT_HD complex<T> operator+(complex<T> a, T b) {
  return {a.re + b, a.im};
}
template <class T>
VT_HD complex<T> operator+(T a, complex<T> b) {
  return {a + b.re, b.im};
}
template <class T>
VT_HD complex<T> operator-(complex<T> a, T b) {
  return {a.re - b, a.im};
}
template <class T>
VT_HD complex<T> operator-(T a, complex<T> b) {
  return {a - b.re, -b.im};
}
template <class T>
VT_HD bool operator==(complex<T> a, complex<T> b) {
  return a.re == b.re && a.im == b.im;
}
template <class T>
VT_HD bool operator!=(complex<T> a, complex<T> b) {
  return a.re != b.re || a.im != b.im;
}
template <class T>
VT_HD complex<T> &complex<T>::operator*=(complex<T> b) {
  return *this = *this * b;
}
template <class T>
VT_HD complex<T> &complex<T>::operator/=(complex<T> b) {
  return *this = *this / b;
}

#ifdef __CUDACC__
#define VT_COMPLEX_UNARY(name, cname)                            \
  template <class T>                                             \
  VT_HD complex<T> c##name(complex<T> z) {                       \
    auto r = cuda::std::name(cuda::std::complex<T>(z.re, z.im)); \
    return {r.real(), r.imag()};                                 \
  }
template <class T>
VT_HD complex<T> cpow(complex<T> a, complex<T> b) {
  auto r = cuda::std::pow(cuda::std::complex<T>(a.re, a.im), cuda::std::complex<T>(b.re, b.im));
  return {r.real(), r.imag()};
}
// Kahan's way (Branch Cuts for Complex Elementary Functions, 1987), which keeps its digits near the
// poles; the library's loses half of them. Far out, and for special values, the library's will do.
template <class T>
VT_HD complex<T> ctanh(complex<T> z) {
  if (::fabs(z.re) < T(10) && z.im - z.im == T(0)) {
    const T t = ::tan(z.im), s = ::sinh(z.re);
    const T beta = T(1) + t * t, rho = ::sqrt(T(1) + s * s), scale = T(1) + beta * s * s;
    return {beta * rho * s / scale, t / scale};
  }
  auto r = cuda::std::tanh(cuda::std::complex<T>(z.re, z.im));
  return {r.real(), r.imag()};
}
VT_HD float cabs(complex<float> z) { return ::hypotf(z.re, z.im); }
VT_HD double cabs(complex<double> z) { return ::hypot(z.re, z.im); }
#else
// The C library's functions: special values as in C99's annex G, errors of a few ulp.
template <class C, class T>
VT_HD C to_c(complex<T> z) {
  C r;
  __real__ r = z.re;
  __imag__ r = z.im;
  return r;
}
#define VT_COMPLEX_UNARY(name, cname)                                       \
  VT_HD complex<float> c##name(complex<float> z) {                          \
    __complex__ float r = __builtin_##cname##f(to_c<__complex__ float>(z)); \
    return {__real__ r, __imag__ r};                                        \
  }                                                                         \
  VT_HD complex<double> c##name(complex<double> z) {                        \
    __complex__ double r = __builtin_##cname(to_c<__complex__ double>(z));  \
    return {__real__ r, __imag__ r};                                        \
  }
VT_HD complex<float> cpow(complex<float> a, complex<float> b) {
  __complex__ float r = __builtin_cpowf(to_c<__complex__ float>(a), to_c<__complex__ float>(b));
  return {__real__ r, __imag__ r};
}
VT_HD complex<double> cpow(complex<double> a, complex<double> b) {
  __complex__ double r = __builtin_cpow(to_c<__complex__ double>(a), to_c<__complex__ double>(b));
  return {__real__ r, __imag__ r};
}
VT_HD float cabs(complex<float> z) {
  // Nothing overflows in double. An infinity wins over a NaN.
  float infinity = __builtin_inff();
  double re = z.re, im = z.im;
  float r = float(__builtin_sqrt(re * re + im * im));
  bool infinite = (__builtin_fabsf(z.re) == infinity) | (__builtin_fabsf(z.im) == infinity);
  return infinite ? infinity : r;
}
VT_HD double cabs(complex<double> z) { return __builtin_hypot(z.re, z.im); }
#endif

VT_COMPLEX_UNARY(exp, cexp)
VT_COMPLEX_UNARY(log, clog)
VT_COMPLEX_UNARY(sqrt, csqrt)
VT_COMPLEX_UNARY(sin, csin)
VT_COMPLEX_UNARY(cos, ccos)
#ifndef __CUDACC__
VT_COMPLEX_UNARY(tanh, ctanh)
#endif
#undef VT_COMPLEX_UNARY

}  // namespace VT_NS
#endif
