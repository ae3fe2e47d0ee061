// Rows that a group of threads reads and writes: kept in registers, or streamed.
#ifndef VT_ROWS_CUH
#define VT_ROWS_CUH

#include "vt/group.cuh"
#include "vt/pack.cuh"

namespace VT_NS {

// Half types come here as float.
__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }
__device__ __forceinline__ float sqrt_of(float x) { return sqrtf(x); }
__device__ __forceinline__ double sqrt_of(double x) { return sqrt(x); }
// A NaN is passed over.
__device__ __forceinline__ float larger_of(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger_of(double a, double b) { return fmax(a, b); }

// A row of at most blockDim.x * E elements, E of them in each thread's registers. With `packed`
// threads take neighbouring packs, which needs a multiple of the pack at 16-byte boundaries; else
// neighbouring elements.
template <class T, int E>
struct RowSlice {
  using V = acc_t<T>;
  static constexpr int K = kPack<T> < E ? kPack<T> : E;
  static constexpr int P = E / K;

  // The index of the thread's e-th element.
  static __device__ __forceinline__ int index(bool packed, int e) {
    return packed ? ((e / K) * int(blockDim.x) + int(threadIdx.x)) * K + e % K
                  : e * int(blockDim.x) + int(threadIdx.x);
  }
  // The elements as they are stored: what a thread may fetch long before it needs them.
  struct Raw {
    Pack<T, K> p[P];
  };
  static __device__ __forceinline__ void fetch(Raw &raw, const T *row, int n, int64_t stride,
                                               bool packed) {
    if (packed) {
#pragma unroll
      for (int p = 0; p < P; p++) {
        const int i = index(true, p * K);
        if (i < n) raw.p[p] = load_pack<T, K>(row + i);
      }
    } else {
#pragma unroll
      for (int e = 0; e < E; e++) {
        const int i = index(false, e);
        if (i < n) raw.p[e / K].x[e % K] = row[i * stride];
      }
    }
  }
  // Elements beyond the n-th count as `beyond`.
  static __device__ __forceinline__ void unpack(V (&v)[E], const Raw &raw, int n, bool packed,
                                                V beyond) {
#pragma unroll
    for (int e = 0; e < E; e++) {
      v[e] = index(packed, e) < n ? static_cast<V>(raw.p[e / K].x[e % K]) : beyond;
    }
  }
  static __device__ __forceinline__ void load(V (&v)[E], const T *row, int n, int64_t stride,
                                              bool packed, V beyond) {
    Raw raw;
    fetch(raw, row, n, stride, packed);
    unpack(v, raw, n, packed, beyond);
  }
  static __device__ __forceinline__ void store(const V (&v)[E], T *row, int n, int64_t stride,
                                               bool packed) {
    if (packed) {
#pragma unroll
      for (int p = 0; p < P; p++) {
        const int i = index(true, p * K);
        Pack<T, K> raw;
#pragma unroll
        for (int k = 0; k < K; k++) raw.x[k] = store_as<T>(v[p * K + k]);
        if (i < n) store_pack<T, K>(row + i, raw);
      }
    } else {
#pragma unroll
      for (int e = 0; e < E; e++) {
        const int i = index(false, e);
        if (i < n) row[i * stride] = store_as<T>(v[e]);
      }
    }
  }
};

// A number of elements known to the compiler.
template <int N>
struct Count {
  static constexpr int value = N;
};

// Whether two addresses are equally far from a 16-byte boundary.
template <class T>
__device__ __forceinline__ bool same_phase(const T *a, const T *b) {
  return ((reinterpret_cast<uintptr_t>(a) ^ reinterpret_cast<uintptr_t>(b)) & 15) == 0;
}

// Calls f(Count<N>, i) for N elements from the i-th of a row on, so that all threads of the group
// together have every element once: packs from a 16-byte boundary of `row` on, single elements
// before and after them. Without `packed` single elements only.
template <class T, class F>
__device__ __forceinline__ void for_row(const T *row, int64_t n, bool packed, const F &f) {
  constexpr int K = kPack<T>;
  const int64_t head = packed ? unaligned_head(row, n) : 0;
  const int64_t packs = packed ? (n - head) / K : 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) f(Count<K>(), head + i * K);
  const int64_t rest = n - packs * K;
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < rest; i += blockDim.x) {
    f(Count<1>(), i < head ? i : i + packs * K);
  }
}

// The sum of exp(x - largest), while the largest is still being looked for. Milakov and
// Gimelshein, arXiv 1805.02867.
template <class V>
struct OnlineSum {
  V largest, sum;

  static __device__ __forceinline__ OnlineSum start() { return {lowest(), V(0)}; }
  static __device__ __forceinline__ V lowest() { return -V(INFINITY); }
  // Of a difference to the largest: that of an empty or all -inf row is taken as 0.
  static __device__ __forceinline__ V finite(V m) { return m == lowest() ? V(0) : m; }

  template <int N>
  __device__ __forceinline__ void take(const V (&x)[N]) {
    take(x, [](V distance) { return exp_of(distance); });
  }
  // With another exponential function.
  template <int N, class E>
  __device__ __forceinline__ void take(const V (&x)[N], const E &exp) {
    V m = x[0];
#pragma unroll
    for (int k = 1; k < N; k++) m = larger_of(x[k], m);
    if (m > largest) {
      sum *= exp(largest - m);
      largest = m;
    }
    const V shift = finite(largest);
    V s = V(0);
#pragma unroll
    for (int k = 0; k < N; k++) s += exp(x[k] - shift);
    sum += s;
  }
  static __device__ __forceinline__ OnlineSum merge(const OnlineSum &a, const OnlineSum &b) {
    const V m = b.largest > a.largest ? b.largest : a.largest, shift = finite(m);
    return {m, a.sum * exp_of(a.largest - shift) + b.sum * exp_of(b.largest - shift)};
  }
  // Over a group of threads: first what is largest, so that each sum is scaled once.
  __device__ __forceinline__ OnlineSum over(Group<V> &group) const {
    const V m = group.fold(largest, Larger<V>());
    return {m, group.fold(sum * exp_of(largest - finite(m)), Add<V>())};
  }
};

}  // namespace VT_NS
#endif
