// Layer norm and RMS norm over the trailing elements of each row, and their gradients.
#include "vibetensor/cpu/kernels/row_math.h"
#include "vibetensor/cpu/kernels/runs.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainWork = 16384;
constexpr int64_t kInline = 2048;  // elements of scratch rows on the stack

// A weight or bias as contiguous values of the compute type; it may have another floating dtype
// than the input. `room` holds its elements, and is used only when they cannot be read in place.
template <class V>
inline const V *parameter(const vt_array &a, V *room) {
  if (!given(a)) return nullptr;
  const V *result = nullptr;
  dispatch<kFloating>(a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    result = Runs<T, V>(a).read(0, a.numel, room);
  });
  return result;
}

template <class V>
inline void store_parameter(const vt_array &a, const V *from) {
  dispatch<kFloating>(a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Runs<T, V>(a).write(0, a.numel, from);
  });
}

inline bool is_parameter(const vt_array &a) { return !given(a) || ((kFloating >> a.dtype) & 1u); }

// A function object over the optional weight and bias rows, called with those that are there.
template <class V, class F>
VT_INLINE void map_row(V *y, int64_t n, const V *x, const V *weight, const V *bias, const F &f) {
  if (weight && bias) {
    row_map(y, n, [&](auto p, auto w, auto b) { return f(p) * w + b; }, x, weight, bias);
  } else if (weight) {
    row_map(y, n, [&](auto p, auto w) { return f(p) * w; }, x, weight);
  } else if (bias) {
    row_map(y, n, [&](auto p, auto b) { return f(p) + b; }, x, bias);
  } else {
    row_map(y, n, [&](auto p) { return f(p); }, x);
  }
}

