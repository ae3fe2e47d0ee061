// Reductions over any dimensions of a strided array: three kernels for each operator and dtype.
//
//   rows     a group of threads folds one output, from elements that are near each other
//   columns  neighbouring threads fold neighbouring outputs, for elements that are far apart
//   finish   merges the partial states of long reductions, which are cut into splits
//
// No atomics: what is folded in which order depends on shapes and strides only.
//
// An operator Op has
//   T, State; start()
//   fold<N>(args, State &, const T (&x)[N], index, step): takes N elements, numbered index + k step
//   merge(State &, State)
//   store(args, offset, State): the result, into element `offset` of the output
#ifndef VT_REDUCE_CUH
#define VT_REDUCE_CUH

#include "vt/group.cuh"
#include "vt/pack.cuh"
#include "vt/reduce_args.h"

namespace VT_NS {

template <class Op>
struct Reduce {
  using T = typename Op::T;
  using State = typename Op::State;
  static constexpr int K = kPack<T>;
  static constexpr int kColumns = columns_per_thread(sizeof(T), sizeof(State));
  static constexpr int kUnroll = 4;  // loads in flight

  static __device__ __forceinline__ State merged(State a, const State &b) {
    Op::merge(a, b);
    return a;
  }
  static __device__ __forceinline__ void put(const ReduceArgs &a, int64_t output, int64_t offset,
                                             const State &s) {
    if (a.partial) {
      reinterpret_cast<State *>(a.partial)[blockIdx.y * a.outputs + output] = s;
    } else {
      Op::store(a, offset, s);
    }
  }
  // The units of this block's split.
  static __device__ __forceinline__ void split(const ReduceArgs &a, int64_t *begin, int64_t *end) {
    *begin = int64_t(blockIdx.y) * a.split_length;
    const int64_t stop = *begin + a.split_length;
    *end = stop < a.count ? stop : a.count;
  }

  template <int N>
  static __device__ __forceinline__ void fold_pack(const ReduceArgs &a, State &s,
                                                   const Pack<T, N> &v, int64_t index) {
    Op::template fold<N>(a, s, v.x, index, 1);
  }

  // Units [begin, end) of N elements, `stride` apart, every blockDim.x-th one. Of several reduced
  // dimensions the offset of each unit is computed, with one load at a time: code for more is large
  // and slow to compile.
  template <int N>
  static __device__ __forceinline__ void walk(const ReduceArgs &a, State &s, const T *x,
                                              int64_t begin, int64_t end, int64_t stride,
                                              int64_t first, bool single) {
    const int64_t step = blockDim.x;
    int64_t i = begin + threadIdx.x;
    if (single) {
#pragma unroll 1
      for (; i + (kUnroll - 1) * step < end; i += kUnroll * step) {
        Pack<T, N> v[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; u++) v[u] = load_pack<T, N>(x + (i + u * step) * stride);
        if constexpr (N == 1) {
          T q[kUnroll];
#pragma unroll
          for (int u = 0; u < kUnroll; u++) q[u] = v[u].x[0];
          Op::template fold<kUnroll>(a, s, q, first + i, step);
        } else {
#pragma unroll
          for (int u = 0; u < kUnroll; u++) fold_pack<N>(a, s, v[u], first + (i + u * step) * N);
        }
      }
    }
#pragma unroll 1
    for (; i < end; i += step) {
      int64_t offset[1] = {i * stride};
      if (!single) a.reduced.offsets(i, offset);
      fold_pack<N>(a, s, load_pack<T, N>(x + offset[0]), first + i * N);
    }
  }

  // Elements [from, to) of a run, the first of which has the number `number`.
  static __device__ __forceinline__ void single_elements(const ReduceArgs &a, State &s,
                                                         const T *run, int64_t from, int64_t to,
                                                         int64_t number) {
#pragma unroll 1
    for (int64_t i = from + threadIdx.x; i < to; i += blockDim.x) {
      fold_pack<1>(a, s, load_pack<T, 1>(run + i), number + i);
    }
  }

  static __device__ __forceinline__ void rows(const ReduceArgs &a) {
    alignas(16) __shared__ char room[Group<State>::kRoom * sizeof(State)];
    const int64_t output = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
    int64_t offset[2] = {0, 0};
    State s = Op::start();
    if (output < a.outputs) {
      int64_t begin, end;
      a.kept.offsets(output, offset);
      split(a, &begin, &end);
      const T *const x = reinterpret_cast<const T *>(a.in) + offset[0];
      if (a.load == kLoadElements) {
        walk<1>(a, s, x, begin, end, a.reduced.strides[0][0], 0, a.reduced.ndim <= 1);
      } else {
        // A run is read in packs between its first and its last 16-byte boundary.
        const bool run = a.load == kLoadRun;
        const T *body = x;
        int64_t first = 0, head = 0, n = 0, packs = end;
        if (run) {
          n = end - begin;
          head = unaligned_head(x + begin, n);
          packs = (n - head) / K;
          first = begin + head;
          body = x + first;
        }
        // In this order the elements of a thread have rising numbers, on which arg_reduce relies.
        single_elements(a, s, x + begin, 0, head, begin);
        walk<K>(a, s, body, run ? 0 : begin, packs, K, first, run);
        if (run) single_elements(a, s, x + begin, head + packs * K, n, begin);
      }
    }
    Group<State> group(reinterpret_cast<State *>(room));
    s = group.fold(s, [](const State &p, const State &q) { return merged(p, q); });
    if (threadIdx.x == 0 && output < a.outputs) put(a, output, offset[1], s);
  }

