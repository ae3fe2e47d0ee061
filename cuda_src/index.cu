// Reading and writing through an index: gather, scatter, scatter_add, index_select, index_add, index,
// index_put and embedding are all one walk (vt/index_walk.h). What only moves elements exists once per
// element size, where a run of elements that one index stands for counts as one wider element.
#include "vt/accumulate.h"
#include "vt/dtype.h"
#include "vt/index_walk.h"
#include "vt/vector.cuh"

using namespace vt;

namespace {

constexpr int kThreads = kIndexThreads, kItems = kIndexItems;

// Blocks of runs on an SM, so that some 80 KiB of the index are under way.
constexpr int kRunBlocks = 5;

// What a walk reads of an index at a time, and the neighbours that stand there.
using IndexRun = Vector<int64_t, kIndexRun>;
template <class K>
constexpr int kRun = is_same<K, IndexRun>::value ? kIndexRun : 1;

// An element of the walk: a part of the index, and the offsets of the other operands.
template <class K>
struct Item {
  K k;
  int64_t values, table;
  bool there;
};

// Those of a thread, apart by the threads of a block. Nothing here waits for the index. One item stands
// for a walk that is not narrow.
template <class W, class K, int N>
__device__ __forceinline__ void load_items(const W &w, const void *index, Item<K> (&items)[N]) {
  const int64_t first = int64_t(blockIdx.x) * (kThreads * N) + threadIdx.x;
#pragma unroll
  for (int j = 0; j < N; j++) {
    const int64_t i = first + j * kThreads;
    items[j].there = i < w.walk.numel;
    items[j].k = K{};
    if (!items[j].there) continue;
    int64_t offset[3];
    if constexpr (N == 1) {
      w.walk.far_offsets(i, offset);
    } else {
      w.walk.narrow_offsets(uint32_t(i), offset);
    }
    const char *at = static_cast<const char *>(index) + offset[kIndex] * (sizeof(K) / kRun<K>);
    items[j].k = *reinterpret_cast<const K *>(at);
    items[j].values = offset[kValues];
    items[j].table = offset[kTable];
  }
}

// Calls f(r, place) for the neighbours whose index is good; a bad one is reported.
template <class T, class F>
__device__ __forceinline__ void for_places(const IndexRunWalk &w, const Item<IndexRun> &item,
                                           T *table, const vt_error_sink &sink, const F &f) {
  bool good[kIndexRun], all = true;
  int32_t offset[kIndexRun];
  int64_t bad = 0;
#pragma unroll
  for (int r = 0; r < kIndexRun; r++) {
    good[r] = w.rule.near_place(item.k.get(r), &offset[r]) & item.there;
    all &= good[r];
  }
  if (item.there && !all) {
#pragma unroll
    for (int r = 0; r < kIndexRun; r++) bad = good[r] ? bad : item.k.get(r);
    w.rule.report(bad, sink);
  }
  T *const from = table + item.table;
#pragma unroll
  for (int r = 0; r < kIndexRun; r++) {
    T *const place = from + (offset[r] + r * w.table_step);
    if (good[r]) f(r, place);
  }
}
template <class K, class T, class F>
__device__ __forceinline__ void for_places(const IndexWalk &w, const Item<K> &item, T *table,
                                           const vt_error_sink &sink, const F &f) {
  int64_t offset;
  if (item.there && w.rule.place(item.k, sink, &offset)) f(0, table + item.table + offset);
}

// What an element of T is in a register.
template <class T, bool = (sizeof(T) < 4)>
struct in_word {
  using type = T;
};
template <class T>
struct in_word<T, true> {
  using type = uint32_t;
};

// values = table[index]; zero where the index is bad.
template <class T, class K, int N, class W>
__device__ __forceinline__ void fetch(const W &w, T *values, const void *index, const T *table,
                                      const vt_error_sink &sink) {
  constexpr int R = kRun<K>;
  Item<K> items[N];
  load_items(w, index, items);
  using Word = typename in_word<T>::type;
  Word x[N][R];
#pragma unroll
  for (int j = 0; j < N; j++) {
#pragma unroll
    for (int r = 0; r < R; r++) x[j][r] = Word{};
    for_places(w, items[j], table, sink, [&](int r, const T *place) { x[j][r] = *place; });
  }
#pragma unroll
  for (int j = 0; j < N; j++) {
    Vector<T, R> run;
#pragma unroll
    for (int r = 0; r < R; r++) {
      // Short elements are put together here: the compiler would do it, and wait, before the next loads.
      if constexpr (sizeof(T) < 4) asm volatile("" : "+r"(x[j][r]));
      run.set(r, static_cast<T>(x[j][r]));
    }
    if (items[j].there) *reinterpret_cast<Vector<T, R> *>(values + items[j].values) = run;
  }
}

// The values of items, all under way together.
template <class T, int R, class K, int N>
__device__ __forceinline__ void load_values(const T *values, const Item<K> (&items)[N],
                                            Vector<T, R> (&x)[N]) {
#pragma unroll
  for (int j = 0; j < N; j++) {
    if (items[j].there) x[j] = *reinterpret_cast<const Vector<T, R> *>(values + items[j].values);
  }
}

// table[index] = values. Of several writes to one place any may stand.
template <class T, class K, int N, class W>
__device__ __forceinline__ void store(const W &w, const T *values, const void *index, T *table,
                                      const vt_error_sink &sink) {
  constexpr int R = kRun<K>;
  Item<K> items[N];
  load_items(w, index, items);
  Vector<T, R> x[N];
  load_values(values, items, x);
#pragma unroll
  for (int j = 0; j < N; j++) {
    for_places(w, items[j], table, sink, [&](int r, T *place) { *place = x[j].get(r); });
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
template <class T, class K, int N, class W>
__device__ __forceinline__ void add(const W &w, const T *values, const void *index, T *table,
                                    const IndexScale &scale, const vt_error_sink &sink) {
  using A = acc_t<T>;
  constexpr int R = kRun<K>;
  const A factor = factor_of<A>(scale);
  Item<K> items[N];
  load_items(w, index, items);
  Vector<T, R> x[N];
  load_values(values, items, x);
#pragma unroll
  for (int j = 0; j < N; j++) {
    for_places(w, items[j], table, sink, [&](int r, T *place) {
      const A value = static_cast<A>(x[j].get(r));
      atomic_plus(place, scale.scaled ? times(factor, value) : value);
    });
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

}  // namespace

// FUNCTION of those above, for the type that the index has.
#define VT_BY_INDEX(FUNCTION, T, ...)                  \
  if (!w.walk.narrow) {                                \
    if (w.rule.wide) {                                 \
      FUNCTION<T, int64_t, 1>(w, __VA_ARGS__);         \
    } else {                                           \
      FUNCTION<T, int32_t, 1>(w, __VA_ARGS__);         \
    }                                                  \
  } else if (w.rule.wide) {                            \
    FUNCTION<T, int64_t, kIndexItems>(w, __VA_ARGS__); \
  } else {                                             \
    FUNCTION<T, int32_t, kIndexItems>(w, __VA_ARGS__); \
  }
#define VT_MOVE(BYTES, T)                                                                       \
  __global__ void __launch_bounds__(kThreads)                                                   \
      vt_move_##BYTES(const __grid_constant__ Walk<2> w, T *to, const T *from) {                \
    move<T>(w, to, from);                                                                       \
  }                                                                                             \
  __global__ void __launch_bounds__(kThreads)                                                   \
      vt_index_fetch_##BYTES(const __grid_constant__ IndexWalk w, T *values, const void *index, \
                             const T *table, const __grid_constant__ vt_error_sink sink) {      \
    VT_BY_INDEX(fetch, T, values, index, table, sink);                                          \
  }                                                                                             \
  __global__ void __launch_bounds__(kThreads) vt_index_store_##BYTES(                           \
      const __grid_constant__ IndexWalk w, const T *values, const void *index, T *table,        \
      const __grid_constant__ vt_error_sink sink) {                                             \
    VT_BY_INDEX(store, T, values, index, table, sink);                                          \
  }
#define VT_MOVE_RUNS(BYTES, T)                                                              \
  __global__ void __launch_bounds__(kThreads, kRunBlocks) vt_index_fetch_runs_##BYTES(      \
      const __grid_constant__ IndexRunWalk w, T *values, const void *index, const T *table, \
      const __grid_constant__ vt_error_sink sink) {                                         \
    fetch<T, IndexRun, kIndexRunItems>(w, values, index, table, sink);                      \
  }                                                                                         \
  __global__ void __launch_bounds__(kThreads, kRunBlocks) vt_index_store_runs_##BYTES(      \
      const __grid_constant__ IndexRunWalk w, const T *values, const void *index, T *table, \
      const __grid_constant__ vt_error_sink sink) {                                         \
    store<T, IndexRun, kIndexRunItems>(w, values, index, table, sink);                      \
  }

