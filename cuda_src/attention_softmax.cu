// The softmax inside attention: scale is in the scores already; mask, causality, normalisation and
// the log-sum-exp are done here, in place. Scores are float (double for double); what the next
// product reads is written over them in the dtype of the queries, so that for half types a row
// takes the first half of the row of scores it came from.
//
// A row of up to 1024 keys is held by one warp, a longer one is read twice by a block.
#include "vt/attention_rows.h"
#include "vt/dtype.h"

namespace {

constexpr int kWarps = 4;          // rows of a block of warps
constexpr int kLoopThreads = 256;  // of a block that has one row

template <class T>
struct alignas(sizeof(T) * 4 < 16 ? sizeof(T) * 4 : 16) Four {
  T v[4];
};

template <class T>
__device__ T minus_infinity() {
  return -T(INFINITY);
}
__device__ float exponential(float x) { return expf(x); }
__device__ double exponential(double x) { return exp(x); }
__device__ float logarithm(float x) { return logf(x); }
__device__ double logarithm(double x) { return log(x); }

template <class T>
__device__ T larger(T a, T b) {
  return b > a ? b : a;
}

template <class T>
__device__ T warp_max(T x) {
  for (int d = 16; d > 0; d /= 2) x = larger(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}
template <class T>
__device__ T warp_sum(T x) {
  for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

// One row of scores: where it is, and what is added to it.
template <class S, class T>
struct Row {
  const vt_attention_rows &p;
  const void *mask;
  int64_t b, h, query;
  uint32_t seen;  // keys

  __device__ Row(const vt_attention_rows &params, const void *mask_data, uint32_t row)
      : p(params), mask(mask_data) {
    const uint32_t unit = p.first_unit + row / p.unit_rows, r = p.first_row + row % p.unit_rows;
    b = unit / p.kv_heads;
    h = unit % p.kv_heads * p.group + r / p.queries;
    query = r % p.queries;
    const int64_t end = query + p.high + 1;
    seen = end < 0 ? 0 : end < p.keys ? uint32_t(end) : p.keys;
  }

  __device__ int64_t lse() const {
    return b * p.lse_stride[0] + h * p.lse_stride[1] + query * p.lse_stride[2];
  }

  __device__ T masked(T score, uint32_t key) const {
    if (key >= seen) return minus_infinity<T>();
    if (p.mask_kind == 0) return score;
    const int64_t at = b * p.mask_stride[0] + h * p.mask_stride[1] + query * p.mask_stride[2] +
                       key * p.mask_stride[3];
    if (p.mask_kind == 1) {
      return static_cast<const uint8_t *>(mask)[at] ? score : minus_infinity<T>();
    }
    return score + T(static_cast<const S *>(mask)[at]);
  }

  // Four scores from `key` on; those that do not exist, or are not seen, become -inf.
  __device__ void load(T (&x)[4], const T *scores, uint32_t key) const {
    load_plain(x, scores, key);
#pragma unroll
    for (int c = 0; c < 4; c++) x[c] = masked(x[c], key + c);
  }

  // Four values; those that do not exist become zero.
  __device__ void load_plain(T (&x)[4], const T *from, uint32_t key) const {
    if (key + 4 <= p.keys) {
      const Four<T> four = *reinterpret_cast<const Four<T> *>(from + key);
#pragma unroll
      for (int c = 0; c < 4; c++) x[c] = four.v[c];
    } else {
#pragma unroll
      for (int c = 0; c < 4; c++) x[c] = key + c < p.keys ? from[key + c] : T(0);
    }
  }

  template <class U>
  __device__ void store(U *to, uint32_t key, const T (&x)[4]) const {
    if (key + 4 <= p.keys) {
      Four<U> four;
#pragma unroll
      for (int c = 0; c < 4; c++) four.v[c] = U(x[c]);
      *reinterpret_cast<Four<U> *>(to + key) = four;
    } else {
#pragma unroll
      for (int c = 0; c < 4; c++) {
        if (key + c < p.keys) to[key + c] = U(x[c]);
      }
    }
  }

  __device__ void store_grad_mask(const vt_attention_grad_mask &to, uint32_t key,
                                  const T (&x)[4]) const {
    S *data =
        static_cast<S *>(to.data) + b * to.stride[0] + h * to.stride[1] + query * to.stride[2];
#pragma unroll
    for (int c = 0; c < 4; c++) {
      if (key + c < p.keys) data[int64_t(key + c) * to.stride[3]] = S(x[c]);
    }
  }
};

// ---- forward ----

// A row without any key to see has the maximum -inf; any finite one does for it. Its sum is zero, and
// so are its weights.
template <class T>
__device__ T finite_max(T max) {
  return max == minus_infinity<T>() ? T(0) : max;
}
template <class T>
__device__ T inverse(T sum) {
  return sum == T(0) ? T(0) : T(1) / sum;
}

template <class S, class T, int Fours>
__device__ void softmax_warp(T *scores, const void *mask, T *lse, const vt_attention_rows &p) {
  const uint32_t i = blockIdx.x * kWarps + threadIdx.x / 32;
  if (i >= p.rows) return;
  const uint32_t lane = threadIdx.x % 32;
  const Row<S, T> row(p, mask, i);
  T *const from = scores + i * p.ld;
  T x[Fours][4];
  T max = minus_infinity<T>();
#pragma unroll
  for (int v = 0; v < Fours; v++) {
    row.load(x[v], from, (v * 32 + lane) * 4);
#pragma unroll
    for (int c = 0; c < 4; c++) max = larger(max, x[v][c]);
  }
  max = finite_max(warp_max(max));
  T sum = T(0);
#pragma unroll
  for (int v = 0; v < Fours; v++) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
      x[v][c] = exponential(x[v][c] - max);
      sum += x[v][c];
    }
  }
  sum = warp_sum(sum);
  const T factor = inverse(sum);
  __syncwarp();  // all have read the row that is overwritten
#pragma unroll
  for (int v = 0; v < Fours; v++) {
#pragma unroll
    for (int c = 0; c < 4; c++) x[v][c] *= factor;
    row.store(reinterpret_cast<S *>(from), (v * 32 + lane) * 4, x[v]);
  }
  if (lane == 0) lse[row.lse()] = max + logarithm(sum);
}

// Combines a value per warp; every thread gets the result.
template <class T, class F>
__device__ T across_warps(T x, T *room, F combine) {
  __syncthreads();  // the room may be in use
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  x = room[0];
  for (int w = 1; w < kLoopThreads / 32; w++) x = combine(x, room[w]);
  return x;
}
template <class T>
__device__ T block_max(T x, T *room) {
  return across_warps(warp_max(x), room, [](T a, T b) { return larger(a, b); });
}
template <class T>
__device__ T block_sum(T x, T *room) {
  return across_warps(warp_sum(x), room, [](T a, T b) { return a + b; });
}

// Four keys per thread at a time. What is written lies at or before what was read in the same or an
// earlier turn, so a barrier between reading and writing is enough.
template <class F>
__device__ void by_turns(uint32_t keys, F f) {
  for (uint32_t first = 0; first < keys; first += kLoopThreads * 4) f(first + threadIdx.x * 4);
}

template <class S, class T>
__device__ void softmax_loop(T *scores, const void *mask, T *lse, const vt_attention_rows &p) {
  __shared__ T room[kLoopThreads / 32];
  const uint32_t i = blockIdx.x;
  const Row<S, T> row(p, mask, i);
  T *const from = scores + i * p.ld;
  T max = minus_infinity<T>(), sum = T(0);
  by_turns(p.keys, [&](uint32_t key) {
    T x[4];
    row.load(x, from, key);
    T next = max;
#pragma unroll
    for (int c = 0; c < 4; c++) next = larger(next, x[c]);
    const T base = finite_max(next);
    sum *= exponential(max - base);
#pragma unroll
    for (int c = 0; c < 4; c++) sum += exponential(x[c] - base);
    max = next;
  });
  const T all = finite_max(block_max(max, room));
  sum = block_sum(sum * exponential(max - all), room);
  const T factor = inverse(sum);
  by_turns(p.keys, [&](uint32_t key) {
    T x[4];
    row.load(x, from, key);
#pragma unroll
    for (int c = 0; c < 4; c++) x[c] = exponential(x[c] - all) * factor;
    __syncthreads();
    row.store(reinterpret_cast<S *>(from), key, x);
  });
  if (threadIdx.x == 0) lse[row.lse()] = all + logarithm(sum);
}

// ---- backward ----

// Without any key to see the weights are zero.
template <class T>
__device__ T weight_base(T lse) {
  return lse == minus_infinity<T>() ? T(INFINITY) : lse;
}

// P over the scores; dS = P * (dP - sum(P * dP)) over dP, if dP is there.
template <class S, class T, int Fours>
__device__ void grad_warp(T *scores, T *grads, const void *mask, const T *lse,
                          const vt_attention_rows &p, const vt_attention_grad_mask &grad_mask) {
  const uint32_t i = blockIdx.x * kWarps + threadIdx.x / 32;
  if (i >= p.rows) return;
  const uint32_t lane = threadIdx.x % 32;
  const Row<S, T> row(p, mask, i);
  T *const from = scores + i * p.ld;
  const T base = weight_base(lse[row.lse()]);
  T x[Fours][4], g[Fours][4];
  T delta = T(0);
#pragma unroll
  for (int v = 0; v < Fours; v++) {
    const uint32_t key = (v * 32 + lane) * 4;
    row.load(x[v], from, key);
    if (grads) row.load_plain(g[v], grads + i * p.ld, key);
#pragma unroll
    for (int c = 0; c < 4; c++) {
      x[v][c] = exponential(x[v][c] - base);
      // A key that takes no part adds nothing, whatever the gradient of its value.
      if (grads && x[v][c] != T(0)) delta += x[v][c] * g[v][c];
    }
  }
  delta = warp_sum(delta);
  __syncwarp();  // all have read the rows that are overwritten
#pragma unroll
  for (int v = 0; v < Fours; v++) {
    const uint32_t key = (v * 32 + lane) * 4;
    row.store(reinterpret_cast<S *>(from), key, x[v]);
    if (!grads) continue;
#pragma unroll
    for (int c = 0; c < 4; c++) g[v][c] = x[v][c] * (g[v][c] - delta);
    row.store(reinterpret_cast<S *>(grads + i * p.ld), key, g[v]);
    if (grad_mask.data) row.store_grad_mask(grad_mask, key, g[v]);
  }
}

template <class S, class T>
__device__ void grad_loop(T *scores, T *grads, const void *mask, const T *lse,
                          const vt_attention_rows &p, const vt_attention_grad_mask &grad_mask) {
  __shared__ T room[kLoopThreads / 32];
  const uint32_t i = blockIdx.x;
  const Row<S, T> row(p, mask, i);
  T *const from = scores + i * p.ld;
  T *const grad = grads ? grads + i * p.ld : nullptr;
  const T base = weight_base(lse[row.lse()]);
  T delta = T(0);
  if (grad) {
    by_turns(p.keys, [&](uint32_t key) {
      T x[4], g[4];
      row.load(x, from, key);
      row.load_plain(g, grad, key);
#pragma unroll
      for (int c = 0; c < 4; c++) {
        const T weight = exponential(x[c] - base);
        if (weight != T(0)) delta += weight * g[c];
      }
    });
    delta = block_sum(delta, room);
  }
  by_turns(p.keys, [&](uint32_t key) {
    T x[4], g[4] = {};
    row.load(x, from, key);
    if (grad) row.load_plain(g, grad, key);
#pragma unroll
    for (int c = 0; c < 4; c++) {
      x[c] = exponential(x[c] - base);
      g[c] = x[c] * (g[c] - delta);
    }
    __syncthreads();
    row.store(reinterpret_cast<S *>(from), key, x);
    if (!grad) return;
    row.store(reinterpret_cast<S *>(grad), key, g);
    if (grad_mask.data) row.store_grad_mask(grad_mask, key, g);
  });
}

}  // namespace

