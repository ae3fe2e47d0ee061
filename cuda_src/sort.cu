// sort and topk along one dimension. NaN counts as the largest value; equal values keep their order.
//
// Elements become unsigned keys of the same order, which are sorted together with their places; values
// are then fetched by place, so that their bits do not matter. Short rows are sorted by one thread block
// each; of long ones a block selects the k first by the digits of the keys; CUB does the rest, for which
// keys and places are written out here.
#include <cub/block/block_radix_sort.cuh>

#include "vt/sort_args.h"

using namespace vt;

namespace {

constexpr int kThreads = 256;

// The key of an element: all zeros are one key, and so are all NaN, which come last.
__device__ __forceinline__ uint64_t key_at(const char *x, int64_t i, const KeyRule &rule) {
  uint64_t raw;
  uint64_t infinity = 0;  // the bits of it, in a floating type of this size
  switch (rule.bytes) {
    case 1:
      raw = reinterpret_cast<const uint8_t *>(x)[i];
      break;
    case 2:
      raw = reinterpret_cast<const uint16_t *>(x)[i];
      infinity = rule.kind == 3 ? 0x7f80u : 0x7c00u;
      break;
    case 4:
      raw = reinterpret_cast<const uint32_t *>(x)[i];
      infinity = 0x7f800000u;
      break;
    default:
      raw = reinterpret_cast<const uint64_t *>(x)[i];
      infinity = 0x7ff0000000000000u;
  }
  const uint64_t all = ~uint64_t(0) >> (64 - rule.bits), sign = uint64_t(1) << (rule.bits - 1);
  uint64_t key = raw;
  if (rule.kind == 1) {
    key = raw ^ sign;
  } else if (rule.kind >= 2) {
    // Negative numbers order by falling magnitude.
    key = raw & sign ? ~raw & all : raw | sign;
    if (raw == sign) key = sign;
    if ((raw & ~sign) > infinity) key = all;
  }
  return rule.descending ? ~key & all : key;
}

__device__ __forceinline__ void copy_element(char *to, int64_t i, const char *from, int64_t j,
                                             int bytes) {
  switch (bytes) {
    case 1:
      to[i] = from[j];
      break;
    case 2:
      reinterpret_cast<uint16_t *>(to)[i] = reinterpret_cast<const uint16_t *>(from)[j];
      break;
    case 4:
      reinterpret_cast<uint32_t *>(to)[i] = reinterpret_cast<const uint32_t *>(from)[j];
      break;
    default:
      reinterpret_cast<uint64_t *>(to)[i] = reinterpret_cast<const uint64_t *>(from)[j];
  }
}

// One row of all three arrays.
struct Row {
  const char *input;
  char *values;
  int64_t *indices;

  __device__ __forceinline__ Row(const SortArgs &args, const void *in, void *val, int64_t *ind,
                                 int64_t row) {
    int64_t offset[3];
    args.rows.offsets(row, offset);
    input = static_cast<const char *>(in) + offset[0] * args.rule.bytes;
    values = static_cast<char *>(val) + offset[1] * args.rule.bytes;
    indices = ind + offset[2];
  }
  // The element of the row that comes at `rank`.
  __device__ __forceinline__ void put(const SortArgs &args, int64_t rank, uint32_t place) const {
    copy_element(values, rank * args.steps[1], input, place * args.steps[0], args.rule.bytes);
    indices[rank * args.steps[2]] = place;
  }
};

// ---- short rows ----

template <class K, int Threads, int Items>
__device__ __forceinline__ void sort_row(const SortArgs &args, const void *input, void *values,
                                         int64_t *indices) {
  using Sort = cub::BlockRadixSort<K, Threads, Items, uint16_t>;
  __shared__ typename Sort::TempStorage temp;
  const Row row(args, input, values, indices, blockIdx.x);
  K keys[Items];
  uint16_t places[Items];
  // What lies behind the end has the highest key, and comes after elements that have it too.
#pragma unroll
  for (int j = 0; j < Items; j++) {
    const int i = threadIdx.x * Items + j;
    places[j] = static_cast<uint16_t>(i);
    keys[j] =
        i < args.n ? static_cast<K>(key_at(row.input, i * args.steps[0], args.rule)) : K(~K(0));
  }
  // The sort looks at `bits` bits only; there the padding is all ones as well.
  Sort(temp).SortBlockedToStriped(keys, places, 0, args.rule.bits);
#pragma unroll
  for (int j = 0; j < Items; j++) {
    const int rank = j * Threads + threadIdx.x;
    if (rank < args.k) row.put(args, rank, places[j]);
  }
}

// ---- the k first of a long row ----

constexpr int kSelectThreads = 1024, kDigitBits = 11, kDigits = 1 << kDigitBits;

// The sum of `x` over the threads before this one; the sum over all comes back in `total`.
__device__ __forceinline__ uint32_t sum_before(uint32_t x, uint32_t *warps, uint32_t *total) {
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  uint32_t sum = x;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, sum, d);
    if (lane >= d) sum += other;
  }
  __syncthreads();  // of the call before, all have read
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    uint32_t all = warps[lane];
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const uint32_t other = __shfl_up_sync(~0u, all, d);
      if (lane >= d) all += other;
    }
    warps[lane] = all;
  }
  __syncthreads();
  *total = warps[kSelectThreads / 32 - 1];
  return (warp > 0 ? warps[warp - 1] : 0) + sum - x;
}

