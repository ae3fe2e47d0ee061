// Cross entropy of logits with class indices, and its gradient. A group of threads takes a sample: the
// forward reads its logits once, the backward reads and writes each once. Where the gradient may take the
// place of the logits, one kernel does both.
#include "vt/cross_entropy_args.h"
#include "vt/rows.cuh"
#include "vt/words.cuh"

namespace VT_NS {
namespace {

__device__ __forceinline__ int64_t sample_offset(const SampleValues &v, int64_t inner,
                                                 int64_t sample) {
  if (inner <= 1) return sample * v.outer_stride;
  const int64_t o = sample / inner;
  return o * v.outer_stride + (sample - o * inner) * v.inner_stride;
}

// The class of a sample, -1 for a sample that does not count.
__device__ __forceinline__ int64_t class_of(const SampleValues &target, int64_t inner,
                                            int64_t sample, int64_t classes,
                                            const CrossEntropyOptions &o) {
  const int64_t t = static_cast<const int64_t *>(target.data)[sample_offset(target, inner, sample)];
  if (t == o.ignore) return -1;
  if (static_cast<uint64_t>(t) < static_cast<uint64_t>(classes)) return t;
  if (threadIdx.x == 0) o.sink.raise(t, classes);
  return -1;
}

// Distances from some logit: their sum over the classes keeps its digits where all logits are large.
template <class V>
__device__ __forceinline__ V near_logit(V x) {
  return x - x == V(0) ? x : V(0);
}

// The loss of a sample: of its target the logit and the weight, of its logits the sum of exponentials and
// `spread`, the sum of w[c] (x[c] - shift); `all` is the sum of w.
template <class V>
__device__ __forceinline__ V loss_of(V picked, V w, const OnlineSum<V> &s, V shift, V spread, V all,
                                     V smoothing, int64_t classes) {
  const V log_sum = log_of(s.sum), loss = w * (log_sum - (picked - s.largest));
  if (smoothing == V(0)) return loss;
  const V uniform = (all * (log_sum + (s.largest - shift)) - spread) / static_cast<V>(classes);
  return (V(1) - smoothing) * loss + smoothing * uniform;
}

// dx[c] = exp(x[c] - largest) all - w[c] uniform, less `mine` at the target class.
template <class V>
struct Shares {
  V mine, uniform, all;
  __device__ __forceinline__ Shares(V grad, V w, V weights, V sum, V smoothing, int64_t classes)
      : mine(grad * w * (V(1) - smoothing)),
        uniform(grad * smoothing / static_cast<V>(classes)),
        all((mine + uniform * weights) / sum) {}
};

// Gradients of a sample that does not count.
template <class T>
__device__ __forceinline__ void store_zeros(T *dx, int64_t n, int64_t stride) {
  for_row(dx, n, stride == 1, [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    Pack<T, N> zero;
#pragma unroll
    for (int k = 0; k < N; k++) zero.x[k] = store_as<T>(acc_t<T>(0));
    store_pack<T, N>(dx + i * stride, zero);
  });
}

template <class T>
__device__ __forceinline__ void forward(const CrossEntropyArgs &a) {
  using V = acc_t<T>;
  __shared__ V room[Group<V>::kRoom];
  alignas(16) __shared__ Two<double> sums[kCrossEntropyThreads];
  Group<V> group(room);
  const CrossEntropyOptions &o = a.options;
  const int64_t sample = int64_t(blockIdx.x) * blockDim.y + threadIdx.y, classes = a.lines.n;
  const bool live = sample < a.lines.count;
  const int64_t t = live ? class_of(a.target, a.lines.inner, sample, classes, o) : -1;
  const int64_t n = t >= 0 ? classes : 0, stride = a.lines.stride[0];
  int64_t at[1];
  line_offsets(a.lines, live ? sample : 0, at);
  const T *const x = static_cast<const T *>(a.x) + at[0];
  const V *const weight = static_cast<const V *>(o.weight);
  const V smoothing = static_cast<V>(o.smoothing);
  const bool smooth = smoothing != V(0);
  const V shift = n > 0 && smooth ? near_logit(static_cast<V>(x[0])) : V(0);

  OnlineSum<V> s = OnlineSum<V>::start();
  V spread = V(0);
  for_row(x, n, stride == 1, [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    const Pack<T, N> raw = load_pack<T, N>(x + i * stride);
    V v[N];
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = static_cast<V>(raw.x[k]);
    s.template take<N>(v);
    if (smooth) {
#pragma unroll
      for (int k = 0; k < N; k++) spread += (v[k] - shift) * (weight ? weight[i + k] : V(1));
    }
  });
  s = s.over(group);
  if (smooth) spread = group.fold(spread, Add<V>());
  if (threadIdx.x == 0) {
    V loss = V(0), w = V(0);
    if (n > 0) {
      w = weight ? weight[t] : V(1);
      loss = loss_of(static_cast<V>(x[t * stride]), w, s, shift, spread,
                     weight ? weight[classes] : static_cast<V>(classes), smoothing, classes);
    }
    if (live) {
      static_cast<V *>(a.largest)[sample] = s.largest;
      static_cast<V *>(a.sum)[sample] = s.sum;
      if (a.losses && a.wide) static_cast<V *>(a.losses)[sample] = loss;
      if (a.losses && !a.wide) static_cast<T *>(a.losses)[sample] = store_as<T>(loss);
    }
    sums[threadIdx.y] = {static_cast<double>(loss), static_cast<double>(w)};
  }
  const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) sums[thread] = AddTwo<double>()(sums[thread], sums[thread + half]);
  }
  if (thread == 0) static_cast<Two<double> *>(a.partial)[blockIdx.x] = sums[0];
}

