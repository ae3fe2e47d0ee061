// The gradient of an embedding: each row of the table gets the sum of the gradients of the tokens that
// name it, in their order, so that the result does not vary. Tokens are sorted by row; then every row
// of the result is written once, zeros included, which is most of the traffic.
#include "vt/dtype.h"
#include "vt/embedding_args.h"
#include "vt/index_error.h"

using namespace vt;

namespace {

constexpr int kThreads = 256;
constexpr int kPacks = 2;  // groups of columns per lane
constexpr int kAhead = 2;  // gradient rows under way together: all should fit 64 registers

// N elements of a row as they lie in memory, at most 16 bytes.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T x[N];
};

// The sums of N columns, in the type they are computed in.
template <class T, int N>
struct Sums {
  acc_t<T> x[N];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int j = 0; j < N; j++) x[j] = acc_t<T>(0);
  }
  __device__ __forceinline__ void add(const Pack<T, N> &pack) {
#pragma unroll
    for (int j = 0; j < N; j++) x[j] += static_cast<acc_t<T>>(pack.x[j]);
  }
  __device__ __forceinline__ void store(T *to) const {
    Pack<T, N> pack;
#pragma unroll
    for (int j = 0; j < N; j++) pack.x[j] = static_cast<T>(x[j]);
    *reinterpret_cast<Pack<T, N> *>(to) = pack;
  }
};

// Adds, in order, the gradients of the sorted tokens [begin, end) to the sums of a lane's columns.
template <class T, int N>
__device__ __forceinline__ void add_tokens(const EmbeddingArgs &args, const T *grad,
                                           const uint32_t *order, uint32_t begin, uint32_t end,
                                           const int64_t (&column)[kPacks],
                                           const bool (&valid)[kPacks], Sums<T, N> (&sum)[kPacks]) {
  for (uint32_t i = begin; i < end; i += kAhead) {
    Pack<T, N> x[kAhead][kPacks];
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      if (i + a >= end) break;
      int64_t offset[1];
      args.places.offsets(order[i + a], offset);
#pragma unroll
      for (int p = 0; p < kPacks; p++) {
        if (!valid[p]) continue;
        const T *from = grad + offset[0] + column[p] * args.grad_step;
        x[a][p] = *reinterpret_cast<const Pack<T, N> *>(from);
      }
    }
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      if (i + a >= end) break;
#pragma unroll
      for (int p = 0; p < kPacks; p++) {
        if (valid[p]) sum[p].add(x[a][p]);
      }
    }
  }
}

// The columns of a lane in slab `slab` of a row.
template <int N>
__device__ __forceinline__ void columns_of(const EmbeddingArgs &args, int64_t slab,
                                           int64_t (&column)[kPacks], bool (&valid)[kPacks]) {
#pragma unroll
  for (int p = 0; p < kPacks; p++) {
    column[p] = (slab * kPacks + p) * (32 * N) + int64_t(threadIdx.x) * N;
    valid[p] = column[p] < args.width;
  }
}

// Warp (x, y): slab blockIdx.y of tile blockIdx.x * blockDim.y + y. Only tiles of one row have a sum.
template <class T, int N>
__device__ __forceinline__ void sum_tiles(const EmbeddingArgs &args, const T *grad,
                                          const uint32_t *keys, const uint32_t *order,
                                          acc_t<T> *partial) {
  const int64_t tile = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t begin = tile * kEmbeddingTile;
  if (begin + kEmbeddingTile > args.tokens) return;
  const uint32_t row = keys[begin];
  if (row != keys[begin + kEmbeddingTile - 1] || row >= args.rows) return;
  int64_t column[kPacks];
  bool valid[kPacks];
  columns_of<N>(args, blockIdx.y, column, valid);
  Sums<T, N> sum[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; p++) sum[p].clear();
  add_tokens<T, N>(args, grad, order, static_cast<uint32_t>(begin),
                   static_cast<uint32_t>(begin + kEmbeddingTile), column, valid, sum);
#pragma unroll
  for (int p = 0; p < kPacks; p++) {
    if (!valid[p]) continue;
#pragma unroll
    for (int j = 0; j < N; j++) partial[tile * args.width + column[p] + j] = sum[p].x[j];
  }
}

