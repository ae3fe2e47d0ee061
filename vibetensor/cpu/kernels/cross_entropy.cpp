// Cross entropy of logits with class indices: log-softmax and negative log-likelihood in one pass,
// and its gradient.
#include "vibetensor/cpu/kernels/loss.h"
#include "vibetensor/cpu/kernels/softmax_parts.h"

namespace VT_NS {

namespace {

constexpr int64_t kTile = 128;     // samples side by side
constexpr int64_t kInline = 2048;  // elements of scratch on the stack

// loss = (1 - s) w[t] nll[t] + s / C sum_c w[c] nll[c], with nll = -log softmax(x).
template <class V>
struct Options {
  const V *weight;  // per class, or null
  V weight_sum;     // over the classes
  int64_t ignore;
  V smoothing;

  Options(const vt_array &weights, V *room, int64_t classes, const vt_value *v)
      : weight(class_weights(weights, room)),
        weight_sum(weight ? row_sum(weight, classes) : static_cast<V>(classes)),
        ignore(v[1].i),
        smoothing(static_cast<V>(v[2].re)) {}

  VT_INLINE V weight_of(int64_t c) const { return weight ? weight[c] : V(1); }

  // `shifted` is x[t] - max, `spread` is the sum over the classes of w[c] (x[c] - max).
  VT_INLINE V loss(int64_t classes, V target_weight, V shifted, V log_sum, V spread) const {
    const V target = target_weight * (log_sum - shifted);
    if (smoothing == V(0)) return target;
    const V uniform = (weight_sum * log_sum - spread) / static_cast<V>(classes);
    return (V(1) - smoothing) * target + smoothing * uniform;
  }
};

template <class T>
struct Forward {
  using V = acc_t<T>;
  static constexpr bool kInPlace = is_same<T, V>::value;

  const Options<V> &options;
  const int64_t classes, stride;
  T *const losses;              // per sample, or null
  V *const wide_losses;         // the same for a loss in float32 of half types
  V *const maxima, *const sum;  // the largest logit and the sum of exp(logit - largest), per sample

  VT_INLINE void finish(int64_t index, V loss, V m, V s, V weight, LossSums &sums) const {
    maxima[index] = m;
    sum[index] = s;
    if (losses) losses[index] = static_cast<T>(loss);
    if (wide_losses) wide_losses[index] = loss;
    sums.loss += loss;
    sums.weight += weight;
  }

  void row(const T *x, int64_t t, int64_t index, V *room, LossSums &sums) const {
    if (t == options.ignore) return finish(index, V(0), V(0), V(1), V(0), sums);
    const V *p = row_as_acc(x, stride, classes, room);
    const V m = row_max(p, classes);
    const V s = sum_exp<false, V>(p, nullptr, classes, m);
    V spread = V(0);
    if (options.smoothing != V(0)) {
      if (options.weight) {
        spread = row_fold_add<V>(
            classes, [=](auto w, auto q) { return w * (q - m); }, options.weight, p);
      } else {
        spread = row_centred(p, classes, m).first;
      }
    }
    const V w = options.weight_of(t);
    finish(index, options.loss(classes, w, p[t] - m, vlog(s), spread), m, s, w, sums);
  }

  // Up to kTile samples side by side.
  void tile(const T *x, const int64_t *t, int64_t t_stride, int64_t index, int64_t cols, V *room,
            LossSums &sums) const {
    const V *p = room;
    int64_t step = cols;
    if constexpr (kInPlace) {
      p = x;
      step = stride;
    } else {
      for (int64_t r = 0; r < classes; r++) load_row(room + r * cols, x + r * stride, 1, cols);
    }
    alignas(64) V m[kTile], s[kTile], spread[kTile] = {};
    column_max(p, step, classes, cols, m);
    column_sum_exp<false, V>(p, step, nullptr, 0, classes, cols, m, s);
    for (int64_t r = 0; r < (options.smoothing != V(0) ? classes : 0); r++) {
      const V w = options.weight_of(r);
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) spread[c] += w * (p[r * step + c] - m[c]);
    }
    for (int64_t c = 0; c < cols; c++) {
      const int64_t k = t[c * t_stride];
      if (k == options.ignore) {
        finish(index + c, V(0), V(0), V(1), V(0), sums);
        continue;
      }
      const V w = options.weight_of(k);
      const V loss = options.loss(classes, w, p[k * step + c] - m[c], vlog(s[c]), spread[c]);
      finish(index + c, loss, m[c], s[c], w, sums);
    }
  }
};

// dx[c] = exp(x[c] - largest) all - w[c] uniform, less `target` at the target class.
template <class T>
struct Backward {
  using V = acc_t<T>;
  static constexpr bool kInPlace = is_same<T, V>::value;