#define VT_FORWARD(S, T, suffix, name, call, threads)                                           \
  extern "C" __global__ void __launch_bounds__(threads) vt_attention_softmax_##name##_##suffix( \
      T *scores, const void *mask, T *lse, const __grid_constant__ vt_attention_rows p) {       \
    call(scores, mask, lse, p);                                                                 \
  }
#define VT_BACKWARD(S, T, suffix, name, call, threads)                                       \
  extern "C" __global__ void __launch_bounds__(threads) vt_attention_grad_##name##_##suffix( \
      T *scores, T *grads, const void *mask, const T *lse,                                   \
      const __grid_constant__ vt_attention_rows p,                                           \
      const __grid_constant__ vt_attention_grad_mask grad_mask) {                            \
    call(scores, grads, mask, lse, p, grad_mask);                                            \
  }
#define VT_WARP(S, T, suffix, keys, fours)                                 \
  VT_FORWARD(S, T, suffix, keys, (softmax_warp<S, T, fours>), kWarps * 32) \
  VT_BACKWARD(S, T, suffix, keys, (grad_warp<S, T, fours>), kWarps * 32)
#define VT_LOOP(S, T, suffix)                                        \
  VT_FORWARD(S, T, suffix, loop, (softmax_loop<S, T>), kLoopThreads) \
  VT_BACKWARD(S, T, suffix, loop, (grad_loop<S, T>), kLoopThreads)

// By the most keys they serve.
#define VT_ATTENTION(S, T, suffix) \
  VT_WARP(S, T, suffix, 128, 1)    \
  VT_WARP(S, T, suffix, 256, 2)    \
  VT_WARP(S, T, suffix, 512, 4)    \
  VT_LOOP(S, T, suffix)

VT_ATTENTION(vt::half, float, f16)
VT_ATTENTION(vt::bfloat16, float, bf16)
VT_ATTENTION(float, float, f32)
VT_ATTENTION(double, double, f64)
// Two rows of doubles would not fit the registers.
VT_WARP(vt::half, float, f16, 1024, 8)
VT_WARP(vt::bfloat16, float, bf16, 1024, 8)
VT_WARP(float, float, f32, 1024, 8)
