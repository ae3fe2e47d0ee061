// Kernels of the pointwise operators: turns a scalar functor into its vector form for one dtype and
// its strided form for one class of dtypes. See docs/adr/0009-cuda-pointwise.md.
//
// A functor is a struct F with `template <class... A> static auto call(A... a)`. Its arguments are the
// operands, then the parameters, all of the compute type A = acc_t<T>, but for `boolean` operands. The
// element type of the output follows from what `call` returns.
#ifndef VT_POINTWISE_CUH
#define VT_POINTWISE_CUH

#include "vt/dtype.h"
#include "vt/math.h"
#include "vt/pointwise_convert.cuh"
#include "vt/small.cuh"

namespace vt {

struct self {};     // has the loop's dtype
struct boolean {};  // is bool whatever the loop's dtype

template <class Kind, class T>
struct operand {
  using type = T;
};
template <class T>
struct operand<boolean, T> {
  using type = bool;
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
template <>
struct stored<int32_t, Small> {
  using type = Small;
};

// Bytes of an element where vectors are counted; of the short integers, those of the shortest.
template <class E>
constexpr int kBytes = sizeof(E);
template <>
constexpr int kBytes<Small> = 1;

template <int... I>
struct indices {};
template <int N, int... I>
struct make_indices : make_indices<N - 1, N - 1, I...> {};
template <int... I>
struct make_indices<0, I...> {
  using type = indices<I...>;
};

constexpr int max_of(int a) { return a; }
template <class... T>
constexpr int max_of(int a, T... b) {
  return a > max_of(b...) ? a : max_of(b...);
}

template <class A>
__device__ __forceinline__ A parameter(const Element &e) {
  return *reinterpret_cast<const A *>(e.bytes);
}

// ---- vectors ----

template <class F, class T, class I, class P, class... Kinds>
struct vector_form;

template <class F, class T, int... I, int... P, class... Kinds>
struct vector_form<F, T, indices<I...>, indices<P...>, Kinds...> {
  using A = acc_t<T>;
  template <class Kind>
  using arg = typename operand<Kind, A>::type;
  template <class Kind>
  using element = typename operand<Kind, T>::type;
  using result = decltype(F::call(arg<Kinds>()..., ((void)P, A())...));
  using out = typename stored<result, T>::type;

  static constexpr int N = sizeof...(Kinds);
  // Elements of a vector: the widest operand moves 16 bytes at a time.
  static constexpr int V = 16 / max_of(kBytes<out>, kBytes<element<Kinds>>...);
  // Vectors of a thread, all loaded before the first is used.
  static constexpr int U = V == 2 ? 4 : V == 16 ? 1 : 2;
  static constexpr int kTile = U * kPointwiseThreads;

  template <class Kind, int K>
  struct Leaf {
    Vector<element<Kind>, V> x;
  };
  // The inputs of one vector.
  struct Row : Leaf<Kinds, I>... {};

  static __device__ __forceinline__ bool splat(const VectorArgs &a, int k) {
    return N > 1 && k > 0 && ((a.splat >> (k - 1)) & 1);
  }
  template <class Kind, int K>
  static __device__ __forceinline__ void load(Leaf<Kind, K> &leaf, const VectorArgs &a,
                                              const char *at) {
    using E = element<Kind>;
    if (!splat(a, K + 1)) {
      load_vector(leaf.x, at, a);
    } else if ((a.host >> K) & 1) {
      leaf.x.set(0, load_element<E>(a.value[K].bytes, a));
    } else {
      leaf.x.set(0, load_element<E>(at, a));
    }
  }
  template <class Kind, int K>
  static __device__ __forceinline__ element<Kind> load_one(const VectorArgs &a, int64_t i) {
    using E = element<Kind>;
    if ((a.host >> K) & 1) return load_element<E>(a.value[K].bytes, a);
    return load_element<E>(a.data[K + 1] + (splat(a, K + 1) ? 0 : i * size_of<E>(a)), a);
  }
  static __device__ __forceinline__ out compute(const VectorArgs &a, element<Kinds>... x) {
    return out(F::call(arg<Kinds>(x)..., parameter<A>(a.param[P])...));
  }

  // Byte offsets of vector `i` + 128 u of every operand.
  static __device__ __forceinline__ void offsets(const VectorArgs &a, uint32_t i,
                                                 int32_t (&at)[U][N + 1]) {
    const int sizes[] = {size_of<out>(a), size_of<element<Kinds>>(a)...};
    uint32_t rest[U];
#pragma unroll
    for (int u = 0; u < U; u++) {
      const uint32_t v = i + u * kPointwiseThreads;
      rest[u] = a.ndim == 1 ? 0 : a.sizes[0].quotient(v);
      const int32_t column = int32_t(v - rest[u] * a.sizes[0].divisor) * V;
#pragma unroll
      for (int k = 0; k <= N; k++) at[u][k] = splat(a, k) ? 0 : column * sizes[k];
    }
#pragma unroll 1
    for (int d = 1; d < a.ndim; d++) {
#pragma unroll
      for (int u = 0; u < U; u++) {
        const uint32_t q = a.sizes[d].quotient(rest[u]);
        const int32_t r = int32_t(rest[u] - q * a.sizes[d].divisor);
        rest[u] = q;
#pragma unroll
        for (int k = 0; k <= N; k++) at[u][k] += r * a.strides[k][d];
      }
    }
  }