// Warp (x, y): slab blockIdx.y of row blockIdx.x * blockDim.y + y.
template <class T, int N>
__device__ __forceinline__ void sum_rows(const EmbeddingArgs &args, const T *grad,
                                         const uint32_t *order, const RowRange *ranges,
                                         const acc_t<T> *partial, T *out) {
  using A = acc_t<T>;
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= args.rows) return;
  const RowRange range = ranges[row];
  int64_t column[kPacks];
  bool valid[kPacks];
  columns_of<N>(args, blockIdx.y, column, valid);
  Sums<T, N> sum[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; p++) sum[p].clear();
  if (range.begin < range.end) {
    // Whole tiles in the middle were summed before.
    const uint32_t first = (range.begin + kEmbeddingTile - 1) / kEmbeddingTile;
    const uint32_t last = range.end / kEmbeddingTile;
    if (first < last) {
      add_tokens<T, N>(args, grad, order, range.begin, first * kEmbeddingTile, column, valid, sum);
#pragma unroll 4
      for (uint32_t tile = first; tile < last; tile++) {
#pragma unroll
        for (int p = 0; p < kPacks; p++) {
          if (!valid[p]) continue;
#pragma unroll
          for (int j = 0; j < N; j++) sum[p].x[j] += partial[tile * args.width + column[p] + j];
        }
      }
      add_tokens<T, N>(args, grad, order, last * kEmbeddingTile, range.end, column, valid, sum);
    } else {
      add_tokens<T, N>(args, grad, order, range.begin, range.end, column, valid, sum);
    }
    if (args.by_frequency) {
      const A scale = A(1) / static_cast<A>(range.end - range.begin);
#pragma unroll
      for (int p = 0; p < kPacks; p++) {
#pragma unroll
        for (int j = 0; j < N; j++) sum[p].x[j] *= scale;
      }
    }
  }
#pragma unroll
  for (int p = 0; p < kPacks; p++) {
    if (valid[p]) sum[p].store(out + row * args.row_stride + column[p] * args.step);
  }
}

}  // namespace

// The wide forms need a width that is a multiple of 16 bytes, rows aligned to as much, and unit steps.
#define VT_EMBEDDING(SUFFIX, T, NAME, N)                                                \
  __global__ void __launch_bounds__(kThreads, 4) vt_embedding_tiles_##NAME##_##SUFFIX(  \
      const __grid_constant__ EmbeddingArgs args, const T *grad, const uint32_t *keys,  \
      const uint32_t *order, acc_t<T> *partial) {                                       \
    sum_tiles<T, N>(args, grad, keys, order, partial);                                  \
  }                                                                                     \
  __global__ void __launch_bounds__(kThreads, 4) vt_embedding_rows_##NAME##_##SUFFIX(   \
      const __grid_constant__ EmbeddingArgs args, const T *grad, const uint32_t *order, \
      const RowRange *ranges, const acc_t<T> *partial, T *out) {                        \
    sum_rows<T, N>(args, grad, order, ranges, partial, out);                            \
  }
#define VT_EMBEDDING_BOTH(SUFFIX, T)            \
  VT_EMBEDDING(SUFFIX, T, wide, 16 / sizeof(T)) \
  VT_EMBEDDING(SUFFIX, T, narrow, 1)

extern "C" {

VT_EMBEDDING_BOTH(f16, vt::half)
VT_EMBEDDING_BOTH(bf16, bfloat16)
VT_EMBEDDING_BOTH(f32, float)
VT_EMBEDDING_BOTH(f64, double)

// Tokens as keys to sort; `rows` stands for those without a row: padding, and bad ones.
__global__ void __launch_bounds__(kThreads)
    vt_embedding_keys(const __grid_constant__ Walk<1> walk, const void *index, int32_t wide,
                      uint32_t *keys, uint32_t *order, int64_t rows, int64_t padding,
                      const __grid_constant__ vt_error_sink sink) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= walk.numel) return;
  int64_t at[1];
  walk.offsets(i, at);
  const int64_t row = wide ? static_cast<const int64_t *>(index)[at[0]]
                           : static_cast<const int32_t *>(index)[at[0]];
  const bool good = sink.check(row, rows) && row != padding;
  keys[i] = static_cast<uint32_t>(good ? row : rows);
  order[i] = static_cast<uint32_t>(i);
}

// Where the sorted tokens of each row begin and end. The ranges of other rows stay empty.
__global__ void __launch_bounds__(kThreads)
    vt_embedding_ranges(const uint32_t *keys, RowRange *ranges, int64_t tokens, int64_t rows) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= tokens) return;
  const uint32_t row = keys[i];
  if (row >= rows) return;
  if (i == 0 || keys[i - 1] != row) ranges[row].begin = static_cast<uint32_t>(i);
  if (i + 1 == tokens || keys[i + 1] != row) ranges[row].end = static_cast<uint32_t>(i + 1);
}

}  // extern "C"
