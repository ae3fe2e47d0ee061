// Attention, backward. With P = softmax(scale q k^T + mask), made again from the lse of the forward
// pass, K what dropout multiplies it by (1 without), and delta = sum(grad * out) over the features:
//   dv = (K P)^T grad,   dS = P * (K (grad v^T) - delta),   dq = scale dS k,   dk = scale dS^T q.
// See Note [Attention blocks].

#include <math.h>

#include "vibetensor/cpu/kernels/attention_bias.h"

namespace VT_NS {
namespace {

template <class S>
struct AttentionBackward {
  using T = typename acc_type<S>::type;
  static constexpr int W = kTileCols<T>, L = kLanes<T>;

  AttentionShape shape;
  HeadArray<const S> grad, q, k, v, out;
  AttentionBias bias;
  AttentionDropout dropout;
  HeadArray<S> grad_q, grad_k, grad_v;
  HeadArray<T> grad_mask; /* not rounded before it is summed over what the mask broadcasts to */
  const T *lse;
  int64_t lse_batch, lse_head, lse_query;

  // Whether dS is needed; P always is.
  bool wants_scores() const { return grad_q.data || grad_k.data || grad_mask.data; }

  // Sums over all queries for one head of keys and values, rows padded to whole vectors.
  struct KeyGrads {
    T *k, *v;
  };

  struct Panel {
    T lse[W], delta[W]; /* lse in units of log 2 */
    int64_t first, lanes;
    int64_t seen; /* keys of the current block */
    T *q, *grad;  /* transposed: features x W */
    T *p, *ds;    /* kKeyBlock x W */
  };

  struct Room {
    T *panels, *scores, *bias, *kept, *rows;
    T *q, *grad, *grad_q; /* rows of a block of queries */
    HeadRows<S, T> k, v;
  };

  bool reserve(Workspace &frame, Room &room) const {
    const int64_t dim = shape.dim, value_dim = shape.value_dim;
    room.panels = frame.take<T>(kPanels * W * (dim + value_dim));
    room.scores = frame.take<T>(kPanels * W * 2 * kKeyBlock);
    room.bias = bias ? frame.take<T>(kKeyBlock * W) : nullptr;
    room.kept = dropout ? frame.take<T>(kKeyBlock * W) : nullptr;
    room.rows = frame.take<T>(max_of(int64_t(W), kKeyBlock) * max_of(dim, value_dim));
    room.q = frame.take<T>(kQueryBlock<T> * padded<T>(dim));
    room.grad = frame.take<T>(kQueryBlock<T> * padded<T>(value_dim));
    room.grad_q = frame.take<T>(kQueryBlock<T> * padded<T>(dim));
    return room.panels && room.scores && (room.bias || !bias) && (room.kept || !dropout) &&
           room.rows && room.q && room.grad && room.grad_q &&
           room.k.reserve(frame, shape.keys, dim) && room.v.reserve(frame, shape.keys, value_dim);
  }

  int64_t key_size() const { return shape.keys * padded<T>(shape.dim); }
  int64_t value_size() const { return shape.keys * padded<T>(shape.value_dim); }

  bool reserve(Workspace &frame, KeyGrads &sums) const {
    sums.k = frame.take<T>(key_size());
    sums.v = frame.take<T>(value_size());
    return sums.k && sums.v;
  }

  void clear(const KeyGrads &sums) const {
    memset(static_cast<void *>(sums.k), 0, key_size() * sizeof(T));
    memset(static_cast<void *>(sums.v), 0, value_size() * sizeof(T));
  }

  void add(const KeyGrads &to, const KeyGrads &from) const {
    const int64_t key_count = key_size(), value_count = value_size();
#pragma omp simd
    for (int64_t i = 0; i < key_count; i++) to.k[i] += from.k[i];
#pragma omp simd
    for (int64_t i = 0; i < value_count; i++) to.v[i] += from.v[i];
  }

