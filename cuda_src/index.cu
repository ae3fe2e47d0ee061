// Reading and writing through an index: gather, scatter, scatter_add, index_select, index_add, index,
// index_put and embedding are all one walk (vt/index_walk.h). What only moves elements exists once per
// element size, where a run of elements that one index stands for counts as one wider element.
#include "vt/accumulate.h"
#include "vt/dtype.h"
#include "vt/index_walk.h"

using namespace vt;

namespace {

// Elements per thread: the loads of an index have to be under way together.
constexpr int kThreads = 256, kItems = 4;

// The index of element threadIdx.x + j * kThreads of a block, and the offsets of the other operands.
struct Item {
  int64_t k, values, table;
  bool valid;
};

__device__ __forceinline__ void load_items(const IndexWalk &w, const void *index,
                                           Item (&items)[kItems]) {
  const int64_t first = int64_t(blockIdx.x) * (kThreads * kItems) + threadIdx.x;
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    const int64_t i = first + j * kThreads;
    items[j].valid = i < w.walk.numel;
    if (!items[j].valid) continue;
    int64_t offset[3];
    w.walk.offsets(i, offset);
    items[j].k = w.rule.load(index, offset[kIndex]);
    items[j].values = offset[kValues];
    items[j].table = offset[kTable];
  }
}

// values = table[index]; zero where the index is bad.
template <class T>
__device__ void fetch(const IndexWalk &w, T *values, const void *index, const T *table,
                      const vt_error_sink &sink) {
  Item items[kItems];
  load_items(w, index, items);
  T x[kItems];
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    int64_t place;
    x[j] = T{};
    if (items[j].valid && w.rule.place(items[j].k, sink, &place)) {
      x[j] = table[items[j].table + place];
    }
  }
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    if (items[j].valid) values[items[j].values] = x[j];
  }
}

// table[index] = values. Of several writes to one place any may stand.
template <class T>
__device__ void store(const IndexWalk &w, const T *values, const void *index, T *table,
                      const vt_error_sink &sink) {
  Item items[kItems];
  load_items(w, index, items);
  T x[kItems];
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    if (items[j].valid) x[j] = values[items[j].values];
  }
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    int64_t place;
    if (items[j].valid && w.rule.place(items[j].k, sink, &place)) {
      table[items[j].table + place] = x[j];
    }
  }
}

// to = from, elements of one shape.
template <class T>
__device__ void move(const Walk<2> &w, T *to, const T *from) {
  const int64_t first = int64_t(blockIdx.x) * (kThreads * kItems) + threadIdx.x;
  T x[kItems];
  int64_t places[kItems];
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    const int64_t i = first + j * kThreads;
    if (i >= w.numel) continue;
    int64_t offset[2];
    w.offsets(i, offset);
    places[j] = offset[0];
    x[j] = from[offset[1]];
  }
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    if (first + j * kThreads < w.numel) to[places[j]] = x[j];
  }
}

// The factor as a number of type A.
template <class A>
__device__ __forceinline__ A factor_of(const IndexScale &scale) {
  if constexpr (is_complex<A>) {
    return A(static_cast<real_t<A>>(scale.re), static_cast<real_t<A>>(scale.im));
  } else if constexpr (is_same<A, bool>::value) {
    return scale.is_int ? scale.i != 0 : scale.re != 0 || scale.im != 0;
  } else if constexpr (is_integral<A>) {
    return static_cast<A>(scale.is_int ? scale.i : static_cast<int64_t>(scale.re));
  } else {
    return scale.is_int ? static_cast<A>(scale.i) : static_cast<A>(scale.re);
  }
}

// table[index] += scale * values, each by itself.
template <class T>
__device__ void add(const IndexWalk &w, const T *values, const void *index, T *table,
                    const IndexScale &scale, const vt_error_sink &sink) {
  using A = acc_t<T>;
  const A factor = factor_of<A>(scale);
  Item items[kItems];
  load_items(w, index, items);
#pragma unroll
  for (int j = 0; j < kItems; j++) {
    int64_t place;
    if (!items[j].valid || !w.rule.place(items[j].k, sink, &place)) continue;
    const A x = static_cast<A>(values[items[j].values]);
    atomic_plus(table + items[j].table + place, scale.scaled ? times(factor, x) : x);
  }
}