template <class T>
__device__ __forceinline__ void finish(const CrossEntropyFinishArgs &a) {
  using V = acc_t<T>;
  alignas(16) __shared__ Two<double> room[Group<double>::kRoom];
  Group<Two<double>> group(room);
  Two<double> s = {0., 0.};
  for (int64_t i = threadIdx.x; i < a.blocks; i += blockDim.x) {
    s = AddTwo<double>()(s, static_cast<const Two<double> *>(a.partial)[i]);
  }
  s = group.fold(s, AddTwo<double>());
  if (threadIdx.x > 0) return;
  *static_cast<V *>(a.total) = static_cast<V>(s.b);
  if (a.out) *static_cast<T *>(a.out) = store_as<T>(static_cast<V>(a.mean ? s.a / s.b : s.a));
}

template <class T>
__device__ __forceinline__ void backward(const CrossEntropyBackwardArgs &a) {
  using V = acc_t<T>;
  const CrossEntropyOptions &o = a.options;
  const int64_t sample = int64_t(blockIdx.x) * blockDim.y + threadIdx.y, classes = a.lines.n;
  if (sample >= a.lines.count) return;
  const int64_t t = class_of(a.target, a.lines.inner, sample, classes, o);
  int64_t at[2];
  line_offsets(a.lines, sample, at);
  const T *const x = static_cast<const T *>(a.x) + at[0];
  T *const dx = static_cast<T *>(a.dx) + at[1];
  const int64_t stride = a.lines.stride[0], out_stride = a.lines.stride[1];
  if (t < 0) return store_zeros(dx, classes, out_stride);
  const V *const weight = static_cast<const V *>(o.weight);
  const int64_t g = sample_offset(a.grad, a.lines.inner, sample);
  V grad = a.wide ? static_cast<const V *>(a.grad.data)[g]
                  : static_cast<V>(static_cast<const T *>(a.grad.data)[g]);
  if (a.total) grad /= *static_cast<const V *>(a.total);
  const V largest = static_cast<const V *>(a.largest)[sample];
  const Shares<V> share(
      grad, weight ? weight[t] : V(1), weight ? weight[classes] : static_cast<V>(classes),
      static_cast<const V *>(a.sum)[sample], static_cast<V>(o.smoothing), classes);
  const bool weighted = weight && share.uniform != V(0);
  const bool packed = stride == 1 && out_stride == 1 && same_phase<T>(x, dx);
  for_row(x, classes, packed, [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    const Pack<T, N> raw = load_pack<T, N>(x + i * stride);
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; k++) {
      V v = exp_of(static_cast<V>(raw.x[k]) - largest) * share.all;
      v -= weighted ? weight[i + k] * share.uniform : share.uniform;
      if (i + k == t) v -= share.mine;
      out.x[k] = store_as<T>(v);
    }
    store_pack<T, N>(dx + i * out_stride, out);
  });
}