template <class T, bool Rms>
vt_status norm_forward(const vt_array &input, const vt_array &weight, const vt_array &bias,
                       const vt_array &out, const vt_array &mean, const vt_array &rstd, int64_t n,
                       double eps) {
  using V = acc_t<T>;
  if (input.numel == 0) return VT_OK;
  const int64_t rows = input.numel / n;
  const Runs<T> x(input), y(out);
  const Scratch<V, kInline> parameters(2 * n);
  if (!parameters.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const V *w = parameter(weight, parameters.data());
  const V *b = Rms ? nullptr : parameter(bias, parameters.data() + n);
  V *means = Rms || !given(mean) ? nullptr : data_of<V>(mean);
  V *rstds = given(rstd) ? data_of<V>(rstd) : nullptr;
  bool failed = false;
  parallel_for(rows, max_of<int64_t>(1, kGrainWork / n), [&](int64_t begin, int64_t end) {
    const Scratch<V, kInline> room(2 * n);
    if (!room.ok()) {
      __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
      return;
    }
    for (int64_t r = begin; r < end; r++) {
      const V *p = x.read(r * n, n, room.data());
      V *q = y.target(r * n, room.data() + n);
      V m = V(0), squares;
      const V count = static_cast<V>(n);
      if (Rms) {
        squares = row_fold_add<V>(n, [](auto v) { return v * v; }, p);
      } else {
        // The second pass also finds by how much the first one missed the mean.
        m = row_sum(p, n) / count;
        const CentredSums<V> sums = row_centred(p, n, m);
        m += sums.first / count;
        squares = sums.second - sums.first * (sums.first / count);
        squares = squares < V(0) ? V(0) : squares;
      }
      const V s = V(1) / vsqrt(squares / count + static_cast<V>(eps));
      map_row(q, n, p, w, b, [=](auto v) { return Rms ? v * s : (v - m) * s; });
      y.write(r * n, n, q);
      if (means) means[r] = m;
      if (rstds) rstds[r] = s;
    }
  });
  return failed ? VT_ERROR_OUT_OF_MEMORY : VT_OK;
}

// What one thread needs for a block of rows, and the sums over rows it keeps.
constexpr int kRows = 4;

template <class V>
struct RowBlock {
  const V *g[kRows], *x[kRows];
  V mean[kRows], rstd[kRows];
};

// sums[c] += the sum over the block's rows of g (x - mean) rstd, and for the bias of g.
template <int Rows, class V>
VT_INLINE void add_parameter_grads(const RowBlock<V> &b, int64_t n, V *weight, V *bias) {
  constexpr int64_t K = kLanes<V>;
  int64_t i = 0;
  for (; i + K <= n; i += K) {
    vec<V> dw{}, db{};
#pragma GCC unroll 4
    for (int r = 0; r < Rows; r++) {
      const vec<V> g = load(b.g[r] + i);
      dw += g * ((load(b.x[r] + i) - b.mean[r]) * b.rstd[r]);
      db += g;
    }
    if (weight) store(weight + i, load(weight + i) + dw);
    if (bias) store(bias + i, load(bias + i) + db);
  }
  for (; i < n; i++) {
    V dw = V(0), db = V(0);
    for (int r = 0; r < Rows; r++) {
      dw += b.g[r][i] * ((b.x[r][i] - b.mean[r]) * b.rstd[r]);
      db += b.g[r][i];
    }
    if (weight) weight[i] += dw;
    if (bias) bias[i] += db;
  }
}

// The sums of g w and of g w (x - mean).
template <class V>
VT_INLINE CentredSums<V> weighted_sums(const V *g, const V *x, const V *w, V mean, int64_t n) {
  constexpr int64_t K = kLanes<V>;
  vec<V> a{}, b{}, c{}, d{};
  const vec<V> one = splat(V(1));
  int64_t i = 0;
  for (; i + 2 * K <= n; i += 2 * K) {
    const vec<V> p = load(g + i) * (w ? load(w + i) : one);
    const vec<V> q = load(g + i + K) * (w ? load(w + i + K) : one);
    a += p;
    b += q;
    c += p * (load(x + i) - mean);
    d += q * (load(x + i + K) - mean);
  }
  for (; i < n; i += K) {
    const int64_t m = n - i;
    const bool part = m < K;
    vec<V> p = part ? load_part(g + i, m, V(0)) : load(g + i);
    if (w) p *= part ? load_part(w + i, m, V(0)) : load(w + i);
    a += p;
    c += p * ((part ? load_part(x + i, m, mean) : load(x + i)) - mean);
  }
  return {fold_add<V>(a + b), fold_add<V>(c + d)};
}

// dx = rstd * (g w - mean(g w) - xhat mean(g w xhat)); without the first mean for RMS norm.
template <bool Rms, class V>
VT_INLINE void input_grad(const V *g, const V *x, const V *w, V mean, V rstd, int64_t n, V *out) {
  const V scale = V(1) / static_cast<V>(n);
  const CentredSums<V> sums = weighted_sums(g, x, w, mean, n);
  const V c1 = sums.first * scale, c2 = sums.second;
  // dx = rstd g w - k (x - mean) - rstd c1
  const V k = c2 * rstd * rstd * rstd * scale, shift = Rms ? V(0) : rstd * c1;
  if (w) {
    row_map(
        out, n, [=](auto a, auto p, auto q) { return a * q * rstd - ((p - mean) * k + shift); }, g,
        x, w);
  } else {
    row_map(out, n, [=](auto a, auto p) { return a * rstd - ((p - mean) * k + shift); }, g, x);
  }
}

template <class T, bool Rms>
vt_status norm_backward(const vt_array &grad, const vt_array &input, const vt_array &weight,
                        const vt_array &mean, const vt_array &rstd, const vt_array &grad_input,
                        const vt_array &grad_weight, const vt_array &grad_bias, int64_t n) {
  using V = acc_t<T>;
  const bool want_weight = given(grad_weight), want_bias = !Rms && given(grad_bias);
  const int64_t sums = int64_t(want_weight) + int64_t(want_bias);
  const int64_t rows = n > 0 ? input.numel / n : 0;
  const Runs<T> g(grad), x(input), dx(given(grad_input) ? grad_input : input);
  const Scratch<V, kInline> parameters(2 * n);
  if (!parameters.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const V *w = parameter(weight, parameters.data());
  const V *means = Rms ? nullptr : data_of<V>(mean), *rstds = data_of<V>(rstd);

  // Rows go in pieces that depend on the shape only; each has its own sums, added up at the end.
  const int64_t limit = clamp_to<int64_t>((int64_t(1) << 21) / max_of<int64_t>(n, 1), 1, 64);
  const int64_t length = (max_of<int64_t>(div_up(rows, limit), 16) + kRows - 1) & -int64_t(kRows);
  const int64_t pieces = div_up(rows, length);
  const Scratch<V, kInline> partial(pieces * sums * n);
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  bool failed = false;
  const int64_t grain = max_of<int64_t>(1, kGrainWork / max_of<int64_t>(n * length, 1));
  parallel_for(pieces, grain, [&](int64_t begin, int64_t end) {
    const Scratch<V, kInline> room((2 * kRows + 1) * n);
    if (!room.ok()) {
      __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
      return;
    }
    V *const result_room = room.data() + 2 * kRows * n;
    for (int64_t piece = begin; piece < end; piece++) {
      V *const dw = want_weight ? partial.data() + piece * sums * n : nullptr;
      V *const db =
          want_bias ? partial.data() + (piece * sums + (want_weight ? 1 : 0)) * n : nullptr;
      for (int64_t c = 0; c < sums * n; c++) partial[piece * sums * n + c] = V(0);
      const int64_t stop = min_of((piece + 1) * length, rows);
      for (int64_t r = piece * length; r < stop; r += kRows) {
        const int count = static_cast<int>(min_of<int64_t>(stop - r, kRows));
        RowBlock<V> block;
        for (int k = 0; k < count; k++) {
          block.g[k] = g.read((r + k) * n, n, room.data() + 2 * k * n);
          block.x[k] = x.read((r + k) * n, n, room.data() + (2 * k + 1) * n);
          block.mean[k] = Rms ? V(0) : means[r + k];
          block.rstd[k] = rstds[r + k];
          if (given(grad_input)) {
            V *const result = dx.target((r + k) * n, result_room);
            input_grad<Rms>(block.g[k], block.x[k], w, block.mean[k], block.rstd[k], n, result);
            dx.write((r + k) * n, n, result);
          }
        }
        if (sums == 0) continue;
        if (count == kRows) {
          add_parameter_grads<kRows>(block, n, dw, db);
        } else {
          for (int k = 0; k < count; k++) {
            const RowBlock<V> one = {{block.g[k]}, {block.x[k]}, {block.mean[k]}, {block.rstd[k]}};
            add_parameter_grads<1>(one, n, dw, db);
          }
        }
      }
    }
  });
  if (failed) return VT_ERROR_OUT_OF_MEMORY;

  const vt_array *const outputs[2] = {want_weight ? &grad_weight : &grad_bias, &grad_bias};
  for (int64_t s = 0; s < sums; s++) {
    V *const total = parameters.data() + n;
    parallel_for(n, max_of<int64_t>(256, kGrainWork / max_of<int64_t>(pieces, 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t c = begin; c < end; c++) total[c] = V(0);
                   for (int64_t p = 0; p < pieces; p++) {
                     const V *from = partial.data() + (p * sums + s) * n;
#pragma omp simd
                     for (int64_t c = begin; c < end; c++) total[c] += from[c];
                   }
                 });
    store_parameter(*outputs[s], total);
  }
  return VT_OK;
}

}  // namespace

// arrays: input, weight?, bias?, out, mean, rstd. values: n (the product of the normalised trailing
// dimensions), eps. mean and rstd are contiguous, float (double for double); they may be missing.
vt_status layer_norm_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  if (!is_parameter(a[1]) || !is_parameter(a[2])) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return norm_forward<T, false>(a[0], a[1], a[2], a[3], a[4], a[5], v[0].i, v[1].re);
  });
}

// arrays: grad, input, weight?, mean, rstd, then grad_input?, grad_weight?, grad_bias?. values: n.
vt_status layer_norm_backward_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  if (!is_parameter(a[2])) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(a[1].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return norm_backward<T, false>(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], v[0].i);
  });
}

// arrays: input, weight?, out, rstd. values: n, eps.
vt_status rms_norm_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  if (!is_parameter(a[1])) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return norm_forward<T, true>(a[0], a[1], a[1], a[2], a[3], a[3], v[0].i, v[1].re);
  });
}

// arrays: grad, input, weight?, rstd, then grad_input?, grad_weight?. values: n.
vt_status rms_norm_backward_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  if (!is_parameter(a[2])) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(a[1].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return norm_backward<T, true>(a[0], a[1], a[2], a[3], a[3], a[4], a[5], a[5], v[0].i);
  });
}

}  // namespace VT_NS
