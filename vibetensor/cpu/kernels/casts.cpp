// Conversions between element types: fills vt_cpu_casts. Compiled once per instruction set.
//
// From floating to integer truncates, from complex to anything else takes the real part, to bool is
// "not zero"; what does not fit is what the processor's conversion gives, as in PyTorch.
#include "vibetensor/core/state.h"
#include "vibetensor/cpu/strided.h"
#include "vt/dtype.h"

namespace VT_NS {
namespace {

template <bool FIRST, class A, class B>
struct choose {
  using type = A;
};
template <class A, class B>
struct choose<false, A, B> {
  using type = B;
};

template <class To, class From>
VT_HD To convert(From x) {
  if constexpr (is_same<To, bool>::value) {
    return x != From(0);
  } else if constexpr (is_same<To, uint8_t>::value && is_floating<From>) {
    return uint8_t(int64_t(x));  // negative numbers wrap
  } else {
    return To(x);
  }
}

// What a conversion that has no loop of its own goes through, which saves most of the loops: float for
// the half types, the real type for complex ones, int32 for shorter integers.
template <class T>
using via_t = typename choose<is_same<T, int8_t>::value || is_same<T, int16_t>::value, int32_t,
                              real_t<acc_t<T>>>::type;
template <class T>
constexpr bool is_direct = is_same<T, via_t<T>>::value;

// Between a type and its via_t, n elements without gaps.
template <class T>
void to_via(via_t<T> *to, const T *from, int64_t n) {
  if constexpr (is_half_type<T>) {
    load_run(to, from, n);
  } else if constexpr (is_complex<T>) {
    for (int64_t i = 0; i < n; i++) to[i] = from[i].re;
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
  }
}
template <class T>
void from_via(T *to, const via_t<T> *from, int64_t n) {
  if constexpr (is_half_type<T>) {
    store_run(to, from, n);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = T(from[i]);
  }
}

template <class To, class From>
__attribute__((noinline)) void run_cast(char *const *p, int64_t n, const void *) {
  constexpr int64_t block = 512;
  To *to = reinterpret_cast<To *>(p[0]);
  const From *from = reinterpret_cast<const From *>(p[1]);
  if constexpr (is_same<To, From>::value) {
    memmove(to, from, n * sizeof(To));
  } else if constexpr (is_complex<To> && is_complex<From>) {
    for (int64_t i = 0; i < n; i++) to[i] = To(from[i]);
  } else if constexpr (is_complex<From> && is_same<To, bool>::value) {
    for (int64_t i = 0; i < n; i++) to[i] = from[i] != From(0);
  } else if constexpr (!is_direct<From> && is_same<To, via_t<From>>::value) {
    to_via(to, from, n);
  } else if constexpr (!is_direct<To> && is_same<From, via_t<To>>::value) {
    from_via(to, from, n);
  } else if constexpr (!is_direct<To> || !is_direct<From>) {
    using Via = typename choose<is_direct<From>, via_t<To>, via_t<From>>::type;
    alignas(64) Via buffer[block];
    for (int64_t i = 0; i < n; i += block) {
      int64_t m = n - i < block ? n - i : block;
      char *in[] = {reinterpret_cast<char *>(buffer), p[1] + i * int64_t(sizeof(From))};
      char *out[] = {p[0] + i * int64_t(sizeof(To)), reinterpret_cast<char *>(buffer)};
      run_cast<Via, From>(in, m, nullptr);
      run_cast<To, Via>(out, m, nullptr);
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = convert<To>(from[i]);
  }
}

template <class To, class From>
void cast_loop(char *const *p, const int64_t *strides, int64_t n0, int64_t n1, const vt_value *) {
  constexpr uint8_t itemsizes[] = {sizeof(To), sizeof(From)};
  if (n1 == 1 && strides[0] == int64_t(sizeof(To)) && strides[1] == int64_t(sizeof(From))) {
    return run_cast<To, From>(p, n0, nullptr);
  }
  vt_cpu_run_strided(run_cast<To, From>, 2, itemsizes, p, strides, n0, n1, nullptr);
}

template <class To, class... From>
void add_casts_to() {
  ((vt_cpu_casts[dtype_of<To>][dtype_of<From>] = &cast_loop<To, From>), ...);
  // A bool is stored as the byte 0 or 1.
  vt_cpu_casts[dtype_of<To>][VT_BOOL] = vt_cpu_casts[dtype_of<To>][VT_U8];
}

template <class... T>
void add_casts() {
  (add_casts_to<T, T...>(), ...);
}

}  // namespace

void register_casts() {
  add_casts<uint8_t, int8_t, int16_t, int32_t, int64_t, half, bfloat16, float, double, complex64,
            complex128>();
  add_casts_to<bool, uint8_t, int8_t, int16_t, int32_t, int64_t, half, bfloat16, float, double,
               complex64, complex128>();
}

}  // namespace VT_NS