// exp(x) to the digits of T: for half types what the hardware has, a third of the instructions.
template <class T>
__device__ __forceinline__ acc_t<T> exp_for(acc_t<T> x) {
  if constexpr (is_half_type<T>) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504f));
    return y;
  } else {
    return exp_of(x);
  }
}

// Loss and gradient of rows: each is read from memory and written once. What shared memory has room for
// stays there between the two passes. The second walks backwards, to find the rest in the cache; a
// thread has the same packs in both.
template <class T>
__device__ __forceinline__ void in_place(const CrossEntropyRowsArgs &a) {
  using V = acc_t<T>;
  constexpr int K = kPack<T>, U = sizeof(V) == 8 ? 2 : 4;  // U packs are under way to a thread
  using Raw = Words<T, K>;
  extern __shared__ __align__(16) char shared[];
  __shared__ V room[Group<V>::kRoom];
  Group<V> group(room);
  const CrossEntropyOptions &o = a.options;
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y, classes = a.classes;
  const int64_t t = row < a.rows ? class_of(a.target, 1, row, classes, o) : -1;
  T *const x = static_cast<T *>(a.x) + row * classes;
  const int n = t >= 0 ? int(classes) : 0, head = int(unaligned_head(x, n));
  const int packs = (n - head) / K, edges = n - packs * K, kept = int(a.kept);
  T *const body = x + head;
  Raw *const keep = reinterpret_cast<Raw *>(shared) + threadIdx.y * kept;
  const int threads = int(blockDim.x), span = U * threads;
  // Of the elements before and behind the packs.
  const auto edge = [&](int i) { return i < head ? i : i + packs * K; };
  const auto exp = [](V d) { return exp_for<T>(d); };

  const V smoothing = static_cast<V>(o.smoothing);
  const bool smooth = smoothing != V(0);
  const V picked = n > 0 ? static_cast<V>(x[t]) : V(0);
  const V shift = n > 0 && smooth ? near_logit(static_cast<V>(x[0])) : V(0);
  V spread = V(0);
  OnlineSum<V> s = OnlineSum<V>::start();
  const auto take = [&](auto &v) {
    s.take(v, exp);
    if (!smooth) return;
#pragma unroll
    for (const V &value : v) spread += value - shift;
  };
#pragma unroll 1
  for (int base = threadIdx.x; base < packs; base += span) {
    Raw raw[U];
#pragma unroll
    for (int u = 0; u < U; u++) {
      const int p = base + u * threads;
      if (p < packs) raw[u] = Raw::load(body + p * K);
    }
#pragma unroll
    for (int u = 0; u < U; u++) {
      const int p = base + u * threads;
      if (p >= packs) continue;
      if (p < kept) keep[p] = raw[u];
      V v[K];
      raw[u].open(v);
      take(v);
    }
  }
#pragma unroll 1
  for (int i = threadIdx.x; i < edges; i += threads) {
    V v[1] = {static_cast<V>(x[edge(i)])};
    take(v);
  }
  // Nobody writes before all have read: the folds wait for other warps, this for the threads of one.
  __syncwarp();
  s = s.over(group);
  if (smooth) spread = group.fold(spread, Add<V>());
  if (row >= a.rows) return;
  if (threadIdx.x == 0) {
    static_cast<double *>(a.losses)[row] =
        n > 0 ? static_cast<double>(loss_of(picked, V(1), s, shift, spread, static_cast<V>(classes),
                                            smoothing, classes))
              : 0.;
  }
  if (!a.gradient) return;
  if (n == 0) return store_zeros(x, classes, 1);
  V grad = static_cast<V>(a.scale);
  if (a.total) grad /= *static_cast<const V *>(a.total);
  const Shares<V> share(grad, V(1), static_cast<V>(classes), s.sum, smoothing, classes);
  const auto gradient = [&](V v, int i) {
    v = exp(v - s.largest) * share.all - share.uniform;
    return store_as<T>(i == int(t) ? v - share.mine : v);
  };
#pragma unroll 1
  for (int base = (packs - 1) / span * span + int(threadIdx.x); base >= 0; base -= span) {
    Raw raw[U];
#pragma unroll
    for (int u = 0; u < U; u++) {
      const int p = base + u * threads;
      if (p < packs) raw[u] = p < kept ? keep[p] : Raw::load(body + p * K);
    }
#pragma unroll
    for (int u = 0; u < U; u++) {
      const int p = base + u * threads;
      if (p >= packs) continue;
      V v[K];
      raw[u].open(v);
      Pack<T, K> out;
#pragma unroll
      for (int k = 0; k < K; k++) out.x[k] = gradient(v[k], head + p * K + k);
      bit_cast<Raw>(out).store(body + p * K);
    }
  }
#pragma unroll 1
  for (int i = threadIdx.x; i < edges; i += threads) {
    const int e = edge(i);
    x[e] = gradient(static_cast<V>(x[e]), e);
  }
}