  // One head of keys and values against every `parts`-th block of queries from block `part` on.
  void head(int64_t b, int64_t kv_head, int64_t part, int64_t parts, const KeyGrads &sums,
            Room &room) const {
    const int64_t group = shape.heads / shape.kv_heads;
    room.k.start_head();
    room.v.start_head();
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
      for (int64_t first = part * kQueryBlock<T>; first < shape.queries;
           first += parts * kQueryBlock<T>) {
        prefetch_block(b, h, first + parts * kQueryBlock<T>);
        block(b, h, kv_head, first, sums, room);
      }
    }
  }

  void prefetch_block(int64_t b, int64_t h, int64_t first) const {
    const int64_t n = min_of(kQueryBlock<T>, shape.queries - first);
    q.template prefetch<false>(b, h, first, n, shape.dim);
    grad.template prefetch<false>(b, h, first, n, shape.value_dim);
    out.template prefetch<false>(b, h, first, n, shape.value_dim);
  }

  void block(int64_t b, int64_t h, int64_t kv_head, int64_t first, const KeyGrads &sums,
             Room &room) const {
    const int64_t queries = min_of(kQueryBlock<T>, shape.queries - first);
    const int64_t dim = shape.dim, value_dim = shape.value_dim;
    const int64_t count = div_up(queries, int64_t(W));
    Panel panels[kPanels];
    for (int64_t i = 0; i < count; i++) start(panels[i], b, h, first, i, queries, room);
    copy_rows(q, q.at(b, h, first), queries, dim, room.q);
    copy_rows(grad, grad.at(b, h, first), queries, value_dim, room.grad);
    memset(static_cast<void *>(room.grad_q), 0, sizeof(T) * queries * padded<T>(dim));

    const int64_t keys = shape.seen_to(first + queries - 1);
    for (int64_t key = shape.first_block(first); key < keys; key += kKeyBlock) {
      const int64_t n = min_of(kKeyBlock, keys - key);
      const Rows<T> k_rows = room.k.block(k, b, kv_head, key, n, dim);
      const Rows<T> v_rows = room.v.block(v, b, kv_head, key, n, value_dim);
      for (int64_t i = 0; i < count; i++) {
        Panel &p = panels[i];
        p.seen = max_of(int64_t(0), min_of(n, shape.seen_to(p.first + p.lanes - 1) - key));
        if (p.seen == 0) continue;
        if (bias) bias.fill<S>(room.bias, shape, b, h, p.first, p.lanes, key, p.seen);
        if (dropout) dropout.fill(room.kept, shape, b, h, p.first, key, p.seen);
        with_vectors<T>(p.lanes, [&](auto vecs) {
          score<decltype(vecs)::value>(p, k_rows, v_rows, key, n, room);
        });
        if (grad_mask.data) write_grad_mask(p, b, h, key);
      }
      if (grad_v.data) {
        add_key_grads(panels, count, n, &Panel::p, room.grad, value_dim,
                      sums.v + key * padded<T>(value_dim));
      }
      if (grad_k.data) {
        add_key_grads(panels, count, n, &Panel::ds, room.q, dim, sums.k + key * padded<T>(dim));
      }
      if (grad_q.data) add_query_grads(panels, count, k_rows, room.grad_q);
    }
    if (grad_mask.data) clear_grad_mask(b, h, first, queries);
    if (grad_q.data) {
      write_rows(grad_q, grad_q.at(b, h, first), room.grad_q, queries, dim, T(shape.scale),
                 room.rows);
    }
  }