// The same, or what store() does, in a fixed order: the positions of an index come sorted by the place they name, and the
// threads of one row take all positions of one place, one after the other.
template <class T>
__device__ void add_sorted(const SegmentWalk &w, const T *values, const void *index, T *table,
                           const uint64_t *keys, const uint32_t *order, const IndexScale &scale,
                           const vt_error_sink &sink) {
  using A = acc_t<T>;
  const int64_t begin = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  if (begin >= w.count) return;
  const uint64_t key = keys[begin];
  if (key == w.none || (begin > 0 && keys[begin - 1] == key)) return;
  int64_t offset[3], place;
  w.positions.offsets(order[begin], offset);
  if (!w.rule.place(w.rule.load(index, offset[kIndex]), sink, &place)) return;
  T *row = table + offset[kTable] + place;
  const A factor = factor_of<A>(scale);
  for (int64_t r = threadIdx.x; r < w.rest.numel; r += blockDim.x) {
    int64_t rest[2];
    w.rest.offsets(r, rest);
    A sum = static_cast<A>(row[rest[1]]);
    for (int64_t i = begin; i < w.count && keys[i] == key; i++) {
      int64_t at[3];
      w.positions.offsets(order[i], at);
      const A x = static_cast<A>(values[at[kValues] + rest[0]]);
      sum = w.last ? x : plus(sum, scale.scaled ? times(factor, x) : x);
    }
    row[rest[1]] = static_cast<T>(sum);
  }
}

}  // namespace

#define VT_MOVE(BYTES, T)                                                                       \
  __global__ void __launch_bounds__(kThreads)                                                   \
      vt_move_##BYTES(const __grid_constant__ Walk<2> w, T *to, const T *from) {                \
    move<T>(w, to, from);                                                                       \
  }                                                                                             \
  __global__ void __launch_bounds__(kThreads)                                                   \
      vt_index_fetch_##BYTES(const __grid_constant__ IndexWalk w, T *values, const void *index, \
                             const T *table, const __grid_constant__ vt_error_sink sink) {      \
    fetch<T>(w, values, index, table, sink);                                                    \
  }                                                                                             \
  __global__ void __launch_bounds__(kThreads) vt_index_store_##BYTES(                           \
      const __grid_constant__ IndexWalk w, const T *values, const void *index, T *table,        \
      const __grid_constant__ vt_error_sink sink) {                                             \
    store<T>(w, values, index, table, sink);                                                    \
  }

#define VT_ADD(SUFFIX, T)                                                                     \
  __global__ void __launch_bounds__(kThreads) vt_index_add_##SUFFIX(                          \
      const __grid_constant__ IndexWalk w, const T *values, const void *index, T *table,      \
      const __grid_constant__ IndexScale scale, const __grid_constant__ vt_error_sink sink) { \
    add<T>(w, values, index, table, scale, sink);                                             \
  }                                                                                           \
  __global__ void __launch_bounds__(kThreads) vt_index_add_sorted_##SUFFIX(                   \
      const __grid_constant__ SegmentWalk w, const T *values, const void *index, T *table,    \
      const uint64_t *keys, const uint32_t *order, const __grid_constant__ IndexScale scale,  \
      const __grid_constant__ vt_error_sink sink) {                                           \
    add_sorted<T>(w, values, index, table, keys, order, scale, sink);                         \
  }

extern "C" {

VT_MOVE(1, uint8_t)
VT_MOVE(2, uint16_t)
VT_MOVE(4, uint32_t)
VT_MOVE(8, uint64_t)
VT_MOVE(16, ulonglong2)

VT_ADD(bool, bool)
VT_ADD(u8, uint8_t)
VT_ADD(i8, int8_t)
VT_ADD(i16, int16_t)
VT_ADD(i32, int32_t)
VT_ADD(i64, int64_t)
VT_ADD(f16, vt::half)
VT_ADD(bf16, bfloat16)
VT_ADD(f32, float)
VT_ADD(f64, double)
VT_ADD(c64, complex<float>)
VT_ADD(c128, complex<double>)

// Adds one dimension's part to the offsets of all positions, row-major; `first` starts them.
__global__ void __launch_bounds__(kThreads)
    vt_index_offsets(const __grid_constant__ Walk<1> walk, const __grid_constant__ IndexRule rule,
                     const void *index, int64_t *offsets, int32_t first,
                     const __grid_constant__ vt_error_sink sink) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= walk.numel) return;
  int64_t at[1], place;
  walk.offsets(i, at);
  const bool good = rule.place(rule.load(index, at[0]), sink, &place);
  const int64_t sum = first ? 0 : offsets[i];
  offsets[i] = good && sum != kBadOffset ? sum + place : kBadOffset;
}

// What positions are sorted by: the number of the place they name, `none` where the index is bad.
__global__ void __launch_bounds__(kThreads)
    vt_index_keys(const __grid_constant__ Walk<2> walk, const __grid_constant__ IndexRule rule,
                  const void *index, uint64_t *keys, uint32_t *order, uint64_t none,
                  const __grid_constant__ vt_error_sink sink) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= walk.numel) return;
  int64_t at[2], place;
  walk.offsets(i, at);
  const bool good = rule.place(rule.load(index, at[0]), sink, &place);
  keys[i] = good ? static_cast<uint64_t>(place + at[1]) : none;
  order[i] = static_cast<uint32_t>(i);
}

}  // extern "C"
