// What the forward and the backward pass of attention share: the shape, the blocks they work on,
// and the scores of a block.
//
// Note [Attention blocks]
// A block of queries is split into panels of kTileCols queries, and a panel is held transposed: one
// query per vector lane. Scores are then made as keys x queries, a row of which is one key against
// all queries of the panel: the softmax over keys works lane by lane, and keys and values are read
// one element at a time, so they need no transposition. Scores are kept in units of log 2 (the
// factor is part of the scaled queries), because exp2 is cheaper than exp.
#ifndef VT_CPU_ATTENTION_H
#define VT_CPU_ATTENTION_H

#include "vibetensor/cpu/kernels/microkernel.h"
#include "vibetensor/cpu/kernels/workspace.h"
#include "vt/attention_dropout.h"
#include "vt/elementary.h"

namespace VT_NS {

// Panels in a block of queries, keys in a block of keys.
constexpr int kPanels = 4;
constexpr int64_t kKeyBlock = 64;
template <class T>
constexpr int64_t kQueryBlock = kPanels * kTileCols<T>;

constexpr double kLog2e = 1.4426950408889634074;
constexpr double kLn2 = 0.69314718055994530942;

// The values of sdpa and sdpa_backward, in order (see opdefs/attention.py).
enum { kScale, kDropoutP, kSeed, kOffset, kLow, kHigh, kOptions, kLengths };

// One sequence, or a batch of sequences of one length.
struct AttentionShape {
  int64_t first_batch /* sequences before */, batch, heads, kv_heads, queries, keys, dim, value_dim;
  int64_t low, high; /* query i sees keys i + low .. i + high */
  double scale;

  int64_t kv_head(int64_t head) const { return head / (heads / kv_heads); }
  // The keys that queries first .. last see lie in [seen_from(first), seen_to(last)).
  int64_t seen_from(int64_t first) const { return max_of(int64_t(0), min_of(keys, first + low)); }
  int64_t seen_to(int64_t last) const { return max_of(int64_t(0), min_of(keys, last + high + 1)); }
  // The block of keys in which the first key lies that queries from `first` on see.
  int64_t first_block(int64_t first) const { return seen_from(first) / kKeyBlock * kKeyBlock; }
  // About how many keys a query sees.
  int64_t mean_keys() const {
    const int64_t most = low < -keys && high > keys ? keys : min_of(keys, high - low + 1);
    const bool triangle = high < keys - queries / 2 && low < -keys;
    return max_of(int64_t(1), triangle ? keys / 2 : most);
  }
};

// q, k and v give the shape.
inline AttentionShape attention_shape(const vt_array &q, const vt_array &k, const vt_array &v,
                                      const vt_value *values) {
  AttentionShape s;
  s.first_batch = 0;
  s.batch = q.sizes[0];
  s.heads = q.sizes[1];
  s.kv_heads = k.sizes[1];
  s.queries = q.sizes[2];
  s.keys = k.sizes[2];
  s.dim = q.sizes[3];
  s.value_dim = v.sizes[3];
  s.scale = values[kScale].re;
  s.low = values[kLow].i + s.keys - s.queries;
  s.high = values[kHigh].i + s.keys - s.queries;
  return s;
}

// Calls f(shape, first query, first key) for the whole batch, or for every packed sequence.
template <class F>
inline vt_status each_sequence(const AttentionShape &whole, const vt_value *values,
                               const vt_array &cu_queries, const vt_array &cu_keys, const F &f) {
  if (!given(cu_queries)) return f(whole, int64_t(0), int64_t(0));
  const int32_t *q = data_of<const int32_t>(cu_queries), *k = data_of<const int32_t>(cu_keys);
  for (int64_t i = 0; i + 1 < cu_queries.numel; i++) {
    AttentionShape s = whole;
    s.first_batch = i;
    const int64_t first_query = q[i * cu_queries.strides[0]], first_key = k[i * cu_keys.strides[0]];
    s.queries = q[(i + 1) * cu_queries.strides[0]] - first_query;
    s.keys = k[(i + 1) * cu_keys.strides[0]] - first_key;
    s.low = values[kLow].i + s.keys - s.queries;
    s.high = values[kHigh].i + s.keys - s.queries;
    const vt_status status = f(s, first_query, first_key);
    if (status != VT_OK) return status;
  }
  return VT_OK;
}

// An array (batch, head, time, feature), or none.
template <class S>
struct HeadArray {
  S *data;
  int64_t batch, head, time, feature; /* strides */