// From the highest digit down the key of the k-th element is found; then all before it and the first
// ones that equal it are collected in the order of their places, and sorted.
template <class K>
__device__ __forceinline__ void select_row(const SortArgs &args, const void *input, void *values,
                                           int64_t *indices) {
  constexpr int kItems = kSelectRow / kSelectThreads;
  using Sort = cub::BlockRadixSort<K, kSelectThreads, kItems, uint32_t>;
  __shared__ union {  // used one after the other
    uint32_t count[kDigits];
    struct {
      K keys[kSelectRow];
      uint32_t places[kSelectRow];
    } chosen;
    typename Sort::TempStorage sort;
  } shared;
  __shared__ uint32_t warps[kSelectThreads / 32];
  __shared__ uint32_t found_digit, found_before;
  const Row row(args, input, values, indices, blockIdx.x);
  const int64_t n = args.n;

  K prefix = 0, prefix_mask = 0;
  uint32_t wanted = static_cast<uint32_t>(args.k);  // of the elements that start with `prefix`
  for (int top = args.rule.bits; top > 0; top -= kDigitBits) {
    const int low = top > kDigitBits ? top - kDigitBits : 0;
    const K digit_mask = static_cast<K>((uint64_t(1) << (top - low)) - 1);
    for (int d = threadIdx.x; d < kDigits; d += kSelectThreads) shared.count[d] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += kSelectThreads) {
      const K key = static_cast<K>(key_at(row.input, i * args.steps[0], args.rule));
      if ((key & prefix_mask) == prefix) atomicAdd(&shared.count[(key >> low) & digit_mask], 1u);
    }
    __syncthreads();
    const uint32_t first = shared.count[2 * threadIdx.x],
                   second = shared.count[2 * threadIdx.x + 1];
    uint32_t total;
    const uint32_t before = sum_before(first + second, warps, &total);
    // Exactly one thread has the digit that the wanted element starts with.
    if (before < wanted && wanted <= before + first + second) {
      const bool in_second = before + first < wanted;
      found_digit = 2 * threadIdx.x + in_second;
      found_before = in_second ? before + first : before;
    }
    __syncthreads();
    prefix |= static_cast<K>(found_digit) << low;
    prefix_mask |= static_cast<K>(digit_mask << low);
    wanted -= found_before;
    __syncthreads();
  }

  // `wanted` elements equal the key; they go behind those below it.
  const uint32_t below = static_cast<uint32_t>(args.k) - wanted;
  uint32_t taken_below = 0, taken_equal = 0;
  for (int64_t start = 0; start < n; start += kSelectThreads) {
    const int64_t i = start + threadIdx.x;
    K key = 0;
    uint32_t flags = 0;  // below in the lower half, equal in the upper one
    if (i < n) {
      key = static_cast<K>(key_at(row.input, i * args.steps[0], args.rule));
      flags = key < prefix ? 1u : key == prefix ? 1u << 16 : 0u;
    }
    uint32_t total;
    if (__syncthreads_or(flags != 0) == 0) continue;
    const uint32_t before = sum_before(flags, warps, &total);
    uint32_t slot = UINT32_MAX;
    if (flags == 1u) {
      slot = taken_below + (before & 0xffffu);
    } else if (flags != 0) {
      const uint32_t rank = taken_equal + (before >> 16);
      if (rank < wanted) slot = below + rank;
    }
    if (slot < args.k) {
      shared.chosen.keys[slot] = key;
      shared.chosen.places[slot] = static_cast<uint32_t>(i);
    }
    taken_below += total & 0xffffu;
    taken_equal += total >> 16;
  }
  __syncthreads();

  K keys[kItems];
  uint32_t places[kItems];
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    const int slot = threadIdx.x * kItems + j;
    keys[j] = slot < args.k ? shared.chosen.keys[slot] : K(~K(0));
    places[j] = slot < args.k ? shared.chosen.places[slot] : 0;
  }
  __syncthreads();
  Sort(shared.sort).SortBlockedToStriped(keys, places, 0, args.rule.bits);
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    const int rank = j * kSelectThreads + threadIdx.x;
    if (rank < args.k) row.put(args, rank, places[j]);
  }
}

}  // namespace

