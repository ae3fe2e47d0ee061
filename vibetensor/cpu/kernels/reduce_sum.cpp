// sum, mean, norm.
#include "vibetensor/cpu/kernels/reduce_ops.h"

namespace VT_NS {

namespace {

// What lanes of a value are, and what they are folded into. Narrow integers are summed in 32-bit
// lanes: kFoldRows keeps those from overflowing. Integers wrap, so they are added unsigned.
template <class Value>
struct SumTypes {
  using Lane = std::conditional_t<sizeof(Value) <= 2, uint32_t, uint64_t>;
  using State = uint64_t;
};
template <>
struct SumTypes<float> {
  using Lane = float;
  using State = double;
};
template <>
struct SumTypes<double> {
  using Lane = double;
  using State = Compensated;
};

VT_INLINE double value_of(double s) { return s; }
VT_INLINE double value_of(const Compensated &s) { return s.value(); }
VT_INLINE int64_t value_of(uint64_t s) { return static_cast<int64_t>(s); }

template <class T>
VT_INLINE T round_to(double x) {
  return static_cast<T>(static_cast<acc_t<T>>(x));
}

template <class T>
struct SumCore {
  using Value = T;
  using Lane = typename SumTypes<T>::Lane;
  static constexpr bool kVector = is_same<Value, Lane>::value;
  static VT_INLINE Lane identity() { return Lane(0); }
  template <class V>
  static VT_INLINE auto load(V x) {
    if constexpr (kVector) {
      return x;
    } else {
      return static_cast<Lane>(static_cast<std::make_signed_t<Lane>>(x));
    }
  }
  template <class V>
  static VT_INLINE V combine(V a, V b) {
    return a + b;
  }
};

template <class T, class C, class O>
struct SumOp {
  using In = T;
  using Core = C;
  using Lane = typename C::Lane;
  using State = typename SumTypes<Lane>::State;
  using Out = O;
  static VT_INLINE State start() { return State{}; }
  static VT_INLINE void fold(State &s, Lane x) {
    if constexpr (is_integral<Lane>) {
      s += static_cast<uint64_t>(static_cast<int64_t>(static_cast<std::make_signed_t<Lane>>(x)));
    } else if constexpr (is_same<State, Compensated>::value) {
      s.add(x);
    } else {
      s += x;
    }
  }
  static VT_INLINE void merge(State &s, const State &o) {
    if constexpr (is_same<State, Compensated>::value) {
      s.error += o.error;
      s.add(o.sum);
    } else {
      s += o;
    }
  }
  static VT_INLINE bool done(const State &) { return false; }
  static VT_INLINE O result(const State &s, const ReduceInfo &) {
    if constexpr (is_integral<O>) {
      return static_cast<O>(value_of(s));
    } else {
      return round_to<O>(value_of(s));
    }
  }
};

template <class T>
struct MeanOp : SumOp<T, SumCore<acc_t<T>>, T> {
  using State = typename SumOp<T, SumCore<acc_t<T>>, T>::State;
  static VT_INLINE T result(const State &s, const ReduceInfo &info) {
    return round_to<T>(value_of(s) / static_cast<double>(info.count));
  }
};

enum NormKind { kNormZero, kNormOne, kNormTwo, kNormMax, kNormMin };

template <class T, NormKind Kind>
struct NormCore {
  using Value = T;
  using Lane = real_t<T>;
  static constexpr bool kVector = !is_complex<T>;
  static VT_INLINE Lane identity() { return Kind == kNormMin ? largest_value<Lane>() : Lane(0); }
  template <class V>
  static VT_INLINE auto load(V x) {
    if constexpr (Kind == kNormTwo) {
      return x * x;
    } else if constexpr (is_complex<T>) {
      return Kind == kNormZero ? Lane(x != V(0)) : cabs(x);
    } else if constexpr (Kind == kNormZero) {
      return x != V{} ? V{} + 1 : V{};
    } else {
      return (x < V{} ? -x : x) + 0;  // + 0 turns -0 into 0
    }
  }
  template <class V>
  static VT_INLINE V combine(V a, V b) {
    if constexpr (Kind == kNormMax) {
      return larger(a, b);
    } else if constexpr (Kind == kNormMin) {
      return smaller(a, b);
    } else {
      return a + b;
    }
  }
};

template <class T, NormKind Kind, class O>
struct NormSumOp : SumOp<T, NormCore<acc_t<T>, Kind>, O> {
  using State = typename SumOp<T, NormCore<acc_t<T>, Kind>, O>::State;
  static VT_INLINE O result(const State &s, const ReduceInfo &) {
    const double sum = value_of(s);
    return round_to<O>(Kind == kNormTwo ? __builtin_sqrt(sum) : sum);
  }
};

template <class T, class O>
inline vt_status norm_of(const vt_array &in, const vt_array &out, double p) {
  using V = acc_t<T>;
  if (p == 0) return run_fold<NormSumOp<T, kNormZero, O>>(in, out);
  if (p == 1) return run_fold<NormSumOp<T, kNormOne, O>>(in, out);
  if (p == __builtin_inf()) return run_fold<PlainOp<T, NormCore<V, kNormMax>, O>>(in, out);
  if (p == -__builtin_inf()) return run_fold<PlainOp<T, NormCore<V, kNormMin>, O>>(in, out);
  if constexpr (is_complex<T>) {
    // The squares of both parts are summed: two more elements to reduce.
    const RealView view(in, 2), result(out, 1);
    return run_fold<NormSumOp<O, kNormTwo, O>>(view.array, result.array);
  } else {
    return run_fold<NormSumOp<T, kNormTwo, O>>(in, out);
  }
}

}  // namespace

vt_status sum_cpu(const vt_array *a, const vt_value *, vt_context *) {
  const vt_array &in = a[0], &out = a[1];
  if (is_complex_dtype(in.dtype)) {
    if (out.dtype != in.dtype) return VT_ERROR_DTYPE;
    const RealView view(in, 2), result(out, 2);
    const vt_array real[2] = {view.array, result.array};
    return sum_cpu(real, nullptr, nullptr);
  }
  return dispatch<kReal & ~kBool>(bool_as_byte(in.dtype), [&](auto tag) {
    using Given = typename decltype(tag)::type;
    using T = std::conditional_t<is_same<Given, int64_t>::value, uint64_t, Given>;
    using Core = SumCore<acc_t<T>>;
    if constexpr (is_integral<T>) {
      if (out.dtype == VT_I64) return run_fold<SumOp<T, Core, int64_t>>(in, out);
    } else {
      if (out.dtype == in.dtype) return run_fold<SumOp<T, Core, T>>(in, out);
      if constexpr (is_half_type<T>) {
        if (out.dtype == VT_F32) return run_fold<SumOp<T, Core, float>>(in, out);
      }
    }
    return VT_ERROR_DTYPE;
  });
}

vt_status mean_cpu(const vt_array *a, const vt_value *, vt_context *) {
  const vt_array &in = a[0], &out = a[1];
  if (out.dtype != in.dtype) return VT_ERROR_DTYPE;
  if (is_complex_dtype(in.dtype)) {
    const RealView view(in, 2), result(out, 2);
    const vt_array real[2] = {view.array, result.array};
    return mean_cpu(real, nullptr, nullptr);
  }
  return dispatch<kFloating>(in.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return run_fold<MeanOp<T>>(in, out);
  });
}

// values: p, one of 0, 1, 2, inf and -inf. The norm of complex numbers is real.
vt_status norm_cpu(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const double p = v[0].re;
  if (!(p == 0 || p == 1 || p == 2 || __builtin_isinf(p))) {
    ctx->message = "norm: the kernel knows p = 0, 1, 2, inf and -inf only";
    return VT_ERROR_VALUE;
  }
  return dispatch<kFloating | kComplex>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using O = std::conditional_t<is_complex<T>, real_t<T>, T>;
    return a[1].dtype == TypeTraits<O>::code ? norm_of<T, O>(a[0], a[1], p) : VT_ERROR_DTYPE;
  });
}

}  // namespace VT_NS