  const Options<V> &options;
  const int64_t classes, stride, out_stride;

  struct Factors {
    V all, uniform, target;
  };
  VT_INLINE Factors factors(int64_t t, V grad, V sum) const {
    if (t == options.ignore) return {V(0), V(0), V(0)};
    const V target = grad * options.weight_of(t) * (V(1) - options.smoothing);
    const V uniform = grad * options.smoothing / static_cast<V>(classes);
    return {(target + uniform * options.weight_sum) / sum, uniform, target};
  }

  // `room` holds two rows.
  void row(const T *x, int64_t t, V grad, V largest, V sum, T *out, V *room) const {
    if (t == options.ignore) {
      for (int64_t i = 0; i < classes; i++) out[i * out_stride] = T(0);
      return;
    }
    const Factors f = factors(t, grad, sum);
    const V *p = row_as_acc(x, stride, classes, room);
    V *q = room + classes;
    if constexpr (kInPlace) {
      if (out_stride == 1) q = out;
    }
    const V all = f.all, uniform = f.uniform;
    if (options.weight && uniform != V(0)) {
      row_map(
          q, classes, [=](auto v, auto w) { return exp_small<V>(v - largest) * all - w * uniform; },
          p, options.weight);
    } else {
      row_map(q, classes, [=](auto v) { return exp_small<V>(v - largest) * all - uniform; }, p);
    }
    q[t] -= f.target;
    if (reinterpret_cast<T *>(q) != out) store_row(out, out_stride, q, classes);
  }

  // Up to kTile samples side by side; `room` holds one row of them.
  void tile(const T *x, const int64_t *t, int64_t t_stride, const V *grad, const V *largest,
            const V *sum, T *out, int64_t cols, V *room) const {
    alignas(64) V all[kTile], uniform[kTile], target[kTile];
    alignas(64) int32_t at[kTile];
    for (int64_t c = 0; c < cols; c++) {
      const int64_t k = t[c * t_stride];
      const Factors f = factors(k, grad[c], sum[c]);
      all[c] = f.all;
      uniform[c] = f.uniform;
      target[c] = f.target;
      at[c] = k == options.ignore ? -1 : static_cast<int32_t>(k);
    }
    for (int64_t r = 0; r < classes; r++) {
      const V w = options.weight_of(r);
      const V *p = row_as_acc(x + r * stride, 1, cols, room);
      V *q = room;
      if constexpr (kInPlace) q = out + r * out_stride;
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) {
        const V e = exp_small(p[c] - largest[c]) * all[c] - w * uniform[c];
        // An ignored sample gives zero whatever its logits are.
        q[c] = at[c] < 0 ? V(0) : at[c] == r ? e - target[c] : e;
      }
      if constexpr (!kInPlace) store_row(out + r * out_stride, 1, q, cols);
    }
  }
};

