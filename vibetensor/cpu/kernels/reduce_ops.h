// Parts that several reductions share.
#ifndef VT_CPU_KERNELS_REDUCE_OPS_H
#define VT_CPU_KERNELS_REDUCE_OPS_H

#include "vibetensor/cpu/kernels/reduce.h"

namespace VT_NS {

// The identity of a minimum: infinity for floating types.
template <class T>
VT_INLINE constexpr T largest_value() {
  if constexpr (is_same<T, float>::value) {
    return __builtin_inff();
  } else if constexpr (is_same<T, double>::value) {
    return __builtin_inf();
  } else {
    return is_signed<T> ? static_cast<T>((uint64_t(1) << (8 * sizeof(T) - 1)) - 1)
                        : static_cast<T>(~T(0));
  }
}
template <class T>
VT_INLINE constexpr T smallest_value() {
  if constexpr (is_floating<T>) {
    return -largest_value<T>();
  } else {
    return static_cast<T>(~largest_value<T>());
  }
}

// The larger one, of scalars or vectors; NaN wins over every number, in either order.
template <class V>
VT_INLINE V larger(V a, V b) {
  return (a > b) | (a != a) ? a : b;
}
template <class V>
VT_INLINE V smaller(V a, V b) {
  return (a < b) | (a != a) ? a : b;
}

// A fold whose state is one lane.
template <class T, class C, class O>
struct PlainOp {
  using In = T;
  using Core = C;
  using State = typename C::Lane;
  using Out = O;
  static VT_INLINE State start() { return C::identity(); }
  static VT_INLINE void fold(State &s, State x) { s = C::combine(s, x); }
  static VT_INLINE void merge(State &s, const State &o) { s = C::combine(s, o); }
  static VT_INLINE bool done(const State &) { return false; }
  static VT_INLINE Out result(const State &s, const ReduceInfo &) { return static_cast<Out>(s); }
};

// Cores of folds (see reduce.h) to the largest and the smallest element.
template <class T>
struct MaxCore {
  using Value = T;
  using Lane = T;
  static constexpr bool kVector = true;
  static VT_INLINE T identity() { return smallest_value<T>(); }
  template <class V>
  static VT_INLINE V load(V x) {
    return x;
  }
  template <class V>
  static VT_INLINE V combine(V a, V b) {
    return larger(a, b);
  }
};

template <class T>
struct MinCore : MaxCore<T> {
  static VT_INLINE T identity() { return largest_value<T>(); }
  template <class V>
  static VT_INLINE V combine(V a, V b) {
    return smaller(a, b);
  }
};

inline bool is_complex_dtype(int dtype) { return (kComplex >> dtype) & 1u; }

// The bytes of a bool add, order, and test for zero, like those of uint8.
inline int bool_as_byte(int dtype) { return dtype == VT_BOOL ? int(VT_U8) : dtype; }

// A complex array as a real one with one more dimension: of two elements, or of one where it is an
// output over which both parts are reduced.
struct RealView {
  vt_array array;
  int64_t sizes[VT_MAX_DIMS + 1], strides[VT_MAX_DIMS + 1];
  RealView(const vt_array &a, int64_t size) : array(a) {
    for (int d = 0; d < a.ndim; d++) {
      sizes[d] = a.sizes[d];
      strides[d] = size * a.strides[d];
    }
    sizes[a.ndim] = size;
    strides[a.ndim] = 1;
    array.sizes = sizes;
    array.strides = strides;
    array.ndim++;
    array.numel *= size;
    if (size == 2) array.dtype = a.dtype == VT_C64 ? VT_F32 : VT_F64;
  }
  RealView(const RealView &) = delete;
  RealView &operator=(const RealView &) = delete;
};

}  // namespace VT_NS

#endif
