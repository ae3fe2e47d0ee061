// softmax and log_softmax along one dimension, and their gradients. Four kernels each:
//   small, rows  a group of threads keeps a line in registers and reads it once
//   long         a block streams a line twice
//   columns      neighbouring threads take neighbouring lines, whose elements lie apart
#include "vt/rows.cuh"
#include "vt/softmax_args.h"

namespace VT_NS {
namespace {

// ---- lines in registers ----

template <class T, int E>
__device__ __forceinline__ void forward_rows(const SoftmaxArgs &a) {
  using V = acc_t<T>;
  using Slice = RowSlice<T, E>;
  __shared__ V room[Group<V>::kRoom];
  Group<V> group(room);
  const int64_t line = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool live = line < a.lines.count;
  const int n = live ? int(a.lines.n) : 0;
  int64_t at[3];
  line_offsets(a.lines, live ? line : 0, at);
  V v[E];
  Slice::load(v, static_cast<const T *>(a.in[0]) + at[0], n, a.lines.stride[0], a.packed,
              -V(INFINITY));
  V largest = v[0];
#pragma unroll
  for (int e = 1; e < E; e++) largest = v[e] > largest ? v[e] : largest;
  largest = group.fold(largest, Larger<V>());
  V sum = V(0);
  if (a.log) {
#pragma unroll
    for (int e = 0; e < E; e++) {
      v[e] -= largest;
      sum += exp_of(v[e]);
    }
  } else {
#pragma unroll
    for (int e = 0; e < E; e++) {
      v[e] = exp_of(v[e] - largest);
      sum += v[e];
    }
  }
  sum = group.fold(sum, Add<V>());
  if (a.log) {
    const V log_sum = log_of(sum);
#pragma unroll
    for (int e = 0; e < E; e++) v[e] -= log_sum;
  } else {
    const V scale = V(1) / sum;
#pragma unroll
    for (int e = 0; e < E; e++) v[e] *= scale;
  }
  Slice::store(v, static_cast<T *>(a.out) + at[2], n, a.lines.stride[2], a.packed);
}

// dx = y * (g - sum(g * y)); of log_softmax g - exp(y) * sum(g).
template <class T, int E>
__device__ __forceinline__ void backward_rows(const SoftmaxArgs &a) {
  using V = acc_t<T>;
  using Slice = RowSlice<T, E>;
  __shared__ V room[Group<V>::kRoom];
  Group<V> group(room);
  const int64_t line = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool live = line < a.lines.count;
  const int n = live ? int(a.lines.n) : 0;
  int64_t at[3];
  line_offsets(a.lines, live ? line : 0, at);
  V g[E], y[E];
  Slice::load(g, static_cast<const T *>(a.in[0]) + at[0], n, a.lines.stride[0], a.packed, V(0));
  Slice::load(y, static_cast<const T *>(a.in[1]) + at[1], n, a.lines.stride[1], a.packed, V(0));
  V sum = V(0);
#pragma unroll
  for (int e = 0; e < E; e++) sum += a.log ? g[e] : g[e] * y[e];
  sum = group.fold(sum, Add<V>());
#pragma unroll
  for (int e = 0; e < E; e++) {
    g[e] = a.log ? g[e] - exp_of(y[e]) * sum : y[e] * (g[e] - sum);
  }
  Slice::store(g, static_cast<T *>(a.out) + at[2], n, a.lines.stride[2], a.packed);
}

// ---- lines that are streamed ----
//
// A stream takes all elements of a line into a state, then maps each of them.

template <class T>
struct ForwardStream {
  using V = acc_t<T>;
  using State = OnlineSum<V>;
  static constexpr int kInputs = 1;
  static __device__ __forceinline__ State start() { return State::start(); }
  template <int N>
  static __device__ __forceinline__ void take(State &s, const V (&x)[1][N], bool) {
    s.take(x[0]);
  }
  static __device__ __forceinline__ State merge(const State &s, const State &o) {
    return State::merge(s, o);
  }
  // The factor, or the logarithm, of the sum.
  static __device__ __forceinline__ State ready(const State &s, bool log) {
    return {s.largest, log ? log_of(s.sum) : V(1) / s.sum};
  }
  static __device__ __forceinline__ V map(const State &s, const V (&x)[1], bool log) {
    const V d = x[0] - s.largest;
    return log ? d - s.sum : exp_of(d) * s.sum;
  }
};

template <class T>
struct BackwardStream {
  using V = acc_t<T>;
  using State = V;
  static constexpr int kInputs = 2;
  static __device__ __forceinline__ State start() { return V(0); }
  template <int N>
  static __device__ __forceinline__ void take(State &s, const V (&x)[2][N], bool log) {
#pragma unroll
    for (int k = 0; k < N; k++) s += log ? x[0][k] : x[0][k] * x[1][k];
  }
  static __device__ __forceinline__ State merge(const State &s, const State &o) { return s + o; }
  static __device__ __forceinline__ State ready(const State &s, bool) { return s; }
  static __device__ __forceinline__ V map(const State &s, const V (&x)[2], bool log) {
    return log ? x[0] - exp_of(x[1]) * s : x[1] * (x[0] - s);
  }
};

// N elements from the i-th on of each input.
template <class T, int I, int N>
__device__ __forceinline__ void load_inputs(const T *const (&x)[I], const int64_t (&stride)[3],
                                            int64_t i, acc_t<T> (&v)[I][N]) {
#pragma unroll
  for (int k = 0; k < I; k++) {
    const Pack<T, N> raw = load_pack<T, N>(x[k] + i * stride[k]);
#pragma unroll
    for (int j = 0; j < N; j++) v[k][j] = static_cast<acc_t<T>>(raw.x[j]);
  }
}

template <class T, class Stream>
__device__ __forceinline__ void stream_long(const SoftmaxArgs &a) {
  using V = acc_t<T>;
  using State = typename Stream::State;
  constexpr int I = Stream::kInputs;
  alignas(16) __shared__ char room[Group<State>::kRoom * sizeof(State)];
  Group<State> group(reinterpret_cast<State *>(room));
  int64_t at[3], stride[3];
  line_offsets(a.lines, blockIdx.x, at);
#pragma unroll
  for (int k = 0; k < 3; k++) stride[k] = a.lines.stride[k];
  const T *x[I];
#pragma unroll
  for (int k = 0; k < I; k++) x[k] = static_cast<const T *>(a.in[k]) + at[k];
  T *const y = static_cast<T *>(a.out) + at[2];
  const bool log = a.log;
  bool packed = stride[0] == 1 && stride[2] == 1 && same_phase<T>(x[0], y);
  if (I == 2) packed = packed && stride[1] == 1 && same_phase(x[0], x[I - 1]);

  State s = Stream::start();
  for_row(x[0], a.lines.n, packed, [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    V v[I][N];
    load_inputs<T, I, N>(x, stride, i, v);
    Stream::template take<N>(s, v, log);
  });
  s = group.fold(s, [](const State &p, const State &q) { return Stream::merge(p, q); });
  s = Stream::ready(s, log);
  for_row(x[0], a.lines.n, packed, [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    V v[I][N];
    load_inputs<T, I, N>(x, stride, i, v);
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; j++) {
      V e[I];
#pragma unroll
      for (int k = 0; k < I; k++) e[k] = v[k][j];
      out.x[j] = store_as<T>(Stream::map(s, e, log));
    }
    store_pack<T, N>(y + i * stride[2], out);
  });
}

// blockDim.x lines side by side, each shared by blockDim.y threads.
template <class T, class Stream>
__device__ __forceinline__ void stream_columns(const SoftmaxArgs &a) {
  using V = acc_t<T>;
  using State = typename Stream::State;
  constexpr int I = Stream::kInputs;
  alignas(16) __shared__ char bytes[kSoftmaxColumns * sizeof(State)];
  State *const room = reinterpret_cast<State *>(bytes);
  const int64_t line = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool live = line < a.lines.count, log = a.log;
  const int64_t n = live ? a.lines.n : 0;
  int64_t at[3];
  line_offsets(a.lines, live ? line : 0, at);
  const auto load = [&](int k, int64_t i) {
    return static_cast<V>(static_cast<const T *>(a.in[k])[at[k] + i * a.lines.stride[k]]);
  };
  State s = Stream::start();
  constexpr int U = 4;
  const int64_t step = blockDim.y;
  int64_t i = threadIdx.y;
  for (; i + (U - 1) * step < n; i += U * step) {
    V v[I][U];
#pragma unroll
    for (int k = 0; k < I; k++) {
#pragma unroll
      for (int u = 0; u < U; u++) v[k][u] = load(k, i + u * step);
    }
    Stream::take(s, v, log);
  }
#pragma unroll 1
  for (; i < n; i += step) {
    V v[I][1];
#pragma unroll
    for (int k = 0; k < I; k++) v[k][0] = load(k, i);
    Stream::take(s, v, log);
  }
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  room[thread] = s;
#pragma unroll 1
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      s = Stream::merge(s, room[thread + half * blockDim.x]);
      room[thread] = s;
    }
  }
  __syncthreads();
  s = Stream::ready(room[threadIdx.x], log);
  T *const y = static_cast<T *>(a.out) + at[2];