  explicit HeadArray(const vt_array &a) : data(data_of<S>(a)) {
    if (!data) return;
    batch = a.strides[0];
    head = a.strides[1];
    time = a.strides[2];
    feature = a.strides[3];
  }
  S *at(int64_t b, int64_t h, int64_t t) const { return data + b * batch + h * head + t * time; }
  // The same from another row on.
  HeadArray from(int64_t t) const {
    HeadArray x = *this;
    if (data) x.data += t * time;
    return x;
  }

  // Asks for the cache lines of n rows. Rows of one head are short and far apart, so the processor
  // does not foresee them, and waiting for memory would take as long as the arithmetic.
  template <bool Write>
  void prefetch(int64_t b, int64_t h, int64_t first, int64_t n, int64_t features) const {
    if (feature != 1) return;
    const char *row = reinterpret_cast<const char *>(at(b, h, first));
    const int64_t bytes = features * int64_t(sizeof(S)), step = time * int64_t(sizeof(S));
    for (int64_t i = 0; i < n; i++, row += step) {
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, Write, 2);
      __builtin_prefetch(row + bytes - 1, Write, 2);
    }
  }
};

template <class T>
VT_INLINE int64_t padded(int64_t features) {
  return div_up(features, kLanes<T>) * kLanes<T>;
}

// Rows in memory as the kernels read them.
template <class T>
struct Rows {
  const T *data;
  int64_t row, col;
};

// Copies n rows from `from` on into `room`, each padded with zeros to whole vectors.
template <class T, class S>
inline void copy_rows(const HeadArray<const S> &x, const S *from, int64_t n, int64_t features,
                      T *room) {
  const int64_t width = padded<T>(features);
  for (int64_t i = 0; i < n; i++) {
    T *to = room + i * width;
    read_run(to, from + i * x.time, x.feature, features);
    for (int64_t c = features; c < width; c++) to[c] = T(0);
  }
}

// The rows of one head after another, copied block by block as they are asked for. They are copied
// even where they could be read in place: the rows of one head lie far apart in a packed
// projection, often by a multiple of a large power of two, and then few of them fit the caches
// together.
template <class S, class T>
class HeadRows {
 public:
  static constexpr int64_t kKeepBytes = int64_t(2) << 20;

  // Keeps a whole head where that is not too large, else one block.
  bool reserve(Workspace &frame, int64_t times, int64_t features) {
    times_ = times;
    width_ = padded<T>(features);
    keep_ = times * width_ * int64_t(sizeof(T)) <= kKeepBytes;
    room_ = frame.take<T>((keep_ ? times : kKeyBlock) * width_);
    return room_ != nullptr;
  }

  void start_head() { copied_ = 0; }

  // Rows [first, first + n), n <= kKeyBlock; of a head that is kept, with all before them.
  Rows<T> block(const HeadArray<const S> &x, int64_t b, int64_t h, int64_t first, int64_t n,
                int64_t features) {
    T *to = room_;
    int64_t from = first;
    if (keep_) {
      to += first * width_;
      from = copied_;
    }
    if (from < first + n) {
      copy_rows(x, x.at(b, h, from), first + n - from, features, to + (from - first) * width_);
      copied_ = first + n;
      const int64_t next = min_of(kKeyBlock, times_ - copied_);
      if (next > 0) x.template prefetch<false>(b, h, copied_, next, features);
    }
    return {to, width_, 1};
  }

 private:
  T *room_ = nullptr;
  int64_t times_ = 0, width_ = 0, copied_ = 0;
  bool keep_ = false;
};

// Transposes up to kTileCols rows into a panel of features x kTileCols, times `factor`; lanes
// without a row are zero. `room` holds kTileCols x features.
template <class T, class S>
inline void pack_rows_transposed(T *panel, const HeadArray<const S> &x, const S *from, int64_t n,
                                 int64_t features, T factor, T *room) {
  constexpr int W = kTileCols<T>;
  if (n < W) memset(static_cast<void *>(panel), 0, sizeof(T) * features * W);
  const T *rows = room;
  int64_t row = features;
  if constexpr (std::is_same<S, T>::value) {
    if (x.feature == 1) {
      rows = from;
      row = x.time;
    }
  }
  if (rows == room) {
    for (int64_t i = 0; i < n; i++) {
      read_run(room + i * features, from + i * x.time, x.feature, features);
    }
  }
  transpose_copy(panel, W, rows, row, n, features);
  if (factor != T(1)) {
#pragma omp simd
    for (int64_t i = 0; i < features * W; i++) panel[i] *= factor;
  }
}