  static __device__ __forceinline__ void run(const VectorArgs &a) {
    const int sizes[] = {size_of<out>(a), size_of<element<Kinds>>(a)...};
    const int64_t first = int64_t(blockIdx.x) * kTile;
    const int thread = int(threadIdx.x);
    const int n = int(a.vectors - first < kTile ? a.vectors - first : kTile);
    int32_t at[U][N + 1];
    char *base[N + 1];
    // With one dimension the block's place is added to the addresses, in 64 bits.
    offsets(a, a.ndim == 1 ? thread : uint32_t(first) + thread, at);
    const int64_t skipped = a.ndim == 1 ? first * V + a.head : 0;
#pragma unroll
    for (int k = 0; k <= N; k++) base[k] = a.data[k] + (splat(a, k) ? 0 : skipped * sizes[k]);

    Row row[U];
#pragma unroll
    for (int u = 0; u < U; u++) {
      if (u * kPointwiseThreads + thread < n) {
        (load(static_cast<Leaf<Kinds, I> &>(row[u]), a, base[I + 1] + at[u][I + 1]), ...);
      }
    }
#pragma unroll
    for (int u = 0; u < U; u++) {
      if (u * kPointwiseThreads + thread < n) {
        ((splat(a, I + 1) ? static_cast<Leaf<Kinds, I> &>(row[u]).x.spread() : void()), ...);
        Vector<out, V> y;
#pragma unroll
        for (int j = 0; j < V; j++) {
          y.set(j, compute(a, static_cast<const Leaf<Kinds, I> &>(row[u]).x.get(j)...));
        }
        store_vector(y, base[0] + at[u][0], a);
      }
    }
    // Elements beside the vectors, of one dimension.
    if (blockIdx.x == 0 && thread < a.rest) {
      const int64_t i = thread < a.head ? thread : a.numel - a.rest + thread;
      store_element(a.data[0] + i * size_of<out>(a), compute(a, load_one<Kinds, I>(a, i)...), a);
    }
  }
};

template <class F, class T, int NPARAMS, class... Kinds>
__device__ __forceinline__ void run_vectors(const VectorArgs &a) {
  vector_form<F, T, typename make_indices<sizeof...(Kinds)>::type,
              typename make_indices<NPARAMS>::type, Kinds...>::run(a);
}

// ---- strided ----

template <class F, class C, class I, class P, class... Kinds>
struct strided_form;

template <class F, class C, int... I, int... P, class... Kinds>
struct strided_form<F, C, indices<I...>, indices<P...>, Kinds...> {
  template <class Kind>
  using arg = typename operand<Kind, C>::type;
  using result = decltype(F::call(arg<Kinds>()..., ((void)P, C())...));
  static constexpr int N = sizeof...(Kinds);

  template <class Kind, int K>
  struct Leaf {
    Four<arg<Kind>> x;
  };
  struct Row : Leaf<Kinds, I>... {};

  template <class Kind, int K>
  static __device__ __forceinline__ void load(Leaf<Kind, K> &leaf, const StridedArgs &a,
                                              const Offsets (&at)[N + 1], int n) {
    const char *base =
        (a.host >> K) & 1 ? reinterpret_cast<const char *>(a.value[K].bytes) : a.data[K + 1];
    const int dtype = (a.host >> K) & 1 ? a.loop_dtype[K + 1] : a.dtype[K + 1];
    leaf.x = load_four<arg<Kind>>(base, at[K + 1], (a.wide >> (K + 1)) & 1, dtype,
                                  a.loop_dtype[K + 1], n);
  }
  // Four registers as a queue: loops over them need neither unrolling nor an address.
  template <class T>
  static __device__ __forceinline__ void push(T (&x)[4], T last) {
    x[0] = x[1], x[1] = x[2], x[2] = x[3], x[3] = last;
  }
  template <class T>
  static __device__ __forceinline__ T next(T (&x)[4]) {
    const T first = x[0];
    push(x, first);
    return first;
  }

  static __device__ __forceinline__ void run(const StridedArgs &a) {
    const uint32_t first = 4 * (blockIdx.x * kPointwiseThreads + threadIdx.x);
    if (first >= a.numel) return;
    const int n = a.numel - first < 4 ? int(a.numel - first) : 4;
    Offsets at[N + 1];
#pragma unroll 1
    for (int j = 0; j < (a.whole ? 1 : 4); j++) {
      int32_t offset[N + 1] = {};
      uint32_t rest = first + j;
#pragma unroll 1
      for (int d = 0; d < a.ndim; d++) {
        const uint32_t q = a.sizes[d].quotient(rest);
        const int32_t r = int32_t(rest - q * a.sizes[d].divisor);
        rest = q;
#pragma unroll
        for (int k = 0; k <= N; k++) offset[k] += r * a.strides[k][d];
      }
#pragma unroll
      for (int k = 0; k <= N; k++) push(at[k].o, offset[k]);
    }
    if (a.whole) {
#pragma unroll
      for (int k = 0; k <= N; k++) {
        at[k].o[0] = at[k].o[3];
#pragma unroll
        for (int j = 1; j < 4; j++) at[k].o[j] = at[k].o[j - 1] + a.strides[k][0];
      }
    }
    Row row;
    (load(static_cast<Leaf<Kinds, I> &>(row), a, at, n), ...);
    // One copy of the functor's code: the elements pass through it in turn.
    Four<result> y;
#pragma unroll 1
    for (int j = 0; j < 4; j++) {
      const result r =
          F::call(next(static_cast<Leaf<Kinds, I> &>(row).x.e)..., parameter<C>(a.param[P])...);
      push(y.e, r);
    }
    store_four<result>(a.data[0], at[0], a.wide & 1, a.dtype[0], a.loop_dtype[0], y, n);
  }
};

template <class F, class C, int NPARAMS, class... Kinds>
__device__ __forceinline__ void run_strided(const StridedArgs &a) {
  strided_form<F, C, typename make_indices<sizeof...(Kinds)>::type,
               typename make_indices<NPARAMS>::type, Kinds...>::run(a);
}

}  // namespace vt

#endif