#define VT_SORT_ROWS(BITS, K, LENGTH, THREADS)                                                    \
  __global__ void __launch_bounds__(THREADS) vt_sort_rows_##BITS##_##LENGTH(                      \
      const __grid_constant__ SortArgs args, const void *input, void *values, int64_t *indices) { \
    sort_row<K, THREADS, LENGTH / THREADS>(args, input, values, indices);                         \
  }
#define VT_SELECT_ROWS(BITS, K)                                                                   \
  __global__ void __launch_bounds__(kSelectThreads) vt_select_rows_##BITS(                        \
      const __grid_constant__ SortArgs args, const void *input, void *values, int64_t *indices) { \
    select_row<K>(args, input, values, indices);                                                  \
  }

extern "C" {

VT_SORT_ROWS(32, uint32_t, 256, 64)
VT_SORT_ROWS(32, uint32_t, 1024, 128)
VT_SORT_ROWS(32, uint32_t, 4096, 512)
VT_SORT_ROWS(64, uint64_t, 256, 64)
VT_SORT_ROWS(64, uint64_t, 1024, 128)
VT_SORT_ROWS(64, uint64_t, 4096, 512)
VT_SELECT_ROWS(32, uint32_t)
VT_SELECT_ROWS(64, uint64_t)

// Keys and places of all elements, row by row. With `with_row` the number of the row stands above the
// key, so that one sort does all rows.
__global__ void __launch_bounds__(kThreads)
    vt_sort_keys_64(const __grid_constant__ SortArgs args, const void *input, uint64_t *keys,
                    uint32_t *places, int64_t first_row, int64_t count, int32_t with_row) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t row = i / args.n, place = i - row * args.n;
  int64_t offset[3];
  args.rows.offsets(first_row + row, offset);
  const uint64_t key = key_at(static_cast<const char *>(input) + offset[0] * args.rule.bytes,
                              place * args.steps[0], args.rule);
  keys[i] = with_row ? static_cast<uint64_t>(row) << args.rule.bits | key : key;
  places[i] = static_cast<uint32_t>(i);
}
__global__ void __launch_bounds__(kThreads)
    vt_sort_keys_32(const __grid_constant__ SortArgs args, const void *input, uint32_t *keys,
                    uint32_t *places, int64_t first_row, int64_t count, int32_t with_row) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t row = i / args.n, place = i - row * args.n;
  int64_t offset[3];
  args.rows.offsets(first_row + row, offset);
  const uint64_t key = key_at(static_cast<const char *>(input) + offset[0] * args.rule.bytes,
                              place * args.steps[0], args.rule);
  keys[i] =
      static_cast<uint32_t>(with_row ? static_cast<uint64_t>(row) << args.rule.bits | key : key);
  places[i] = static_cast<uint32_t>(i);
}

// The rows that sorted places lie in: the keys of a second sort, where key and row do not fit one word.
__global__ void __launch_bounds__(kThreads)
    vt_sort_row_keys(const uint32_t *places, uint32_t *rows, int64_t count, int64_t n) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) rows[i] = static_cast<uint32_t>(places[i] / n);
}

// The k first of each row, from the places of all elements in order.
__global__ void __launch_bounds__(kThreads)
    vt_sort_finish(const __grid_constant__ SortArgs args, const void *input, void *values,
                   int64_t *indices, const uint32_t *places, int64_t first_row, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t local = i / args.k, rank = i - local * args.k;
  const Row row(args, input, values, indices, first_row + local);
  row.put(args, rank, static_cast<uint32_t>(places[local * args.n + rank] - local * args.n));
}

}  // extern "C"