  void start(Panel &p, int64_t b, int64_t h, int64_t first, int64_t i, int64_t queries,
             const Room &room) const {
    const int64_t dim = shape.dim, value_dim = shape.value_dim;
    p.first = first + i * W;
    p.lanes = min_of(int64_t(W), first + queries - p.first);
    p.q = room.panels + i * W * (dim + value_dim);
    p.grad = p.q + W * dim;
    p.p = room.scores + i * W * 2 * kKeyBlock;
    p.ds = p.p + W * kKeyBlock;
    pack_rows_transposed(p.q, q, q.at(b, h, p.first), p.lanes, dim, T(shape.scale * kLog2e),
                         room.rows);
    pack_rows_transposed(p.grad, grad, grad.at(b, h, p.first), p.lanes, value_dim, T(1), room.rows);
    const T *lse_row = lse + b * lse_batch + h * lse_head + p.first * lse_query;
    for (int64_t c = 0; c < W; c++) {
      // Without any key P is zero, as it is for lanes that stand for no query.
      const T x = c < p.lanes ? lse_row[c * lse_query] : -T(INFINITY);
      p.lse[c] = x == -T(INFINITY) ? T(INFINITY) : x * T(kLog2e);
      p.delta[c] = T(0);
    }
    if (!wants_scores()) return;
    for (int64_t c = 0; c < p.lanes; c++) {
      const T *x = row_of(out, out.at(b, h, p.first + c), value_dim, room.rows);
      const T *y = row_of(grad, grad.at(b, h, p.first + c), value_dim, room.rows + value_dim);
      T sum = T(0);
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < value_dim; d++) sum += x[d] * y[d];
      p.delta[c] = sum;
    }
  }

  static const T *row_of(const HeadArray<const S> &x, const S *row, int64_t n, T *room) {
    if constexpr (std::is_same<S, T>::value) {
      if (x.feature == 1) return row;
    }
    read_run(room, row, x.feature, n);
    return room;
  }

  // P and dS of a panel against a block of n keys.
  template <int Vecs>
  VT_NOINLINE void score(Panel &p, const Rows<T> &k_rows, const Rows<T> &v_rows, int64_t key,
                         int64_t n, const Room &room) const {
    const ScoreBlock<T> block = {p.q,
                                 k_rows,
                                 shape.dim,
                                 room.bias,
                                 p.seen,
                                 p.first - key + shape.low,
                                 p.first - key + shape.high};
    block.template each_tile<Vecs>([&](auto &tile, int64_t i) {
      tile.each([&](vec<T> &x, int, int c) { x = exp2_lanes<T>(x - load(p.lse + c * L)); });
      tile.store_to(p.p + i * W, W);
    });
    if (wants_scores()) {
      for_row_tiles(p.seen, [&](auto rows, int64_t i) {
        Tile<T, decltype(rows)::value, Vecs> tile;
        tile.clear();
        tile.add_product(shape.value_dim, v_rows.data + i * v_rows.row, v_rows.row, v_rows.col,
                         p.grad, W);
        tile.each([&](vec<T> &x, int r, int c) {
          if (dropout) x *= load(room.kept + (i + r) * W + c * L);
          x = load(p.p + (i + r) * W + c * L) * (x - load(p.delta + c * L));
        });
        tile.store_to(p.ds + i * W, W);
      });
    }
    if (dropout) {
#pragma omp simd
      for (int64_t i = 0; i < p.seen * W; i++) p.p[i] *= room.kept[i];
    }
    // Sums over queries go by tiles of keys, the last of which may reach past what this panel sees.
    const int64_t end = min_of(n, p.seen + kTileRows);
    memset(static_cast<void *>(p.p + p.seen * W), 0, sizeof(T) * (end - p.seen) * W);
    memset(static_cast<void *>(p.ds + p.seen * W), 0, sizeof(T) * (end - p.seen) * W);
  }

  // to (n keys x features) += scores^T (n x queries) rows (queries x features).
  void add_key_grads(const Panel *panels, int64_t count, int64_t n, T *Panel::*scores,
                     const T *rows, int64_t features, T *to) const {
    const int64_t width = padded<T>(features);
    for (int64_t j = 0; j < width; j += W) {
      with_vectors<T>(width - j, [&](auto vecs) {
        for_row_tiles(n, [&](auto height, int64_t i) {
          Tile<T, decltype(height)::value, decltype(vecs)::value> tile;
          T *const c = to + i * width + j;
          tile.each([&](vec<T> &x, int r, int q) { x = load(c + r * width + q * L); });
          for (int64_t a = 0; a < count; a++) {
            const Panel &p = panels[a];
            if (p.seen <= i) continue;
            tile.add_product(p.lanes, p.*scores + i * W, W, 1, rows + a * W * width + j, width);
          }
          tile.store_to(c, width);
        });
      });
    }
  }

