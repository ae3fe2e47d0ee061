// sort and topk along one dimension. NaN counts as the largest value; equal values keep their order.
//
// Elements become unsigned keys of the same order, and a key and its index one item. Items are all
// different, so that any way of sorting them is stable: insertion and merging for short rows, a radix
// sort by bytes for long ones.
#include "vibetensor/cpu/kernels/reduce_ops.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainWork = 4096;
constexpr int64_t kInsertion = 16;         // runs up to this length are sorted by insertion
constexpr int64_t kMerge = 160;            // rows up to this length by merging
constexpr int64_t kSmallK = 128;           // up to this k, the best may be kept in a sorted list
constexpr int64_t kFilter = 64;            // elements looked at together, to pass them over
constexpr int64_t kPieces = 16;            // of a row that is sorted in parallel,
constexpr int64_t kParallelRow = 1 << 17;  // which has at least this length

// ---- keys ----

// The key of an element, and back. `exact` says whether the way back gives the same bits: the keys of
// the two zeros are one, and so are those of all NaN.
template <class T>
struct Key {
  using type = typename RawBytes<sizeof(T)>::type;
  static constexpr int bits = 8 * sizeof(T);
  static constexpr type sign = type(type(1) << (bits - 1));
  static constexpr bool floating = !std::is_integral<T>::value;

  static VT_INLINE bool exact(T x) {
    if constexpr (floating) {
      return (x == x) & (bit_cast<type>(x) != sign);
    } else {
      return true;
    }
  }
  static VT_INLINE type of(T x) {
    const type raw = bit_cast<type>(x);
    if constexpr (floating) {
      // Negative numbers order by falling magnitude.
      const type ordered = raw & sign ? type(~raw) : type(raw | sign);
      return x == x ? (raw == sign ? sign : ordered) : type(~type(0));
    } else {
      return std::is_signed<T>::value ? type(raw ^ sign) : raw;
    }
  }
  static VT_INLINE T back(type key) {
    if constexpr (floating) {
      return bit_cast<T>(key & sign ? type(key ^ sign) : type(~key));
    } else {
      return bit_cast<T>(std::is_signed<T>::value ? type(key ^ sign) : key);
    }
  }
};

// ---- items ----

// Keys of up to four bytes share a word with the index.
struct PackedItem {
  uint64_t word;
  static VT_INLINE PackedItem make(uint64_t key, int64_t index) {
    return {key << 32 | static_cast<uint64_t>(index)};
  }
  VT_INLINE uint64_t key() const { return word >> 32; }
  VT_INLINE int64_t index() const { return static_cast<int64_t>(word & 0xffffffffu); }
  VT_INLINE bool before(const PackedItem &o) const { return word < o.word; }
};

struct WideItem {
  uint64_t bits;
  int64_t place;
  static VT_INLINE WideItem make(uint64_t key, int64_t index) { return {key, index}; }
  VT_INLINE uint64_t key() const { return bits; }
  VT_INLINE int64_t index() const { return place; }
  VT_INLINE bool before(const WideItem &o) const {
    return (bits < o.bits) | ((bits == o.bits) & (place < o.place));
  }
};

template <class Item>
VT_INLINE uint32_t digit(const Item &item, int d) {
  return static_cast<uint32_t>(item.key() >> (8 * d)) & 255u;
}

// ---- sorting items ----

template <class Item>
VT_INLINE void insertion_sort(Item *x, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    const Item item = x[i];
    int64_t j = i;
    for (; j > 0 && item.before(x[j - 1]); j--) x[j] = x[j - 1];
    x[j] = item;
  }
}

// The sorts below work between x and spare, and return which of them holds the result.

template <class Item>
Item *merge_sort(Item *x, Item *spare, int64_t n) {
  for (int64_t i = 0; i < n; i += kInsertion) insertion_sort(x + i, min_of(kInsertion, n - i));
  for (int64_t width = kInsertion; width < n; width *= 2) {
    Item *to = spare;
    for (int64_t i = 0; i < n; i += 2 * width) {
      const Item *a = x + i, *const middle = x + min_of(i + width, n);
      const Item *b = middle, *const end = x + min_of(i + 2 * width, n);
      while (a < middle && b < end) {
        // Which run comes next cannot be predicted: no branch.
        const bool second = b->before(*a);
        *to++ = second ? *b : *a;
        b += second;
        a += !second;
      }
      while (a < middle) *to++ = *a++;
      while (b < end) *to++ = *b++;
    }
    Item *const sorted = spare;
    spare = x;
    x = sorted;
  }
  return x;
}