#pragma unroll 1
  for (i = threadIdx.y; i < n; i += step) {
    V e[I];
#pragma unroll
    for (int k = 0; k < I; k++) e[k] = load(k, i);
    y[i * a.lines.stride[2]] = store_as<T>(Stream::map(s, e, log));
  }
}

}  // namespace
}  // namespace VT_NS

#define VT_SOFTMAX_KERNEL(NAME, SUFFIX, THREADS, ...)                   \
  extern "C" __global__ void __launch_bounds__(THREADS, 1)              \
      vt_##NAME##_##SUFFIX(const __grid_constant__ vt::SoftmaxArgs a) { \
    vt::__VA_ARGS__(a);                                                 \
  }
#define VT_SOFTMAX_KERNELS(SUFFIX, T)                                                             \
  VT_SOFTMAX_KERNEL(softmax_small, SUFFIX, vt::kSoftmaxThreads,                                   \
                    forward_rows<T, vt::SoftmaxSlice<sizeof(T)>::kSmall>)                         \
  VT_SOFTMAX_KERNEL(softmax_rows, SUFFIX, 1024,                                                   \
                    forward_rows<T, vt::SoftmaxSlice<sizeof(T)>::kForward>)                       \
  VT_SOFTMAX_KERNEL(softmax_long, SUFFIX, vt::kSoftmaxLong, stream_long<T, vt::ForwardStream<T>>) \
  VT_SOFTMAX_KERNEL(softmax_columns, SUFFIX, vt::kSoftmaxColumns,                                 \
                    stream_columns<T, vt::ForwardStream<T>>)                                      \
  VT_SOFTMAX_KERNEL(softmax_backward_small, SUFFIX, vt::kSoftmaxThreads,                          \
                    backward_rows<T, vt::SoftmaxSlice<sizeof(T)>::kSmall>)                        \
  VT_SOFTMAX_KERNEL(softmax_backward_rows, SUFFIX, 1024,                                          \
                    backward_rows<T, vt::SoftmaxSlice<sizeof(T)>::kBackward>)                     \
  VT_SOFTMAX_KERNEL(softmax_backward_long, SUFFIX, vt::kSoftmaxLong,                              \
                    stream_long<T, vt::BackwardStream<T>>)                                        \
  VT_SOFTMAX_KERNEL(softmax_backward_columns, SUFFIX, vt::kSoftmaxColumns,                        \
                    stream_columns<T, vt::BackwardStream<T>>)

VT_SOFTMAX_KERNELS(f16, vt::half)
VT_SOFTMAX_KERNELS(bf16, vt::bfloat16)
VT_SOFTMAX_KERNELS(f32, float)
VT_SOFTMAX_KERNELS(f64, double)