  // to (queries x dim) += dS (queries x keys) k (keys x dim).
  void add_query_grads(const Panel *panels, int64_t count, const Rows<T> &k_rows, T *to) const {
    const int64_t width = padded<T>(shape.dim);
    for (int64_t j = 0; j < width; j += W) {
      with_vectors<T>(width - j, [&](auto vecs) {
        for (int64_t a = 0; a < count; a++) {
          const Panel &p = panels[a];
          for_row_tiles(p.lanes, [&](auto height, int64_t i) {
            Tile<T, decltype(height)::value, decltype(vecs)::value> tile;
            T *const c = to + (a * W + i) * width + j;
            tile.each([&](vec<T> &x, int r, int q) { x = load(c + r * width + q * L); });
            tile.add_product(p.seen, p.ds + i, 1, W, k_rows.data + j, width);
            tile.store_to(c, width);
          });
        }
      });
    }
  }

  // Writes n rows of sums times `factor`, rounded once.
  void write_rows(const HeadArray<S> &x, S *to, const T *sums, int64_t n, int64_t features,
                  T factor, T *room) const {
    const int64_t width = padded<T>(features);
    for (int64_t i = 0; i < n; i++) {
      for (int64_t c = 0; c < features; c++) room[c] = sums[i * width + c] * factor;
      write_run(to + i * x.time, x.feature, room, features);
    }
  }

  void write_key_grads(int64_t b, int64_t kv_head, const KeyGrads &sums, T *room) const {
    if (grad_k.data) {
      write_rows(grad_k, grad_k.at(b, kv_head, 0), sums.k, shape.keys, shape.dim, T(shape.scale),
                 room);
    }
    if (grad_v.data) {
      write_rows(grad_v, grad_v.at(b, kv_head, 0), sums.v, shape.keys, shape.value_dim, T(1), room);
    }
  }

  void write_grad_mask(const Panel &p, int64_t b, int64_t h, int64_t key) const {
    for (int64_t c = 0; c < p.lanes; c++) {
      T *const to = grad_mask.at(b, h, p.first + c) + key * grad_mask.feature;
      for (int64_t j = 0; j < p.seen; j++) {
        to[j * grad_mask.feature] = p.ds[j * W + c];
      }
    }
  }

  // Zeros for the keys that a panel of queries did not look at.
  void clear_grad_mask(int64_t b, int64_t h, int64_t first, int64_t queries) const {
    for (int64_t i = 0; i < queries; i++) {
      const int64_t panel = i / W, last = min_of(queries, (panel + 1) * W) - 1;
      T *const to = grad_mask.at(b, h, first + i);
      const int64_t begin = shape.first_block(first), end = shape.seen_to(first + last);
      for (int64_t j = 0; j < min_of(begin, shape.keys); j++) to[j * grad_mask.feature] = T(0);
      for (int64_t j = end; j < shape.keys; j++) to[j * grad_mask.feature] = T(0);
    }
  }
};

// Multiply-adds that are worth a thread of their own.
constexpr int64_t kGrainWork = 1 << 20;

