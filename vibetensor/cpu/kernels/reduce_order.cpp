// prod, amax, amin, any, all.
#include "vibetensor/cpu/kernels/reduce_ops.h"

namespace VT_NS {

namespace {

// Integers wrap: their products are taken unsigned, from values widened first.
template <class T>
struct ProdCore {
  using Value = T;
  using Lane = T;
  static constexpr bool kVector = !is_complex<T>;
  static VT_INLINE T identity() { return T(1); }
  template <class V>
  static VT_INLINE V load(V x) {
    return x;
  }
  template <class V>
  static VT_INLINE V combine(V a, V b) {
    return a * b;
  }
};

// Elements as raw bits; lanes are non-zero once a true one (any) or a false one (all) was seen.
// Floating types drop the sign bit, for -0 is false.
template <class T, bool Any, bool Floating>
struct TruthCore {
  using Value = T;
  using Lane = T;
  static constexpr bool kVector = true;
  static constexpr T kBits = Floating ? static_cast<T>(static_cast<T>(~T(0)) >> 1) : ~T(0);
  static VT_INLINE T identity() { return T(0); }
  template <class V>
  static VT_INLINE V load(V x) {
    x = Floating ? (V)(x & kBits) : x;
    return Any ? x : (V)(x == V{});
  }
  template <class V>
  static VT_INLINE V combine(V a, V b) {
    return a | b;
  }
};

template <class T, bool Any, bool Floating>
struct TruthOp : PlainOp<T, TruthCore<T, Any, Floating>, uint8_t> {
  static VT_INLINE bool done(const T &s) { return s != 0; }
  static VT_INLINE uint8_t result(const T &s, const ReduceInfo &) { return (s != 0) == Any; }
};

template <template <class> class Core>
inline vt_status extreme(const vt_array *a) {
  if (a[1].dtype != a[0].dtype) return VT_ERROR_DTYPE;
  return dispatch<kIntegers | kFloating>(bool_as_byte(a[0].dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    return run_fold<PlainOp<T, Core<acc_t<T>>, T>>(a[0], a[1]);
  });
}

template <bool Any>
inline vt_status truth(const vt_array &in, const vt_array &out) {
  if (out.dtype != VT_BOOL && out.dtype != VT_U8) return VT_ERROR_DTYPE;
  if (is_complex_dtype(in.dtype)) {
    // Both parts are looked at: two more elements to reduce.
    const RealView view(in, 2), result(out, 1);
    return truth<Any>(view.array, result.array);
  }
  const bool floating = (kFloating >> in.dtype) & 1u;
  return dispatch_size(in.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (sizeof(T) <= 8) {
      if constexpr (sizeof(T) > 1) {
        if (floating) return run_fold<TruthOp<T, Any, true>>(in, out);
      }
      return run_fold<TruthOp<T, Any, false>>(in, out);
    } else {
      return VT_ERROR_DTYPE;
    }
  });
}

}  // namespace

vt_status prod_cpu(const vt_array *a, const vt_value *, vt_context *) {
  const vt_array &in = a[0], &out = a[1];
  return dispatch<kAll>(in.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (is_integral<T>) {
      if (out.dtype == VT_I64) return run_fold<PlainOp<T, ProdCore<uint64_t>, int64_t>>(in, out);
    } else {
      if (out.dtype == in.dtype) return run_fold<PlainOp<T, ProdCore<acc_t<T>>, T>>(in, out);
    }
    return VT_ERROR_DTYPE;
  });
}

vt_status amax_cpu(const vt_array *a, const vt_value *, vt_context *) {
  return extreme<MaxCore>(a);
}

vt_status amin_cpu(const vt_array *a, const vt_value *, vt_context *) {
  return extreme<MinCore>(a);
}

vt_status any_cpu(const vt_array *a, const vt_value *, vt_context *) {
  return truth<true>(a[0], a[1]);
}

vt_status all_cpu(const vt_array *a, const vt_value *, vt_context *) {
  return truth<false>(a[0], a[1]);
}

}  // namespace VT_NS