#define VT_ADD(SUFFIX, T)                                                                     \
  __global__ void __launch_bounds__(kThreads) vt_index_add_##SUFFIX(                          \
      const __grid_constant__ IndexWalk w, const T *values, const void *index, T *table,      \
      const __grid_constant__ IndexScale scale, const __grid_constant__ vt_error_sink sink) { \
    VT_BY_INDEX(add, T, values, index, table, scale, sink);                                   \
  }                                                                                           \
  __global__ void __launch_bounds__(kThreads) vt_index_add_sorted_##SUFFIX(                   \
      const __grid_constant__ SegmentWalk w, const T *values, const void *index, T *table,    \
      const uint64_t *keys, const uint32_t *order, const __grid_constant__ IndexScale scale,  \
      const __grid_constant__ vt_error_sink sink) {                                           \
    add_sorted<T>(w, values, index, table, keys, order, scale, sink);                         \
  }
#define VT_ADD_RUNS(SUFFIX, T)                                                                \
  __global__ void __launch_bounds__(kThreads, kRunBlocks) vt_index_add_runs_##SUFFIX(         \
      const __grid_constant__ IndexRunWalk w, const T *values, const void *index, T *table,   \
      const __grid_constant__ IndexScale scale, const __grid_constant__ vt_error_sink sink) { \
    add<T, IndexRun, kIndexRunItems>(w, values, index, table, scale, sink);                   \
  }

extern "C" {

VT_MOVE(1, uint8_t)
VT_MOVE(2, uint16_t)
VT_MOVE(4, uint32_t)
VT_MOVE(8, uint64_t)
VT_MOVE(16, ulonglong2)
VT_MOVE_RUNS(1, uint8_t)
VT_MOVE_RUNS(2, uint16_t)
VT_MOVE_RUNS(4, uint32_t)

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
VT_ADD_RUNS(f16, vt::half)
VT_ADD_RUNS(bf16, bfloat16)
VT_ADD_RUNS(f32, float)

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
