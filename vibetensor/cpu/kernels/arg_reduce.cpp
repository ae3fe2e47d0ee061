// argmax, argmin: the first index of the extreme element; NaN is more extreme than any number.
#include "vibetensor/cpu/kernels/reduce_ops.h"

namespace VT_NS {

namespace {

constexpr int64_t kBlock = 1024;
constexpr int64_t kPieceWork = 65536;
constexpr int64_t kMaxPieces = 64;
constexpr int64_t kGrainWork = 32768;

template <class V>
struct Best {
  V value;
  int64_t index;  // -1: nothing seen yet
};

template <class V, bool Max>
VT_INLINE bool beats(V a, V b) {
  return (Max ? a > b : a < b) | ((a != a) & (b == b));
}

// The first index at which x is `value`, which is among them; NaN stands for any NaN.
template <class V>
VT_INLINE int64_t find_first(const V *x, int64_t n, V value) {
  int64_t i = 0;
  if constexpr (sizeof(V) >= 4) {
    // One branch for many elements: whether a run holds the value, then where.
    constexpr int64_t run = 64;
    for (; i + run <= n; i += run) {
      lane_mask<V> hit{};
#pragma GCC unroll 64
      for (int64_t k = 0; k < run; k += kLanes<V>) {
        const vec<V> v = load(x + i + k);
        hit |= value == value ? v == value : v != v;
      }
      if (fold_lanes<lane_index<V>>(hit, [](auto a, auto b) { return a | b; })) break;
    }
  }
  if (value == value) {
    while (i < n - 1 && !(x[i] == value)) i++;
  } else {
    while (i < n - 1 && x[i] == x[i]) i++;
  }
  return i;
}

// Takes a row of n elements into `best`; the first one has index `base`.
template <class T, bool Max>
void scan_row(const T *x, int64_t stride, int64_t n, int64_t base, Best<acc_t<T>> &best) {
  using V = acc_t<T>;
  using Core = std::conditional_t<Max, MaxCore<V>, MinCore<V>>;
  alignas(64) V buffer[kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t m = min_of(n - i, kBlock);
    const V *p = row_as_acc(x + i * stride, stride, m, buffer);
    const V value = VectorLanes<Core, V>::row(p, m);
    if (best.index < 0 || beats<V, Max>(value, best.value)) {
      best.value = value;
      best.index = base + i + find_first(p, m, value);
    }
  }
}

// The best of flattened elements [begin, end) of a layout whose dimensions are in logical order.
template <class T, bool Max>
Best<acc_t<T>> scan_range(const T *x, const Layout<1> &l, int64_t begin, int64_t end) {
  Best<acc_t<T>> best{acc_t<T>(0), -1};
  int64_t base = begin;
  for_runs(l, begin, end, [&](const int64_t *offset, int64_t n) {
    scan_row<T, Max>(x + offset[0], inner_stride(l, 0), n, base, best);
    base += n;
  });
  return best;
}

// One long row: pieces of a fixed length, the best of each, then the best of those in order.
template <class T, bool Max>
int64_t scan_all(const T *x, const Layout<1> &l, int64_t n) {
  using V = acc_t<T>;
  if (n < 2 * kPieceWork) return scan_range<T, Max>(x, l, 0, n).index;
  const int64_t length = max_of(kPieceWork, div_up(n, kMaxPieces)), pieces = div_up(n, length);
  Best<V> part[kMaxPieces];
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      part[i] = scan_range<T, Max>(x, l, i * length, min_of((i + 1) * length, n));
    }
  });
  Best<V> best{V(0), -1};
  for (int64_t i = 0; i < pieces; i++) {
    if (best.index < 0 || beats<V, Max>(part[i].value, best.value)) best = part[i];
  }
  return best.index;
}

// `cols` neighbouring rows of n elements, `stride` apart within a row.
template <class T, bool Max>
void scan_columns(const T *x, int64_t stride, int64_t n, int64_t cols, int64_t *out,
                  int64_t out_stride) {
  using V = acc_t<T>;
  using I = std::conditional_t<sizeof(V) == 8, int64_t, int32_t>;
  alignas(64) V best[256], room[256];
  alignas(64) I index[256];
  for (int64_t c = 0; c < cols; c++) index[c] = 0;
  load_row(best, x, 1, cols);
  for (int64_t r = 1; r < n; r++) {
    const V *p = row_as_acc(x + r * stride, 1, cols, room);
#pragma omp simd
    for (int64_t c = 0; c < cols; c++) {
      const bool take = beats<V, Max>(p[c], best[c]);
      best[c] = take ? p[c] : best[c];
      index[c] = take ? static_cast<I>(r) : index[c];
    }
  }
  for (int64_t c = 0; c < cols; c++) out[c * out_stride] = index[c];
}

template <class T, bool Max>
void arg_extreme(const vt_array &in, const vt_array &out, int64_t dim) {
  const T *x = data_of<T>(in);
  int64_t *to = data_of<int64_t>(out);
  if (dim < 0) {
    *to = scan_all<T, Max>(x, layout_of(-1, false, in), in.numel);
    return;
  }
  const int64_t n = in.ndim > 0 ? in.sizes[dim] : 1, stride = in.ndim > 0 ? in.strides[dim] : 0;
  Layout<2> rows;
  for (int d = in.ndim - 1; d >= 0; d--) {
    if (d != dim) rows.push(in.sizes[d], in.strides[d], out.strides[d]);
  }
  rows.sort();
  rows.coalesce();

  if (out.numel < 16 && in.numel >= 2 * kPieceWork) {
    Layout<1> row;
    row.push(n, stride);
    Walker<2> w(rows);
    for (int64_t i = 0; i < out.numel; i++, w.next()) {
      to[w.offset[1]] = scan_all<T, Max>(x + w.offset[0], row, n);
    }
    return;
  }
  const bool columns = rows.ndim > 0 && rows.strides[0][0] == 1 && llabs(stride) > 1 &&
                       n <= INT32_MAX && rows.sizes[0] >= kLanes<acc_t<T>>;
  const int64_t grain = max_of<int64_t>(1, kGrainWork / max_of<int64_t>(n, 1));
  parallel_for(out.numel, grain, [&](int64_t begin, int64_t end) {
    for_runs(rows, begin, end, [&](const int64_t *offset, int64_t count) {
      const T *p = x + offset[0];
      int64_t *q = to + offset[1];
      const int64_t in_step = inner_stride(rows, 0), out_step = inner_stride(rows, 1);
      if (columns) {
        for (int64_t c = 0; c < count; c += 256) {
          scan_columns<T, Max>(p + c, stride, n, min_of<int64_t>(count - c, 256), q + c * out_step,
                               out_step);
        }
        return;
      }
      for (int64_t r = 0; r < count; r++) {
        Best<acc_t<T>> best{acc_t<T>(0), -1};
        scan_row<T, Max>(p + r * in_step, stride, n, 0, best);
        q[r * out_step] = best.index;
      }
    });
  });
}

template <bool Max>
inline vt_status run_arg(const vt_array *a, int64_t dim) {
  if (a[0].numel == 0) return VT_OK;
  return dispatch<kIntegers | kFloating>(bool_as_byte(a[0].dtype), [&](auto tag) {
    arg_extreme<typename decltype(tag)::type, Max>(a[0], a[1], dim);
  });
}

}  // namespace

// values: dim, or -1 for the flattened input (the output then has one element).
vt_status argmax_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return run_arg<true>(a, v[0].i);
}

vt_status argmin_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return run_arg<false>(a, v[0].i);
}

}  // namespace VT_NS
