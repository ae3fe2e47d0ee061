// var: the mean squared distance from the mean.
//
// Blocks that fit the cache are read twice: once for their mean, once for the squares around it.
// Blocks are merged by the count, mean and sum of squares of each (Chan, Golub, LeVeque 1979).
#include "vibetensor/cpu/kernels/reduce_ops.h"

namespace VT_NS {

namespace {

struct Moments {
  double count, mean, squares;
  VT_INLINE void merge(double n, double m, double s) {
    const double total = count + n, distance = m - mean;
    if (total == 0) return;
    mean += distance * (n / total);
    squares += s + distance * distance * (count * (n / total));
    count = total;
  }
};

constexpr int64_t kBlock = 2048;  // elements of a row, or of a few columns, taken at once

// The moments of a block from sums of the distances from `shift` and of their squares. The shift is
// the mean rounded to the type of the elements.
VT_INLINE void merge_block(Moments &m, double n, double shift, double sum, double squares) {
  const double offset = sum / n;
  m.merge(n, shift + offset, squares - sum * offset);
}

template <class V>
VT_INLINE void row_block(const V *x, int64_t n, Moments &m) {
  constexpr int64_t K = kLanes<V>;
  const auto add = [](auto a, auto b) { return a + b; };
  vec<V> s0{}, s1{}, s2{}, s3{};
  int64_t i = 0;
  for (; i + 4 * K <= n; i += 4 * K) {
    s0 += load(x + i);
    s1 += load(x + i + K);
    s2 += load(x + i + 2 * K);
    s3 += load(x + i + 3 * K);
  }
  V sum = fold_lanes<V>((s0 + s1) + (s2 + s3), add);
  for (int64_t j = i; j < n; j++) sum += x[j];
  const V mean = sum / static_cast<V>(n);
  vec<V> q0{}, q1{};
  s0 = s1 = vec<V>{};
  for (i = 0; i + 2 * K <= n; i += 2 * K) {
    const vec<V> a = load(x + i) - mean, b = load(x + i + K) - mean;
    s0 += a;
    s1 += b;
    q0 += a * a;
    q1 += b * b;
  }
  V rest = fold_lanes<V>(s0 + s1, add), squares = fold_lanes<V>(q0 + q1, add);
  for (; i < n; i++) {
    const V a = x[i] - mean;
    rest += a;
    squares += a * a;
  }
  merge_block(m, static_cast<double>(n), mean, rest, squares);
}

template <class V>
VT_NOINLINE void column_block(const V *x, int64_t stride, int64_t rows, int64_t cols, Moments *m) {
  alignas(64) V mean[256], sum[256], squares[256];
  for (int64_t c = 0; c < cols; c++) mean[c] = 0;
  for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
    for (int64_t c = 0; c < cols; c++) mean[c] += x[r * stride + c];
  }
  for (int64_t c = 0; c < cols; c++) {
    mean[c] /= static_cast<V>(rows);
    sum[c] = squares[c] = 0;
  }
  for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
    for (int64_t c = 0; c < cols; c++) {
      const V a = x[r * stride + c] - mean[c];
      sum[c] += a;
      squares[c] += a * a;
    }
  }
  const double n = static_cast<double>(rows);
  for (int64_t c = 0; c < cols; c++) merge_block(m[c], n, mean[c], sum[c], squares[c]);
}

template <class T>
struct Var {
  using V = acc_t<T>;
  static constexpr int64_t kTile = 256;

  static void init(char *states, int64_t n) { memset(states, 0, n * sizeof(Moments)); }

  static void block(const char *data, int64_t outer_stride, int64_t inner_stride, int64_t outer,
                    int64_t inner, char *states) {
    const T *x = reinterpret_cast<const T *>(data);
    Moments *m = reinterpret_cast<Moments *>(states);
    constexpr bool kInPlace = is_same<T, V>::value;
    alignas(64) V buffer[8 * kBlock];
    if (outer == 1 || llabs(inner_stride) < llabs(outer_stride)) {
      for (int64_t r = 0; r < outer; r++, x += outer_stride) {
        for (int64_t i = 0; i < inner; i += kBlock) {
          const int64_t n = min_of(inner - i, kBlock);
          row_block<V>(row_as_acc(x + i * inner_stride, inner_stride, n, buffer), n, m[r]);
        }
      }
      return;
    }
    constexpr int64_t kRows = 8 * kBlock / kTile;
    for (int64_t r = 0; r < inner; r += kRows, x += kRows * inner_stride) {
      const int64_t rows = min_of(inner - r, kRows);
      if constexpr (kInPlace) {
        if (outer_stride == 1) {
          column_block<V>(x, inner_stride, rows, outer, m);
          continue;
        }
      }
      for (int64_t k = 0; k < rows; k++) {
        load_row(buffer + k * kTile, x + k * inner_stride, outer_stride, outer);
      }
      column_block<V>(buffer, kTile, rows, outer, m);
    }
  }

  static void merge(char *states, const char *others, int64_t n) {
    Moments *m = reinterpret_cast<Moments *>(states);
    const Moments *o = reinterpret_cast<const Moments *>(others);
    for (int64_t i = 0; i < n; i++) m[i].merge(o[i].count, o[i].mean, o[i].squares);
  }

  static void finish(const char *states, int64_t n, char *out, int64_t out_stride,
                     const ReduceInfo &info) {
    const Moments *m = reinterpret_cast<const Moments *>(states);
    T *to = reinterpret_cast<T *>(out);
    const double freedom = static_cast<double>(info.count) - info.correction;
    for (int64_t i = 0; i < n; i++) {
      const double v = m[i].squares / (freedom > 0 ? freedom : 0.0);
      to[i * out_stride] = static_cast<T>(static_cast<V>(info.count > 0 ? v : __builtin_nan("")));
    }
  }
};

template <class T>
inline vt_status run_var(const vt_array &in, const vt_array &out, double correction) {
  static constexpr Reducer reducer = {sizeof(Moments), Var<T>::kTile, Var<T>::init,
                                      Var<T>::block,   Var<T>::merge, Var<T>::finish};
  return run_reduction(reducer, in, out, correction);
}

}  // namespace

// values: correction (a number). Floating types; of complex ones the caller adds the two parts.
vt_status var_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  if (a[1].dtype != a[0].dtype) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return run_var<T>(a[0], a[1], v[0].re);
  });
}

}  // namespace VT_NS
