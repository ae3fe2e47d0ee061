// Cross entropy of logits with class indices, and its gradient. A group of threads takes a sample: the
// forward reads its logits once, the backward reads and writes each once.
#include "vt/cross_entropy_args.h"
#include "vt/rows.cuh"

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
  // Distances from some logit: the sum over the classes keeps its digits where all are large.
  V shift = n > 0 && smooth ? static_cast<V>(x[0]) : V(0);
  if (!(shift - shift == V(0))) shift = V(0);

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
    V loss = V(0), w = V(0), lse = V(0);
    if (n > 0) {
      w = weight ? weight[t] : V(1);
      const V log_sum = log_of(s.sum);
      lse = s.largest + log_sum;
      loss = w * (log_sum - (static_cast<V>(x[t * stride]) - s.largest));
      if (smooth) {
        const V all = weight ? weight[classes] : static_cast<V>(classes);
        const V uniform =
            (all * (log_sum + (s.largest - shift)) - spread) / static_cast<V>(classes);
        loss = (V(1) - smoothing) * loss + smoothing * uniform;
      }
    }
    if (live) {
      static_cast<V *>(a.lse)[sample] = lse;
      if (a.losses) static_cast<T *>(a.losses)[sample] = store_as<T>(loss);
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

// dx[c] = p[c] all - w[c] uniform, less `mine` at the target class; p = softmax(x).
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
  if (t < 0) {
    for_row(dx, classes, out_stride == 1, [&](auto count, int64_t i) {
      constexpr int N = decltype(count)::value;
      Pack<T, N> zero;
#pragma unroll
      for (int k = 0; k < N; k++) zero.x[k] = store_as<T>(V(0));
      store_pack<T, N>(dx + i * out_stride, zero);
    });
    return;
  }
  const V *const weight = static_cast<const V *>(o.weight);
  V grad = static_cast<V>(
      static_cast<const T *>(a.grad.data)[sample_offset(a.grad, a.lines.inner, sample)]);
  if (a.total) grad /= *static_cast<const V *>(a.total);
  const V lse = static_cast<const V *>(a.lse)[sample], smoothing = static_cast<V>(o.smoothing);
  const V mine = grad * (weight ? weight[t] : V(1)) * (V(1) - smoothing);
  const V uniform = grad * smoothing / static_cast<V>(classes);
  const V all = mine + uniform * (weight ? weight[classes] : static_cast<V>(classes));
  const bool weighted = weight && uniform != V(0);
  const bool packed = stride == 1 && out_stride == 1 && same_phase<T>(x, dx);
  for_row(x, classes, packed, [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    const Pack<T, N> raw = load_pack<T, N>(x + i * stride);
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; k++) {
      V v = exp_of(static_cast<V>(raw.x[k]) - lse) * all;
      v -= weighted ? weight[i + k] * uniform : uniform;
      if (i + k == t) v -= mine;
      out.x[k] = store_as<T>(v);
    }
    store_pack<T, N>(dx + i * out_stride, out);
  });
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
