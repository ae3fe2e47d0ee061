// Inner loops of the pointwise operators: turns a scalar functor into a vt_loop per dtype.
//
// A functor is a struct F with `template <class... A> static auto call(A... a)`. Its arguments are the
// operands, then the parameters, all of the compute type A = acc_t<T>, but for `boolean` operands. The
// element type of the output follows from what `call` returns.
//
// Only loops over contiguous operands (and one scalar beside a contiguous one) are instantiated, which
// keeps the code small; other layouts go through vt_cpu_run_strided. Half types run the float loop over
// converted blocks.
#ifndef VT_LOOPS_H
#define VT_LOOPS_H

#include "vibetensor/core/iter.h"
#include "vibetensor/core/state.h"
#include "vibetensor/cpu/strided.h"
#include "vt/checked.h"
#include "vt/dtype.h"
#include "vt/math.h"

namespace VT_NS {

// Operand kinds of a loop's inputs.
struct self {};     // has the loop's dtype
struct boolean {};  // is bool whatever the loop's dtype
template <class... Kinds>
struct sig {};

template <class A>
inline A param_from(const vt_value &v) {
  if constexpr (is_complex<A>) {
    return A(real_t<A>(v.re), real_t<A>(v.im));
  } else if constexpr (is_floating<A>) {
    return A(v.re);
  } else if constexpr (is_same<A, bool>::value) {
    return v.kind == VT_VALUE_INT ? v.i != 0 : v.re != 0;
  } else {
    return v.kind == VT_VALUE_INT ? A(v.i) : A(int64_t(v.re));
  }
}

template <class Kind, class T>
struct operand {
  using type = T;
};
template <class T>
struct operand<boolean, T> {
  using type = bool;
};

// The value of a functor's result, which may be `checked`.
template <class R>
struct unchecked {
  using type = R;
  static constexpr bool is_checked = false;
};
template <class A, class Exact>
struct unchecked<checked<A, Exact>> {
  using type = A;
  static constexpr bool is_checked = true;
};

// A result as stored for loop type T: half types come back as float.
template <class R, class T>
struct stored {
  using type = R;
};
template <>
struct stored<float, half> {
  using type = half;
};
template <>
struct stored<float, bfloat16> {
  using type = bfloat16;
};

// Types whose binary functors get loops of their own for a scalar operand; for the others it is
// copied to a full block.
template <class T>
constexpr bool has_scalar_loops = is_floating<T> || is_same<T, int64_t>::value;

template <int... I>
struct indices {};

// Runs `run`, a float loop, over operands of which some are of the half type T. Bit k of `halves`
// tells whether operand k is; the others (bool) are used where they lie.
template <class T>
void run_half(vt_run run, int nptrs, unsigned halves, char *const *p, int64_t n,
              const void *params) {
  constexpr int64_t block = 512;
  alignas(64) float buffers[VT_MAX_OPERANDS][block];
  for (int64_t i = 0; i < n; i += block) {
    int64_t m = n - i < block ? n - i : block;
    char *args[VT_MAX_OPERANDS];
    for (int k = 0; k < nptrs; k++) {
      bool converted = (halves >> k) & 1;
      args[k] = converted ? reinterpret_cast<char *>(buffers[k]) : p[k] + i;
      if (k > 0 && converted) load_run(buffers[k], reinterpret_cast<const T *>(p[k]) + i, m);
    }
    run(args, m, params);
    if (halves & 1) store_run(reinterpret_cast<T *>(p[0]) + i, buffers[0], m);
  }
}

template <class F, class Sig, class T, class I, class P>
struct pointwise;

template <class F, class T, class... Kinds, int... I, int... P>
struct pointwise<F, sig<Kinds...>, T, indices<I...>, indices<P...>> {
  using A = acc_t<T>;
  static constexpr int nptrs = 1 + sizeof...(Kinds);
  static constexpr int nparams = sizeof...(P);
  template <class Kind>
  using arg = typename operand<Kind, A>::type;
  template <class Kind>
  using element = typename operand<Kind, T>::type;
  using result = decltype(F::call(arg<Kinds>()..., ((void)P, A())...));
  using out = typename stored<typename unchecked<result>::type, T>::type;
  static constexpr bool is_checked = unchecked<result>::is_checked;
  static constexpr uint8_t itemsizes[] = {sizeof(out), sizeof(element<Kinds>)...};