template <class Item>
Item *radix_sort(Item *x, Item *spare, int64_t n, int digits) {
  uint32_t count[8][256];
  memset(count, 0, sizeof(count[0]) * digits);
  for (int64_t i = 0; i < n; i++) {
    for (int d = 0; d < digits; d++) count[d][digit(x[i], d)]++;
  }
  for (int d = 0; d < digits; d++) {
    uint32_t *at = count[d];
    if (at[digit(x[0], d)] == n) continue;  // all alike
    uint32_t sum = 0;
    for (int k = 0; k < 256; k++) {
      const uint32_t c = at[k];
      at[k] = sum;
      sum += c;
    }
    for (int64_t i = 0; i < n; i++) spare[at[digit(x[i], d)]++] = x[i];
    Item *const sorted = spare;
    spare = x;
    x = sorted;
  }
  return x;
}

// The same for one long row: every piece counts its digits, and then knows where its items go.
template <class Item>
Item *parallel_radix_sort(Item *x, Item *spare, int64_t n, int digits) {
  int64_t at[kPieces][256];
  const int64_t length = div_up(n, kPieces);
  for (int d = 0; d < digits; d++) {
    parallel_for(kPieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p++) {
        memset(at[p], 0, sizeof(at[p]));
        const int64_t stop = min_of((p + 1) * length, n);
        for (int64_t i = p * length; i < stop; i++) at[p][digit(x[i], d)]++;
      }
    });
    int64_t sum = 0;
    bool alike = false;
    for (int k = 0; k < 256; k++) {
      const int64_t before = sum;
      for (int64_t p = 0; p < kPieces; p++) {
        const int64_t c = at[p][k];
        at[p][k] = sum;
        sum += c;
      }
      alike |= sum - before == n;
    }
    if (alike) continue;
    parallel_for(kPieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p++) {
        const int64_t stop = min_of((p + 1) * length, n);
        for (int64_t i = p * length; i < stop; i++) spare[at[p][digit(x[i], d)]++] = x[i];
      }
    });
    Item *const sorted = spare;
    spare = x;
    x = sorted;
  }
  return x;
}

template <class Item>
Item *sort_items(Item *x, Item *spare, int64_t n, int digits, bool in_parallel) {
  if (n <= kInsertion) {
    insertion_sort(x, n);
    return x;
  }
  if (n <= kMerge) return merge_sort(x, spare, n);
  // A 32-bit count is enough for a row that is not sorted in parallel.
  if (n > UINT32_MAX || (in_parallel && n >= kParallelRow)) {
    return parallel_radix_sort(x, spare, n, digits);
  }
  return radix_sort(x, spare, n, digits);
}

// Moves the k first of n items, in any order, to `best`; x is used up. From the highest digit down: the
// bucket with the k-th item is looked into, those before it are taken whole.
template <class Item>
void select_items(Item *x, int64_t n, int64_t k, Item *best, int digits) {
  for (int d = digits - 1; d >= 0 && k > 0 && k < n; d--) {
    int64_t count[256] = {};
    for (int64_t i = 0; i < n; i++) count[digit(x[i], d)]++;
    int64_t sum = 0;
    uint32_t bucket = 0;
    while (sum + count[bucket] < k) sum += count[bucket++];
    int64_t taken = 0, kept = 0;
    for (int64_t i = 0; i < n; i++) {
      const Item item = x[i];
      const uint32_t c = digit(item, d);
      // One slot is always free: fewer than k items are taken here.
      best[taken] = item;
      taken += c < bucket;
      x[kept] = item;
      kept += c == bucket;
    }
    best += taken;
    k -= taken;
    n = kept;
  }
  // What is left is equal, or all wanted; the first ones have the lowest indices.
  memcpy(best, x, k * sizeof(Item));
}

// ---- rows ----

template <class T>
struct Row {
  const T *x;
  int64_t stride;
  T *values;
  int64_t values_stride;
  int64_t *indices;
  int64_t indices_stride;
};

