// Attention, forward: softmax(scale q k^T + mask) v by blocks, with a running maximum and sum per
// query, so that no matrix of queries x keys is kept. See Note [Attention blocks].

#include <math.h>

#include "vibetensor/cpu/kernels/attention_bias.h"

namespace VT_NS {
namespace {

template <class S>
struct AttentionForward {
  using T = typename acc_type<S>::type;
  static constexpr int W = kTileCols<T>, L = kLanes<T>;

  AttentionShape shape;
  HeadArray<const S> q, k, v;
  AttentionBias bias;
  AttentionDropout dropout;
  HeadArray<S> out;
  T *lse;
  int64_t lse_batch, lse_head, lse_query;

  // What a panel of queries carries from one block of keys to the next.
  struct Panel {
    T max[W], sum[W];
    T *q;   /* dim x W */
    T *out; /* value_dim x W */
    int64_t first, lanes;
    bool empty; /* no query sees a key */
  };

  // What a thread works in: the panels of a block, scores and mask of a panel, rows on their way to
  // and from memory, and the keys and values of the head it works on.
  struct Room {
    T *panels_q, *panels_out, *scores, *bias, *kept, *rows;
    HeadRows<S, T> k, v;
  };

  bool reserve(Workspace &frame, Room &room) const {
    const int64_t dim = shape.dim, value_dim = shape.value_dim;
    room.panels_q = frame.take<T>(kPanels * dim * W);
    room.panels_out = frame.take<T>(kPanels * value_dim * W);
    room.scores = frame.take<T>(kKeyBlock * W);
    room.bias = bias ? frame.take<T>(kKeyBlock * W) : nullptr;
    room.kept = dropout ? frame.take<T>(kKeyBlock * W) : nullptr;
    room.rows = frame.take<T>(W * max_of(dim, value_dim));
    return room.panels_q && room.panels_out && room.scores && (room.bias || !bias) &&
           (room.kept || !dropout) && room.rows && room.k.reserve(frame, shape.keys, dim) &&
           room.v.reserve(frame, shape.keys, value_dim);
  }

  // Blocks of queries [begin, end), counted over all heads.
  bool blocks(int64_t begin, int64_t end) const {
    Workspace frame;
    Room room;
    if (!reserve(frame, room)) return false;
    const int64_t per_head = div_up(shape.queries, kQueryBlock<T>);
    int64_t loaded = -1; /* whose keys and values the room holds */
    for (int64_t i = begin; i < end; i++) {
      const int64_t b = i / per_head / shape.heads, h = i / per_head % shape.heads;
      const int64_t kv = b * shape.kv_heads + shape.kv_head(h);
      if (kv != loaded) {
        room.k.start_head();
        room.v.start_head();
        loaded = kv;
      }
      if (i + 1 < end) prefetch_block(i + 1, per_head, kv);
      block(b, h, i % per_head * kQueryBlock<T>, room);
    }
    return true;
  }

  // What block i reads first, while the one before it is worked on.
  void prefetch_block(int64_t i, int64_t per_head, int64_t loaded) const {
    const int64_t b = i / per_head / shape.heads, h = i / per_head % shape.heads;
    const int64_t first = i % per_head * kQueryBlock<T>;
    q.template prefetch<false>(b, h, first, min_of(kQueryBlock<T>, shape.queries - first),
                               shape.dim);
    const int64_t kv_head = shape.kv_head(h);
    if (b * shape.kv_heads + kv_head == loaded) return;
    const int64_t keys = min_of(kKeyBlock, shape.keys);
    k.template prefetch<false>(b, kv_head, 0, keys, shape.dim);
    v.template prefetch<false>(b, kv_head, 0, keys, shape.value_dim);
  }