template <class S>
vt_status run(const AttentionBackward<S> &backward) {
  using Backward = AttentionBackward<S>;
  using KeyGrads = typename Backward::KeyGrads;
  const AttentionShape &shape = backward.shape;
  const int64_t kv_heads = shape.kv_heads, heads = shape.batch * kv_heads;
  if (heads == 0) return VT_OK;
  const int64_t blocks = div_up(shape.queries, kQueryBlock<typename Backward::T>);
  const int64_t work = shape.queries * shape.mean_keys() * (shape.dim + shape.value_dim) *
                       (shape.heads / kv_heads) * 5 / 2;
  // With fewer heads than threads the queries of a head are shared out too, and each part sums the
  // gradients of the keys for itself.
  const int64_t parts =
      max_of(int64_t(1), min_of(blocks, min_of(vt_get_num_threads() / heads, work / kGrainWork)));
  Workspace frame;
  KeyGrads *const sums = parts > 1 ? frame.take<KeyGrads>(heads * parts) : nullptr;
  if (parts > 1) {
    if (!sums) return VT_ERROR_OUT_OF_MEMORY;
    for (int64_t i = 0; i < heads * parts; i++) {
      if (!backward.reserve(frame, sums[i])) return VT_ERROR_OUT_OF_MEMORY;
    }
  }
  vt_status status = VT_OK;
  parallel_for(heads * parts, 1 + kGrainWork / (work / parts + 1), [&](int64_t begin, int64_t end) {
    Workspace frame;
    typename Backward::Room room;
    KeyGrads own;
    if (!backward.reserve(frame, room) || (parts == 1 && !backward.reserve(frame, own))) {
      __atomic_store_n(&status, VT_ERROR_OUT_OF_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    for (int64_t i = begin; i < end; i++) {
      const int64_t b = i / parts / kv_heads, h = i / parts % kv_heads;
      KeyGrads &to = parts == 1 ? own : sums[i];
      backward.clear(to);
      backward.head(b, h, i % parts, parts, to, room);
      if (parts == 1) backward.write_key_grads(b, h, to, room.rows);
    }
  });
  if (parts == 1 || status != VT_OK) return status;
  auto *const room = frame.take<typename Backward::T>(max_of(shape.dim, shape.value_dim));
  if (!room) return VT_ERROR_OUT_OF_MEMORY;
  for (int64_t i = 0; i < heads; i++) {
    for (int64_t part = 1; part < parts; part++) {
      backward.add(sums[i * parts], sums[i * parts + part]);
    }
    backward.write_key_grads(i / kv_heads, i % kv_heads, sums[i * parts], room);
  }
  return VT_OK;
}

}  // namespace

// arrays: grad (B, H, Tq, Dv), q, k, v, mask, slopes, cu_queries, cu_keys as in sdpa_cpu, out
// (B, H, Tq, Dv), lse (B, H, Tq), then the outputs grad_q, grad_k, grad_v and grad_mask
// (B, H, Tq, Tk; of the dtype of lse), each of which may be none; values as in sdpa_cpu.
vt_status sdpa_backward_cpu(const vt_array *arrays, const vt_value *values, vt_context *) {
  const AttentionShape whole = attention_shape(arrays[1], arrays[2], arrays[3], values);
  return dispatch<kFloating>(arrays[1].dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    using T = typename AttentionBackward<S>::T;
    const vt_array &lse = arrays[9];
    const auto sequence = [&](const AttentionShape &shape, int64_t query, int64_t key) {
      return run(AttentionBackward<S>{
          shape, HeadArray<const S>(arrays[0]).from(query),
          HeadArray<const S>(arrays[1]).from(query), HeadArray<const S>(arrays[2]).from(key),
          HeadArray<const S>(arrays[3]).from(key), HeadArray<const S>(arrays[8]).from(query),
          AttentionBias(arrays[4], arrays[5]), AttentionDropout(values),
          HeadArray<S>(arrays[10]).from(query), HeadArray<S>(arrays[11]).from(key),
          HeadArray<S>(arrays[12]).from(key), HeadArray<T>(arrays[13]),
          data_of<const T>(lse) + query * lse.strides[2], lse.strides[0], lse.strides[1],
          lse.strides[2]});
    };
    return each_sequence(whole, values, arrays[6], arrays[7], sequence);
  });
}

}  // namespace VT_NS