template <bool Descending, class T>
VT_INLINE uint64_t key_of(T x) {
  using K = typename Key<T>::type;
  const K key = Key<T>::of(x);
  return Descending ? K(~key) : key;
}

// Whether any of kFilter values could come before `last`, which then is found out one by one.
template <bool Descending, class T>
VT_INLINE bool any_before(const T *x, acc_t<T> last) {
  using V = acc_t<T>;
  lane_mask<V> hit{};
#pragma GCC unroll 64
  for (int64_t i = 0; i < kFilter; i += kLanes<V>) {
    const vec<V> v = load_lanes(x + i);
    hit |= Descending ? ~(v <= last) : ~(v >= last);  // NaN hits
  }
  return fold_lanes<lane_index<V>>(hit, [](auto a, auto b) { return a | b; }) != 0;
}

// The k first items of a row in order, kept in `best` while the row is read; `best` has room for 2 k.
template <bool Descending, class T, class Item>
Item *keep_best(const T *x, int64_t stride, int64_t n, Item *best, int64_t k) {
  using V = acc_t<T>;
  for (int64_t i = 0; i < k; i++) best[i] = Item::make(key_of<Descending>(x[i * stride]), i);
  best = sort_items(best, best + k, k, static_cast<int>(sizeof(T)), false);
  V last = static_cast<V>(x[best[k - 1].index() * stride]);
  const auto take = [&](const T &element, int64_t index) {
    const V value = static_cast<V>(element);
    if (Descending ? value <= last : value >= last) return;
    const Item item = Item::make(key_of<Descending>(element), index);
    if (!item.before(best[k - 1])) return;
    int64_t j = k - 1;
    for (; j > 0 && item.before(best[j - 1]); j--) best[j] = best[j - 1];
    best[j] = item;
    last = static_cast<V>(x[best[k - 1].index() * stride]);
  };
  T copy[kFilter];
  int64_t i = k;
  for (; i + kFilter <= n; i += kFilter) {
    const T *p = x + i;
    if (stride != 1) {
      for (int64_t j = 0; j < kFilter; j++) copy[j] = x[(i + j) * stride];
      p = copy;
    }
    if (VT_LIKELY(!any_before<Descending>(p, last))) continue;
    for (int64_t j = 0; j < kFilter; j++) take(p[j], i + j);
  }
  for (; i < n; i++) take(x[i * stride], i);
  return best;
}

constexpr bool keeps_list(int64_t n, int64_t k) { return k <= kSmallK && k <= n / 8; }

// The k first elements of a row of n, whose least key is `base`; the other keys are within `digits`
// bytes of it. `room` holds 2 n items.
template <bool Descending, class T, class Item>
void order_keys(const Row<T> &row, int64_t n, int64_t k, uint64_t base, int digits, Item *room,
                bool in_parallel) {
  using K = typename Key<T>::type;
  Item *items = room, *const spare = room + n;
  bool exact = true;
  for (int64_t i = 0; i < n; i++) {
    const T x = row.x[i * row.stride];
    items[i] = Item::make(key_of<Descending>(x) - base, i);
    exact &= Key<T>::exact(x);
  }
  if (k < n && n > kMerge) {
    select_items(items, n, k, spare, digits);
    items = sort_items(spare, room, k, digits, in_parallel);
  } else {
    items = sort_items(items, spare, n, digits, in_parallel);
  }
  for (int64_t i = 0; i < k; i++) {
    // The keys are at hand; the elements they come from lie anywhere in the row.
    const K key = static_cast<K>(items[i].key() + base);
    row.values[i * row.values_stride] =
        exact ? Key<T>::back(Descending ? K(~key) : key) : row.x[items[i].index() * row.stride];
    row.indices[i * row.indices_stride] = items[i].index();
  }
}