  // Queries from `first` on, of one head.
  void block(int64_t b, int64_t h, int64_t first, Room &room) const {
    const int64_t queries = min_of(kQueryBlock<T>, shape.queries - first);
    const int64_t dim = shape.dim, value_dim = shape.value_dim;
    out.template prefetch<true>(b, h, first, queries, value_dim);
    Panel panels[kPanels];
    const int64_t count = div_up(queries, int64_t(W));
    for (int64_t i = 0; i < count; i++) {
      Panel &p = panels[i];
      p.first = first + i * W;
      p.lanes = min_of(int64_t(W), first + queries - p.first);
      p.empty = true;
      p.q = room.panels_q + i * dim * W;
      p.out = room.panels_out + i * value_dim * W;
      for (int c = 0; c < W; c++) {
        p.max[c] = -T(INFINITY);
        p.sum[c] = T(0);
      }
      pack_rows_transposed(p.q, q, q.at(b, h, p.first), p.lanes, dim, T(shape.scale * kLog2e),
                           room.rows);
    }

    const int64_t kv_head = shape.kv_head(h), keys = shape.seen_to(first + queries - 1);
    for (int64_t key = shape.first_block(first); key < keys; key += kKeyBlock) {
      const int64_t n = min_of(kKeyBlock, keys - key);
      const Rows<T> k_rows = room.k.block(k, b, kv_head, key, n, dim);
      const Rows<T> v_rows = room.v.block(v, b, kv_head, key, n, value_dim);
      for (int64_t i = 0; i < count; i++) {
        Panel &p = panels[i];
        const int64_t seen = min_of(n, shape.seen_to(p.first + p.lanes - 1) - key);
        if (seen <= 0) continue;
        if (bias) bias.fill<S>(room.bias, shape, b, h, p.first, p.lanes, key, seen);
        if (dropout) dropout.fill(room.kept, shape, b, h, p.first, key, seen);
        with_vectors<T>(p.lanes, [&](auto vecs) {
          step<decltype(vecs)::value>(p, k_rows, v_rows, key, seen, room);
        });
      }
    }
    for (int64_t i = 0; i < count; i++) finish(panels[i], b, h, room);
  }

  // One block of keys for one panel.
  template <int Vecs>
  VT_NOINLINE void step(Panel &p, const Rows<T> &k_rows, const Rows<T> &v_rows, int64_t key,
                        int64_t keys, const Room &room) const {
    T *const scores = room.scores;
    vec<T> max[Vecs], sum[Vecs], shrink[Vecs];
#pragma GCC unroll 2
    for (int c = 0; c < Vecs; c++) max[c] = load(p.max + c * L);
    const ScoreBlock<T> block = {p.q,
                                 k_rows,
                                 shape.dim,
                                 room.bias,
                                 keys,
                                 p.first - key + shape.low,
                                 p.first - key + shape.high};
    block.template each_tile<Vecs>([&](auto &tile, int64_t i) {
      tile.each([&](vec<T> &x, int, int c) { max[c] = x > max[c] ? x : max[c]; });
      tile.store_to(scores + i * W, W);
    });

    // A query that has seen no key yet has the maximum -inf; any finite one does for it.
#pragma GCC unroll 2
    for (int c = 0; c < Vecs; c++) {
      const vec<T> before = load(p.max + c * L);
      store(p.max + c * L, max[c]);
      max[c] = max[c] == splat(-T(INFINITY)) ? vec<T>{} : max[c];
      shrink[c] = exp2_lanes<T>(before - max[c]);
      sum[c] = load(p.sum + c * L) * shrink[c];
    }
    for (int64_t j = 0; j < keys; j++) {
#pragma GCC unroll 2
      for (int c = 0; c < Vecs; c++) {
        const vec<T> e = exp2_lanes<T>(load(scores + j * W + c * L) - max[c]);
        sum[c] += e;
        store(scores + j * W + c * L, e);
      }
    }
#pragma GCC unroll 2
    for (int c = 0; c < Vecs; c++) store(p.sum + c * L, sum[c]);
    if (dropout) {
#pragma omp simd
      for (int64_t i = 0; i < keys * W; i++) scores[i] *= room.kept[i];
    }

    for_row_tiles(shape.value_dim, [&](auto rows, int64_t i) {
      Tile<T, decltype(rows)::value, Vecs> tile;
      T *const to = p.out + i * W;
      if (p.empty) {
        tile.clear();
      } else {
        tile.each([&](vec<T> &x, int r, int c) { x = load(to + r * W + c * L) * shrink[c]; });
      }
      tile.add_product(keys, v_rows.data + i * v_rows.col, v_rows.col, v_rows.row, scores, W);
      tile.store_to(to, W);
    });
    p.empty = false;
  }

