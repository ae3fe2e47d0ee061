// What the scalar headers share: the namespace they live in, and how their functions are marked.
//
// Every function sits in namespace VT_NS, which differs per instruction set on the CPU, so that the
// linker never merges code built with different flags. For the same reason nothing here calls an
// inline function or a template of the standard library.
#ifndef VT_CONFIG_H
#define VT_CONFIG_H

#include <stdint.h>
#include <string.h>

#ifndef VT_NS
#define VT_NS vt
#endif

#ifdef __CUDACC__
#define VT_HD __host__ __device__ __forceinline__
#else
// A loop vectorises only when everything it calls is inlined.
#define VT_HD inline __attribute__((always_inline))
#endif

namespace VT_NS {

// Reads the bytes of one trivial type as another of the same size.
template <class To, class From>
VT_HD To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
  To y;
  memcpy(&y, &x, sizeof(y));
  return y;
}

template <class T, class U>
struct is_same {
  static constexpr bool value = false;
};
template <class T>
struct is_same<T, T> {
  static constexpr bool value = true;
};

// The type arithmetic on T is done in: float for the half types, else T itself.
template <class T>
struct acc_type {
  using type = T;
};
template <class T>
using acc_t = typename acc_type<T>::type;

// The real type under a complex one, else T itself.
template <class T>
struct real_type {
  using type = T;
};
template <class T>
using real_t = typename real_type<T>::type;

template <class T>
constexpr bool is_floating = is_same<T, float>::value || is_same<T, double>::value;
template <class T>
constexpr bool is_complex = !is_same<T, real_t<T>>::value;
template <class T>
constexpr bool is_half_type = !is_same<T, acc_t<T>>::value;
template <class T>
constexpr bool is_integral = !is_floating<T> && !is_complex<T> && !is_half_type<T>;
template <class T>
constexpr bool is_signed = T(-1) < T(1);

}  // namespace VT_NS
#endif
