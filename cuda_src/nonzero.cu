// Places of the elements that are not zero, and the reverse for one dimension: one_hot. Whether an
// element is zero is a question about its bits, so there is one kernel per element size.
#include "vt/index_error.h"
#include "vt/walk.h"

using namespace vt;

namespace {

constexpr int kThreads = 256, kItems = 8, kTile = kThreads * kItems;

// 16 bytes, for complex128.
struct Words {
  uint64_t lo, hi;
};

// `mask` has the bits that count: without the signs of floating point numbers, since -0 is zero.
template <class T>
__device__ __forceinline__ bool is_nonzero(T x, uint64_t mask) {
  return (x & static_cast<T>(mask)) != 0;
}
template <>
__device__ __forceinline__ bool is_nonzero<Words>(Words x, uint64_t mask) {
  return ((x.lo | x.hi) & mask) != 0;
}

// The element of this thread and item in the tile, so that neighbours read neighbours.
__device__ __forceinline__ int64_t element(int64_t tile, int item) {
  return tile * kTile + item * kThreads + threadIdx.x;
}

template <class T>
__device__ __forceinline__ unsigned nonzero_items(const Walk<1> &walk, const T *x, uint64_t mask,
                                                  int64_t tile) {
  unsigned found = 0;
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    const int64_t i = element(tile, j);
    if (i >= walk.numel) continue;
    int64_t offset[1];
    walk.offsets(i, offset);
    found |= unsigned(is_nonzero(x[offset[0]], mask)) << j;
  }
  return found;
}

// The sum over the block, in thread 0.
__device__ __forceinline__ int block_sum(int n) {
  __shared__ int warps[kThreads / 32];
  n = __reduce_add_sync(~0u, n);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = n;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kThreads / 32; w++) n += warps[w];
  }
  return n;
}

// Adds the count to `total`: once per block, which strides over the tiles.
template <class T>
__device__ __forceinline__ void count(const Walk<1> &walk, const T *x, uint64_t mask,
                                      unsigned long long *total) {
  int64_t n = 0;
  for (int64_t tile = blockIdx.x; tile * kTile < walk.numel; tile += gridDim.x) {
    n += __popc(nonzero_items(walk, x, mask, tile));
  }
  // Two sums of 32 bits, since one could overflow.
  const int low = block_sum(static_cast<int>(n & 0xfffff));
  __syncthreads();
  const int high = block_sum(static_cast<int>(n >> 20));
  if (threadIdx.x == 0) {
    const unsigned long long sum =
        static_cast<unsigned long long>(low) + (static_cast<unsigned long long>(high) << 20);
    if (sum != 0) atomicAdd(total, sum);
  }
}

template <class T>
__device__ __forceinline__ void count_tile(const Walk<1> &walk, const T *x, uint64_t mask,
                                           int64_t *counts) {
  const int n = block_sum(__popc(nonzero_items(walk, x, mask, blockIdx.x)));
  if (threadIdx.x == 0) counts[blockIdx.x] = n;
}

// Writes the places of the nonzero elements of a tile, in row-major order, from starts[tile] on.
template <class T>
__device__ __forceinline__ void list_tile(const Walk<1> &walk, const T *x, uint64_t mask,
                                          const int64_t *starts, int64_t *places, int64_t limit) {
  __shared__ int before[kItems][kThreads / 32];
  const unsigned found = nonzero_items(walk, x, mask, blockIdx.x);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int within[kItems];
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    const unsigned votes = __ballot_sync(~0u, found >> j & 1u);
    within[j] = __popc(votes & ((1u << lane) - 1));
    if (lane == 0) before[j][warp] = __popc(votes);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int sum = 0;
    for (int j = 0; j < kItems; j++) {
      for (int w = 0; w < kThreads / 32; w++) {
        const int n = before[j][w];
        before[j][w] = sum;
        sum += n;
      }
    }
  }
  __syncthreads();
  const int64_t start = starts[blockIdx.x];
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    const int64_t row = start + before[j][warp] + within[j];
    // More rows than there is room for: the array has changed since it was counted.
    if (!(found >> j & 1u) || row >= limit) continue;
    places[row] = element(blockIdx.x, j);
  }
}

}  // namespace