// Class weights in the compute type, and their sum behind them: one block.
template <class V>
__device__ __forceinline__ void class_weights(const ClassWeightsArgs &a) {
  __shared__ V room[Group<V>::kRoom];
  Group<V> group(room);
  V *const out = static_cast<V *>(a.out);
  V sum = V(0);
  with_floating(a.weight.data, a.weight.dtype, [&](auto weight) {
    for (int64_t c = threadIdx.x; c < a.classes; c += blockDim.x) {
      const V w = as_compute<V>(weight[c]);
      out[c] = w;
      sum += w;
    }
  });
  sum = group.fold(sum, Add<V>());
  if (threadIdx.x == 0) out[a.classes] = sum;
}

}  // namespace
}  // namespace VT_NS

#define VT_CROSS_ENTROPY_KERNELS(SUFFIX, T)                                                        \
  extern "C" __global__ void __launch_bounds__(vt::kCrossEntropyThreads)                           \
      vt_cross_entropy_##SUFFIX(const __grid_constant__ vt::CrossEntropyArgs a) {                  \
    vt::forward<T>(a);                                                                             \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(vt::kCrossEntropyFinish, 1)                         \
      vt_cross_entropy_finish_##SUFFIX(const __grid_constant__ vt::CrossEntropyFinishArgs a) {     \
    vt::finish<T>(a);                                                                              \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(vt::kCrossEntropyThreads)                           \
      vt_cross_entropy_backward_##SUFFIX(const __grid_constant__ vt::CrossEntropyBackwardArgs a) { \
    vt::backward<T>(a);                                                                            \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(vt::cross_entropy_long(sizeof(T)), 1)               \
      vt_cross_entropy_gradient_##SUFFIX(const __grid_constant__ vt::CrossEntropyRowsArgs a) {     \
    vt::in_place<T>(a);                                                                            \
  }
#define VT_CLASS_WEIGHTS_KERNEL(SUFFIX, V)                                        \
  extern "C" __global__ void __launch_bounds__(vt::kCrossEntropyFinish, 1)        \
      vt_class_weights_##SUFFIX(const __grid_constant__ vt::ClassWeightsArgs a) { \
    vt::class_weights<V>(a);                                                      \
  }

VT_CROSS_ENTROPY_KERNELS(f16, vt::half)
VT_CROSS_ENTROPY_KERNELS(bf16, vt::bfloat16)
VT_CROSS_ENTROPY_KERNELS(f32, float)
VT_CROSS_ENTROPY_KERNELS(f64, double)
VT_CLASS_WEIGHTS_KERNEL(f32, float)
VT_CLASS_WEIGHTS_KERNEL(f64, double)