template <class T>
vt_status forward(const vt_array *a, const vt_value *v, vt_context *ctx) {
  using V = acc_t<T>;
  const vt_array &input = a[0], &target = a[1], &out = a[3];
  const int64_t reduction = v[0].i;
  const vt_status status = check_targets(target, input, v[1].i, ctx);
  if (status != VT_OK) return status;
  const vt_array *const with[] = {&input}, *const without[] = {&target};
  const Samples<1, 1> samples(with, without);
  const int64_t classes = samples.classes;
  const Scratch<V, kInline> weights(classes);
  if (!weights.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const Options<V> options(a[2], weights.data(), classes, v);
  const bool each = reduction == kReductionNone, wide = out.dtype != input.dtype;
  V *const statistics = data_of<V>(a[4]);
  const Forward<T> op = {options,
                         classes,
                         samples.stride[0],
                         each && !wide ? data_of<T>(out) : nullptr,
                         each && wide ? data_of<V>(out) : nullptr,
                         statistics,
                         statistics + samples.count};
  const bool tiled = samples.side_by_side;
  const bool copies = !op.kInPlace || (!tiled && op.stride != 1);
  const int64_t room_size = copies ? classes * (tiled ? kTile : 1) : 0;
  const int64_t step = inner_stride(samples.layout, 0), t_step = inner_stride(samples.layout, 1);
  LossSums total;
  const bool ok =
      for_samples(samples.count, classes, &total, [&](int64_t begin, int64_t end, LossSums &sums) {
        const Scratch<V, kInline> room(room_size);
        if (!room.ok()) return false;
        int64_t index = begin;
        for_runs(samples.layout, begin, end, [&](const int64_t *offset, int64_t count) {
          const T *x = data_of<const T>(input) + offset[0];
          const int64_t *t = data_of<const int64_t>(target) + offset[1];
          for (int64_t i = 0; i < count; i += tiled ? kTile : 1) {
            if (tiled) {
              op.tile(x + i, t + i * t_step, t_step, index + i, min_of(count - i, kTile),
                      room.data(), sums);
            } else {
              op.row(x + i * step, t[i * t_step], index + i, room.data(), sums);
            }
          }
          index += count;
        });
        return true;
      });
  if (!ok) return VT_ERROR_OUT_OF_MEMORY;
  store_scalar(a[5], total.weight);
  if (reduction == kReductionMean) store_scalar(out, total.loss / total.weight);
  if (reduction == kReductionSum) store_scalar(out, total.loss);
  return VT_OK;
}

template <class T>
vt_status backward(const vt_array *a, const vt_value *v) {
  using V = acc_t<T>;
  const vt_array &grad = a[0], &input = a[1], &target = a[2], &out = a[6];
  const int64_t reduction = v[0].i;
  // A gradient of one value is not walked; the target stands in for it.
  const vt_array *const with[] = {&input, &out};
  const vt_array *const without[] = {&target, reduction == kReductionNone ? &grad : &target};
  const Samples<2, 2> samples(with, without);
  const int64_t classes = samples.classes;
  const Scratch<V, kInline> weights(classes);
  if (!weights.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const Options<V> options(a[3], weights.data(), classes, v);
  const Backward<T> op = {options, classes, samples.stride[0], samples.stride[1]};
  const LossGrad<T> scale(grad, reduction, static_cast<double>(*data_of<V>(a[5])));
  const bool tiled = samples.side_by_side && classes <= INT32_MAX;
  const bool copies = !op.kInPlace || op.stride != 1 || op.out_stride != 1;
  const int64_t room_size = tiled ? kTile : copies ? 2 * classes : 0;
  int64_t step[4];
  for (int k = 0; k < 4; k++) step[k] = inner_stride(samples.layout, k);
  LossSums unused;
  const bool ok =
      for_samples(samples.count, classes, &unused, [&](int64_t begin, int64_t end, LossSums &) {
        const Scratch<V, kInline> room(room_size);
        if (!room.ok()) return false;
        const V *m = data_of<const V>(a[4]) + begin, *sum = m + samples.count;
        for_runs(samples.layout, begin, end, [&](const int64_t *offset, int64_t count) {
          const T *x = data_of<const T>(input) + offset[0];
          T *y = data_of<T>(out) + offset[1];
          const int64_t *t = data_of<const int64_t>(target) + offset[2];
          for (int64_t i = 0; i < count; i += tiled ? kTile : 1) {
            if (tiled) {
              const int64_t cols = min_of(count - i, kTile);
              V g[kTile];
              for (int64_t c = 0; c < cols; c++) g[c] = scale.at(offset[3] + (i + c) * step[3]);
              op.tile(x + i, t + i * step[2], step[2], g, m + i, sum + i, y + i, cols, room.data());
            } else {
              op.row(x + i * step[0], t[i * step[2]], scale.at(offset[3] + i * step[3]), m[i],
                     sum[i], y + i * step[1], room.data());
            }
          }
          m += count;
          sum += count;
        });
        return true;
      });
  return ok ? VT_OK : VT_ERROR_OUT_OF_MEMORY;
}

// Rows of logits, whose gradient takes their place.
template <class T>
vt_status in_place(const vt_array *a, const vt_value *v, vt_context *ctx) {
  using V = acc_t<T>;
  const vt_array &logits = a[0], &target = a[1];
  const vt_status status = check_targets(target, logits, v[1].i, ctx);
  if (status != VT_OK || target.numel == 0) return status;
  const int64_t rows = logits.sizes[0], classes = logits.sizes[1];
  const Options<V> options({}, nullptr, classes, v);
  const Scratch<V, kInline> statistics(2 * rows);
  if (!statistics.ok()) return VT_ERROR_OUT_OF_MEMORY;
  V *const m = statistics.data(), *const sum = m + rows;
  const Forward<T> forward = {options, classes, 1, nullptr, nullptr, m, sum};
  const Backward<T> backward = {options, classes, 1, 1};
  V grad = static_cast<V>(v[3].re);
  if (given(a[3])) grad /= *data_of<const V>(a[3]);
  const int64_t room_size = is_same<T, V>::value ? 0 : 2 * classes;
  LossSums unused;
  const bool ok = for_samples(rows, classes, &unused, [&](int64_t begin, int64_t end, LossSums &) {
    const Scratch<V, kInline> room(room_size);
    if (!room.ok()) return false;
    for (int64_t i = begin; i < end; i++) {
      T *const x = data_of<T>(logits) + i * classes;
      const int64_t t = data_of<const int64_t>(target)[i * target.strides[0]];
      LossSums loss;
      forward.row(x, t, i, room.data(), loss);
      data_of<double>(a[2])[i] = loss.loss;
      if (v[0].i) backward.row(x, t, grad, m[i], sum[i], x, room.data());
    }
    return true;
  });
  return ok ? VT_OK : VT_ERROR_OUT_OF_MEMORY;
}

}  // namespace

// arrays: input, target (int64), weight?, then out, statistics, total_weight. values: reduction,
// ignore_index, label_smoothing. `statistics` (the largest logit of each sample, then the sum of
// exp(logit - largest) of each) and `total_weight` (one) have the compute type: float, or double for
// double. `out` is contiguous, of the input's dtype or of the compute type.
vt_status cross_entropy_cpu(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (a[1].dtype != VT_I64 || !holds_loss_of(a[3], a[0])) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(
      a[0].dtype, [&](auto tag) { return forward<typename decltype(tag)::type>(a, v, ctx); });
}

// arrays: grad, input, target, weight?, statistics, total_weight, then grad_input. values: as the
// forward's.
vt_status cross_entropy_backward_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  if (a[2].dtype != VT_I64 || !holds_loss_of(a[0], a[1])) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(
      a[1].dtype, [&](auto tag) { return backward<typename decltype(tag)::type>(a, v); });
}

// arrays: logits (contiguous rows), target, losses (contiguous, float64), total?. values: gradient,
// ignore_index, label_smoothing, scale. The losses of the rows; with `gradient`, that of `scale` times
// their sum takes the place of the logits, divided by `total`, of the compute type, if that is given.
vt_status cross_entropy_gradient_cpu(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (a[1].dtype != VT_I64 || a[2].dtype != VT_F64) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(
      a[0].dtype, [&](auto tag) { return in_place<typename decltype(tag)::type>(a, v, ctx); });
}

}  // namespace VT_NS