  // Merges the states of the threads with the same threadIdx.x into the first of them. `room` has a
  // slot per thread.
  template <int N>
  static __device__ __forceinline__ void merge_column(State *room, State (&s)[N]) {
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    const int threads = blockDim.x * blockDim.y;
    if (blockDim.y == 1) return;
#pragma unroll
    for (int k = 0; k < N; k++) room[k * threads + thread] = s[k];
#pragma unroll 1
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.y < half) {
#pragma unroll
        for (int k = 0; k < N; k++) {
          Op::merge(s[k], room[k * threads + thread + half * blockDim.x]);
          room[k * threads + thread] = s[k];
        }
      }
    }
  }

  template <int N>
  static __device__ __forceinline__ void column_block(const ReduceArgs &a, State *room) {
    // A block has blockDim.x * N neighbouring columns of one run of the innermost dimension.
    const unsigned width = blockDim.x * N;
    const unsigned tiles = static_cast<unsigned>((a.inner + width - 1) / width);
    const unsigned run = blockIdx.x / tiles;
    const int64_t column = int64_t(blockIdx.x - run * tiles) * width + threadIdx.x * N;
    const bool live = column < a.inner;
    const int64_t output = run * a.inner + column;
    State s[N];
#pragma unroll
    for (int k = 0; k < N; k++) s[k] = Op::start();
    int64_t offset[2] = {0, 0};
    if (live) {
      int64_t begin, end;
      a.kept.offsets(output, offset);
      split(a, &begin, &end);
      const T *const x = reinterpret_cast<const T *>(a.in) + offset[0];
      const bool single = a.reduced.ndim <= 1;
      const int64_t step = blockDim.y, stride = a.reduced.strides[0][0];
      int64_t i = begin + threadIdx.y;
      if (single) {
#pragma unroll 1
        for (; i + (kUnroll - 1) * step < end; i += kUnroll * step) {
          Pack<T, N> v[kUnroll];
#pragma unroll
          for (int u = 0; u < kUnroll; u++) v[u] = load_pack<T, N>(x + (i + u * step) * stride);
#pragma unroll
          for (int k = 0; k < N; k++) {
            T q[kUnroll];
#pragma unroll
            for (int u = 0; u < kUnroll; u++) q[u] = v[u].x[k];
            Op::template fold<kUnroll>(a, s[k], q, i, step);
          }
        }
      }
#pragma unroll 1
      for (; i < end; i += step) {
        int64_t at[1] = {i * stride};
        if (!single) a.reduced.offsets(i, at);
        const Pack<T, N> v = load_pack<T, N>(x + at[0]);
#pragma unroll
        for (int k = 0; k < N; k++) {
          const T q[1] = {v.x[k]};
          Op::template fold<1>(a, s[k], q, i, step);
        }
      }
    }
    merge_column<N>(room, s);
    if (live && threadIdx.y == 0) {
#pragma unroll
      for (int k = 0; k < N; k++) {
        put(a, output + k, offset[1] + k * a.kept.strides[1][0], s[k]);
      }
    }
  }

  static __device__ __forceinline__ void columns(const ReduceArgs &a) {
    alignas(16) __shared__ char room[kReduceThreads * kColumns * sizeof(State)];
    if (kColumns > 1 && a.load == kLoadPacks) {
      column_block<kColumns>(a, reinterpret_cast<State *>(room));
    } else {
      column_block<1>(a, reinterpret_cast<State *>(room));
    }
  }

  static __device__ __forceinline__ void finish(const ReduceArgs &a) {
    alignas(16) __shared__ char room[kReduceThreads * sizeof(State)];
    const int64_t output = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    const State *const partial = reinterpret_cast<const State *>(a.partial);
    State s[1] = {Op::start()};
    if (output < a.outputs) {
      const int step = blockDim.y;
      int i = threadIdx.y;
#pragma unroll 1
      for (; i + (kUnroll - 1) * step < a.splits; i += kUnroll * step) {
        State v[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; u++) v[u] = partial[(i + u * step) * a.outputs + output];
#pragma unroll
        for (int u = 0; u < kUnroll; u++) Op::merge(s[0], v[u]);
      }
#pragma unroll 1
      for (; i < a.splits; i += step) Op::merge(s[0], partial[i * a.outputs + output]);
    }
    merge_column<1>(reinterpret_cast<State *>(room), s);
    if (output < a.outputs && threadIdx.y == 0) {
      int64_t offset[2];
      a.kept.offsets(output, offset);
      Op::store(a, offset[1], s[0]);
    }
  }
};

// Kernels vt_NAME_rows_SUFFIX, _columns_ and _finish_ of an operator.
#define VT_REDUCE_KERNELS(NAME, SUFFIX, ...)                                      \
  extern "C" __global__ void __launch_bounds__(512)                               \
      vt_##NAME##_rows_##SUFFIX(const __grid_constant__ VT_NS::ReduceArgs a) {    \
    VT_NS::Reduce<__VA_ARGS__>::rows(a);                                          \
  }                                                                               \
  extern "C" __global__ void __launch_bounds__(VT_NS::kReduceThreads)             \
      vt_##NAME##_columns_##SUFFIX(const __grid_constant__ VT_NS::ReduceArgs a) { \
    VT_NS::Reduce<__VA_ARGS__>::columns(a);                                       \
  }                                                                               \
  extern "C" __global__ void __launch_bounds__(VT_NS::kReduceThreads)             \
      vt_##NAME##_finish_##SUFFIX(const __grid_constant__ VT_NS::ReduceArgs a) {  \
    VT_NS::Reduce<__VA_ARGS__>::finish(a);                                        \
  }

}  // namespace VT_NS
#endif