// The k first elements of a row of n; `room` holds 2 n items, or 2 k where those are kept in a list.
template <bool Descending, class T, class Item>
void order_row(const Row<T> &row, int64_t n, int64_t k, Item *room, bool in_parallel) {
  if (keeps_list(n, k)) {
    const Item *best = keep_best<Descending>(row.x, row.stride, n, room, k);
    for (int64_t i = 0; i < k; i++) {
      const int64_t index = best[i].index();
      row.values[i * row.values_stride] = row.x[index * row.stride];
      row.indices[i * row.indices_stride] = index;
    }
    return;
  }
  if constexpr (!Key<T>::floating && sizeof(T) >= 4) {
    // Integers often span a small range: fewer digits then, and for 64 bits smaller items.
    if (n > kMerge) {
      uint64_t low = ~uint64_t(0), high = 0;
      for (int64_t i = 0; i < n; i++) {
        const uint64_t key = key_of<Descending>(row.x[i * row.stride]);
        low = min_of(low, key);
        high = max_of(high, key);
      }
      const uint64_t range = high - low;
      const int digits = range == 0 ? 1 : (71 - __builtin_clzll(range)) / 8;
      if (digits <= 4 && n <= UINT32_MAX) {
        PackedItem *const packed = reinterpret_cast<PackedItem *>(room);
        order_keys<Descending>(row, n, k, low, digits, packed, in_parallel);
      } else {
        order_keys<Descending>(row, n, k, low, digits, room, in_parallel);
      }
      return;
    }
  }
  order_keys<Descending>(row, n, k, 0, static_cast<int>(sizeof(T)), room, in_parallel);
}

template <bool Descending, class T, class Item>
vt_status order_rows(const vt_array &in, const vt_array &values, const vt_array &indices,
                     int64_t dim, int64_t k) {
  const bool scalar = in.ndim == 0;
  const int64_t n = scalar ? 1 : in.sizes[dim];
  const int64_t stride = scalar ? 1 : in.strides[dim];
  const int64_t values_stride = scalar ? 1 : values.strides[dim];
  const int64_t indices_stride = scalar ? 1 : indices.strides[dim];
  const auto rows = layout_of(scalar ? -1 : static_cast<int>(dim), true, in, values, indices);
  const int64_t room_size = 2 * (keeps_list(n, k) ? k : n);
  int64_t step[3];
  for (int j = 0; j < 3; j++) step[j] = inner_stride(rows, j);
  bool failed = false;
  const auto order = [&](int64_t begin, int64_t end, bool in_parallel) {
    const Scratch<Item, 512> room(room_size);
    if (!room.ok()) {
      __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
      return;
    }
    for_runs(rows, begin, end, [&](const int64_t *offset, int64_t count) {
      for (int64_t r = 0; r < count; r++) {
        const Row<T> row = {data_of<const T>(in) + offset[0] + r * step[0],      stride,
                            data_of<T>(values) + offset[1] + r * step[1],        values_stride,
                            data_of<int64_t>(indices) + offset[2] + r * step[2], indices_stride};
        order_row<Descending>(row, n, k, room.data(), in_parallel);
      }
    });
  };
  const int64_t count = in.numel / n;
  if (count < 4 && n >= kParallelRow) {
    order(0, count, true);
  } else {
    parallel_for(count, 1 + kGrainWork / n,
                 [&](int64_t begin, int64_t end) { order(begin, end, false); });
  }
  return failed ? VT_ERROR_OUT_OF_MEMORY : VT_OK;
}

template <class T, class Item>
vt_status order_as(const vt_array *a, int64_t dim, int64_t k, bool descending) {
  return descending ? order_rows<true, T, Item>(a[0], a[1], a[2], dim, k)
                    : order_rows<false, T, Item>(a[0], a[1], a[2], dim, k);
}

vt_status order_any(const vt_array *a, int64_t dim, int64_t k, bool descending) {
  const int64_t n = a[0].ndim > 0 ? a[0].sizes[dim] : 1;
  if (a[0].numel == 0 || k == 0) return VT_OK;
  return dispatch<kIntegers | kFloating>(bool_as_byte(a[0].dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (sizeof(T) < 8) {
      if (n <= UINT32_MAX) return order_as<T, PackedItem>(a, dim, k, descending);
    }
    return order_as<T, WideItem>(a, dim, k, descending);
  });
}

}  // namespace

// arrays: input, then values, indices. values: dim, descending, stable (it always is).
vt_status sort_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const int64_t n = a[0].ndim > 0 ? a[0].sizes[v[0].i] : 1;
  return order_any(a, v[0].i, n, v[1].i != 0);
}

// arrays: input, then values, indices. values: k, dim, largest, sorted (they always are).
vt_status topk_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return order_any(a, v[1].i, v[0].i, v[2].i != 0);
}

}  // namespace VT_NS