// ---- exp2 ----

template <class T>
struct Exp2;
// Minimax polynomials of (2^r - 1) / r on [-1/2, 1/2], highest power first: relative errors 2.6e-9
// and 1.8e-17. `round` shifts the bits of a number so that its integer part is the lowest.
template <>
struct Exp2<float> {
  using Bits = int32_t;
  static constexpr float round = 0x1.8p23f, lowest = -126.0f;
  static constexpr int fraction_bits = 23, bias = 127;
  static constexpr float poly[] = {1.5594678e-04f, 1.3406644e-03f, 9.6176930e-03f,
                                   5.5503106e-02f, 2.4022653e-01f, 6.9314721e-01f};
};
template <>
struct Exp2<double> {
  using Bits = int64_t;
  static constexpr double round = 0x1.8p52, lowest = -1022.0;
  static constexpr int fraction_bits = 52, bias = 1023;
  static constexpr double poly[] = {
      4.078071929588336665e-10, 7.0725704128144235096e-9, 1.0180647659234138888e-7,
      1.3215442675329822143e-6, 1.5252727385193868197e-5, 1.540353044157213033e-4,
      1.3333558153439964747e-3, 9.6181291076070023796e-3, 5.5504108664790394552e-2,
      2.4022650695910098007e-1, 6.9314718055994569675e-1};
};

// 2^x for x that are not much above zero; results below the normal range are zero, and 2^0
// is exactly 1.
template <class T>
VT_INLINE vec<T> exp2_lanes(vec<T> x) {
  using E = Exp2<T>;
  typedef typename E::Bits Ints __attribute__((vector_size(kVectorBytes)));
  const vec<T> shifted = x + splat(E::round);
  const vec<T> r = x - (shifted - splat(E::round));
  vec<T> p = splat(E::poly[0]);
#pragma GCC unroll 16
  for (int i = 1; i < int(sizeof(E::poly) / sizeof(T)); i++) p = p * r + splat(E::poly[i]);
  p = p * r + splat(T(1));
  const Ints power = (reinterpret_cast<Ints>(shifted) + E::bias) << E::fraction_bits;
  p *= reinterpret_cast<vec<T>>(power);
  return x < splat(E::lowest) ? vec<T>{} : p;
}

// ---- scores ----

// A block of keys against a panel of queries.
template <class T>
struct ScoreBlock {
  const T *q; /* dim x kTileCols */
  Rows<T> k;
  int64_t dim;
  const T *bias;     /* keys x kTileCols, or NULL */
  int64_t keys;      /* that some query of the panel sees */
  int64_t low, high; /* lane i sees keys low + i .. high + i */

  // Makes the scores, keys a query does not see being -inf, and calls f(tile, first key).
  template <int Vecs, class F>
  VT_INLINE void each_tile(const F &f) const {
    constexpr int L = kLanes<T>;
    T lane[Vecs * L];
    for (int i = 0; i < Vecs * L; i++) lane[i] = T(i);
    const int64_t all_from = low + Vecs * L - 1, all_to = high + 1;
    for_row_tiles(keys, [&](auto rows, int64_t i) {
      Tile<T, decltype(rows)::value, Vecs> tile;
      tile.clear();
      tile.add_product(dim, k.data + i * k.row, k.row, k.col, q, kTileCols<T>);
      if (bias) {
        tile.each(
            [&](vec<T> &x, int r, int c) { x += load(bias + (i + r) * kTileCols<T> + c * L); });
      }
      if (i + tile.rows > all_to) {
        tile.each([&](vec<T> &x, int r, int c) {
          x = load(lane + c * L) >= splat(T(i + r - high)) ? x : splat(-T(INFINITY));
        });
      }
      if (i < all_from) {
        tile.each([&](vec<T> &x, int r, int c) {
          x = load(lane + c * L) <= splat(T(i + r - low)) ? x : splat(-T(INFINITY));
        });
      }
      f(tile, i);
    });
  }
};

// Calls f(Int<vectors>{}) for the vectors that `lanes` queries need.
template <class T, class F>
VT_INLINE void with_vectors(int64_t lanes, const F &f) {
  if (lanes > kLanes<T>) {
    f(Int<2>{});
  } else {
    f(Int<1>{});
  }
}

}  // namespace VT_NS

#endif