  void finish(Panel &p, int64_t b, int64_t h, const Room &room) const {
    T factor[W], log_sum[W];
#pragma omp simd
    for (int c = 0; c < W; c++) {
      // No key at all gives zeros, and the lse of an empty sum.
      factor[c] = p.sum[c] == T(0) ? T(0) : T(1) / p.sum[c];
      log_sum[c] = p.max[c] * T(kLn2) + vlog(p.sum[c]);
    }
    T *const lse_row = lse + b * lse_batch + h * lse_head + p.first * lse_query;
    for (int64_t c = 0; c < p.lanes; c++) lse_row[c * lse_query] = log_sum[c];
    for (int64_t d = 0; d < shape.value_dim; d++) {
      T *row = p.out + d * W;
#pragma omp simd
      for (int c = 0; c < W; c++) row[c] = p.empty ? T(0) : row[c] * factor[c];
    }
    S *const to = out.at(b, h, p.first);
    if constexpr (std::is_same<S, T>::value) {
      if (out.feature == 1) {
        transpose_copy(to, out.time, p.out, W, shape.value_dim, p.lanes);
        return;
      }
    }
    transpose_copy(room.rows, shape.value_dim, p.out, W, shape.value_dim, p.lanes);
    for (int64_t c = 0; c < p.lanes; c++) {
      write_run(to + c * out.time, out.feature, room.rows + c * shape.value_dim, shape.value_dim);
    }
  }
};

// Multiply-adds that are worth a thread of their own.
constexpr int64_t kGrainWork = 1 << 20;

template <class S>
vt_status run(const AttentionForward<S> &forward) {
  const AttentionShape &shape = forward.shape;
  constexpr int64_t kBlock = kQueryBlock<typename AttentionForward<S>::T>;
  const int64_t blocks = div_up(shape.queries, kBlock);
  const int64_t work =
      min_of(kBlock, shape.queries) * shape.mean_keys() * (shape.dim + shape.value_dim);
  vt_status status = VT_OK;
  parallel_for(shape.batch * shape.heads * blocks, 1 + kGrainWork / (work + 1),
               [&](int64_t begin, int64_t end) {
                 if (!forward.blocks(begin, end)) {
                   __atomic_store_n(&status, VT_ERROR_OUT_OF_MEMORY, __ATOMIC_RELAXED);
                 }
               });
  return status;
}

}  // namespace

// arrays: q (B, H, Tq, D), k (B, Hkv, Tk, D), v (B, Hkv, Tk, Dv), mask, slopes, cu_queries, cu_keys,
// each of which may be none, out (B, H, Tq, Dv), lse (B, H, Tq) float, double for double; values:
// see opdefs/attention.py.
vt_status sdpa_cpu(const vt_array *arrays, const vt_value *values, vt_context *) {
  const AttentionShape whole = attention_shape(arrays[0], arrays[1], arrays[2], values);
  if (whole.batch * whole.heads * whole.queries == 0) return VT_OK;
  return dispatch<kFloating>(arrays[0].dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    using T = typename AttentionForward<S>::T;
    const vt_array &lse = arrays[8];
    const auto sequence = [&](const AttentionShape &shape, int64_t query, int64_t key) {
      return run(AttentionForward<S>{
          shape, HeadArray<const S>(arrays[0]).from(query), HeadArray<const S>(arrays[1]).from(key),
          HeadArray<const S>(arrays[2]).from(key), AttentionBias(arrays[3], arrays[4]),
          AttentionDropout(values), HeadArray<S>(arrays[7]).from(query),
          data_of<T>(lse) + query * lse.strides[2], lse.strides[0], lse.strides[1],
          lse.strides[2]});
    };
    return each_sequence(whole, values, arrays[5], arrays[6], sequence);
  });
}

}  // namespace VT_NS