#define VT_NONZERO(BYTES, T)                                                                    \
  __global__ void __launch_bounds__(kThreads)                                                   \
      vt_nonzero_count_##BYTES(const __grid_constant__ Walk<1> walk, const T *x, uint64_t mask, \
                               unsigned long long *total) {                                     \
    count(walk, x, mask, total);                                                                \
  }                                                                                             \
  __global__ void __launch_bounds__(kThreads) vt_nonzero_tiles_##BYTES(                         \
      const __grid_constant__ Walk<1> walk, const T *x, uint64_t mask, int64_t *counts) {       \
    count_tile(walk, x, mask, counts);                                                          \
  }                                                                                             \
  __global__ void __launch_bounds__(kThreads)                                                   \
      vt_nonzero_list_##BYTES(const __grid_constant__ Walk<1> walk, const T *x, uint64_t mask,  \
                              const int64_t *starts, int64_t *places, int64_t limit) {          \
    list_tile(walk, x, mask, starts, places, limit);                                            \
  }

extern "C" {

VT_NONZERO(1, uint8_t)
VT_NONZERO(2, uint16_t)
VT_NONZERO(4, uint32_t)
VT_NONZERO(8, uint64_t)
VT_NONZERO(16, Words)

// Counts become starts, in place: the sums of all before. One block of 1024 threads.
__global__ void __launch_bounds__(1024) vt_nonzero_starts(int64_t *counts, int64_t n) {
  __shared__ int64_t warps[32];
  __shared__ int64_t total;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) total = 0;
  for (int64_t first = 0; first < n; first += 1024) {
    const int64_t i = first + threadIdx.x;
    const int64_t own = i < n ? counts[i] : 0;
    int64_t sum = own;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int64_t other = __shfl_up_sync(~0u, sum, d);
      if (lane >= d) sum += other;
    }
    __syncthreads();  // total and warps are those of the round before until here
    if (lane == 31) warps[warp] = sum;
    __syncthreads();
    if (warp == 0) {
      int64_t all = warps[lane];
#pragma unroll
      for (int d = 1; d < 32; d *= 2) {
        const int64_t other = __shfl_up_sync(~0u, all, d);
        if (lane >= d) all += other;
      }
      warps[lane] = all;
    }
    __syncthreads();
    const int64_t base = total + (warp > 0 ? warps[warp - 1] : 0);
    if (i < n) counts[i] = base + sum - own;
    __syncthreads();
    if (threadIdx.x == 0) total += warps[31];
  }
}

// A place in row-major order becomes its coordinate in one dimension: place / below % size.
__global__ void __launch_bounds__(kThreads)
    vt_nonzero_coordinate(const int64_t *places, int64_t n, uint64_t below, uint64_t size,
                          int64_t *out, int64_t out_step) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const uint64_t place = static_cast<uint64_t>(places[i]);
  const uint64_t at = place <= UINT32_MAX && below <= UINT32_MAX && size <= UINT32_MAX
                          ? static_cast<uint32_t>(place) / static_cast<uint32_t>(below) %
                                static_cast<uint32_t>(size)
                          : place / below % size;
  out[i * out_step] = static_cast<int64_t>(at);
}

// One element of the result per thread: 1 where the column is the row's label.
__global__ void __launch_bounds__(kThreads)
    vt_one_hot(const __grid_constant__ Walk<1> walk, const int64_t *labels, int64_t *out,
               int64_t classes, const __grid_constant__ vt_error_sink sink) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= walk.numel * classes) return;
  const int64_t row = i <= UINT32_MAX && classes <= UINT32_MAX
                          ? static_cast<uint32_t>(i) / static_cast<uint32_t>(classes)
                          : i / classes;
  const int64_t column = i - row * classes;
  int64_t offset[1];
  walk.offsets(row, offset);
  const int64_t label = labels[offset[0]];
  out[i] = label == column;
  if (column != 0 || static_cast<uint64_t>(label) < static_cast<uint64_t>(classes)) return;
  sink.raise(label, classes, label < 0 ? VT_RAISED_CLASS_NEGATIVE : VT_RAISED_CLASS_TOO_LARGE);
}

}  // extern "C"