  // Bit I of SCALARS: input I is one element.
  template <unsigned SCALARS>
  static VT_HD void loop_over(char *const *p, int64_t n, const A *params) {
    out *o = reinterpret_cast<out *>(p[0]);
    loop_over_typed<SCALARS>(o, n, reinterpret_cast<const element<Kinds> *>(p[1 + I])...,
                             params[P]...);
  }
  template <unsigned SCALARS>
  static VT_HD void loop_over_typed(out *o, int64_t n, const element<Kinds> *...in,
                                    decltype((void)P, A())... param) {
    if constexpr (is_checked) {
      loop_over_checked(o, n, in..., param...);
    } else if constexpr (SCALARS == 0) {
#pragma omp simd
      for (int64_t i = 0; i < n; i++) o[i] = F::call(in[i]..., param...);
    } else {
      // Copied first: the output may be the same memory.
      loop_over_mixed<SCALARS>(o, n, in..., in[0]..., param...);
    }
  }
  template <unsigned SCALARS>
  static VT_HD void loop_over_mixed(out *o, int64_t n, const element<Kinds> *...in,
                                    element<Kinds>... first, decltype((void)P, A())... param) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      o[i] = F::call(((SCALARS >> I) & 1 ? first : in[i])..., param...);
    }
  }
  static VT_HD void loop_over_checked(out *o, int64_t n, const element<Kinds> *...in,
                                      decltype((void)P, A())... param) {
    constexpr int64_t block = 256;
    for (int64_t begin = 0; begin < n; begin += block) {
      int64_t end = n - begin < block ? n : begin + block;
      int bad = 0;
#pragma omp simd reduction(| : bad)
      for (int64_t i = begin; i < end; i++) bad |= !F::call(in[i]..., param...).ok;
      if (bad == 0) {
#pragma omp simd
        for (int64_t i = begin; i < end; i++) o[i] = F::call(in[i]..., param...).value;
      } else {
        for (int64_t i = begin; i < end; i++) o[i] = result::exact::call(in[i]..., param...);
      }
    }
  }

  static __attribute__((noinline)) void run(char *const *p, int64_t n, const void *params) {
    if constexpr (is_half_type<T>) {
      constexpr unsigned halves =
          ((is_half_type<out> ? 1u : 0u) | ... | (is_half_type<element<Kinds>> ? 2u << I : 0u));
      run_half<T>(&pointwise<F, sig<Kinds...>, float, indices<I...>, indices<P...>>::run, nptrs,
                  halves, p, n, params);
    } else {
      loop_over<0>(p, n, static_cast<const A *>(params));
    }
  }

  // n1 rows that lie `steps` apart.
  template <unsigned SCALARS>
  static void rows(char *const *p, const int64_t *steps, int64_t n0, int64_t n1, const A *params) {
    for (int64_t j = 0; j < n1; j++) {
      char *at[nptrs];
      for (int k = 0; k < nptrs; k++) at[k] = p[k] + (n1 > 1 ? j * steps[k] : 0);
      loop_over<SCALARS>(at, n0, params);
    }
  }

  static void loop(char *const *p, const int64_t *strides, int64_t n0, int64_t n1,
                   const vt_value *values) {
    A params[nparams + 1] = {};
    ((params[P] = param_from<A>(values[P])), ...);
    bool dense = strides[0] == int64_t(sizeof(out)) &&
                 ((strides[1 + I] == int64_t(sizeof(element<Kinds>))) && ...);
    if (n1 == 1 && (dense || n0 == 1)) return run(p, n0, params);
    if constexpr (nptrs == 3 && has_scalar_loops<T> && !is_checked) {
      if (strides[0] == int64_t(sizeof(out))) {
        const bool first = strides[1] == itemsizes[1], second = strides[2] == itemsizes[2];
        if (first && strides[2] == 0) return rows<2>(p, strides + nptrs, n0, n1, params);
        if (second && strides[1] == 0) return rows<1>(p, strides + nptrs, n0, n1, params);
      }
    }
    vt_cpu_run_strided(run, nptrs, itemsizes, p, strides, n0, n1, params);
  }
};

template <int N, int... I>
struct make_indices : make_indices<N - 1, N - 1, I...> {};
template <int... I>
struct make_indices<0, I...> {
  using type = indices<I...>;
};
template <class Sig>
struct arity;
template <class... Kinds>
struct arity<sig<Kinds...>> {
  static constexpr int value = sizeof...(Kinds);
};

// Enters the loops of functor F into the table, one for each type T.
template <class F, class Sig, int NPARAMS, class... T>
void add_loops(int functor_id) {
  using I = typename make_indices<arity<Sig>::value>::type;
  using P = typename make_indices<NPARAMS>::type;
  ((vt_cpu_loops[functor_id][dtype_of<T>] = &pointwise<F, Sig, T, I, P>::loop), ...);
}

}  // namespace VT_NS
#endif
