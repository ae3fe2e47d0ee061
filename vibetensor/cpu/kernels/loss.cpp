// Losses over log-probabilities and over class probabilities.
#include "vibetensor/cpu/kernels/loss.h"

#include "vibetensor/cpu/kernels/softmax_parts.h"

namespace VT_NS {

namespace {

constexpr int64_t kInline = 2048;  // elements of scratch on the stack

template <class T>
vt_status nll_forward(const vt_array *a, const vt_value *v, vt_context *ctx) {
  using V = acc_t<T>;
  const vt_array &input = a[0], &target = a[1], &out = a[3];
  const int64_t reduction = v[0].i, ignore = v[1].i;
  const vt_status status = check_targets(target, input, ignore, ctx);
  if (status != VT_OK) return status;
  const vt_array *const with[] = {&input}, *const without[] = {&target};
  const Samples<1, 1> samples(with, without);
  const Scratch<V, kInline> weights(samples.classes);
  if (!weights.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const V *weight = class_weights(a[2], weights.data());
  T *losses = reduction == kReductionNone ? data_of<T>(out) : nullptr;
  const int64_t step = inner_stride(samples.layout, 0), t_step = inner_stride(samples.layout, 1);
  LossSums total;
  for_samples(samples.count, 4, &total, [&](int64_t begin, int64_t end, LossSums &sums) {
    int64_t index = begin;
    for_runs(samples.layout, begin, end, [&](const int64_t *offset, int64_t count) {
      const T *x = data_of<const T>(input) + offset[0];
      const int64_t *t = data_of<const int64_t>(target) + offset[1];
      for (int64_t i = 0; i < count; i++, index++) {
        const int64_t k = t[i * t_step];
        V loss = V(0);
        if (k != ignore) {
          const V w = weight ? weight[k] : V(1);
          loss = -w * static_cast<V>(x[i * step + k * samples.stride[0]]);
          sums.loss += loss;
          sums.weight += w;
        }
        if (losses) losses[index] = static_cast<T>(loss);
      }
    });
    return true;
  });
  store_scalar(a[4], total.weight);
  if (reduction == kReductionMean) store_scalar(out, total.loss / total.weight);
  if (reduction == kReductionSum) store_scalar(out, total.loss);
  return VT_OK;
}

template <class T>
vt_status nll_backward(const vt_array *a, const vt_value *v) {
  using V = acc_t<T>;
  const vt_array &grad = a[0], &target = a[2], &out = a[5];
  const int64_t reduction = v[0].i, ignore = v[1].i;
  const vt_array *const with[] = {&out};
  const vt_array *const without[] = {&target, reduction == kReductionNone ? &grad : &target};
  const Samples<1, 2> samples(with, without);
  const int64_t classes = samples.classes, stride = samples.stride[0];
  const Scratch<V, kInline> weights(classes);
  if (!weights.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const V *weight = class_weights(a[3], weights.data());
  const LossGrad<T> scale(grad, reduction, static_cast<double>(*data_of<V>(a[4])));
  int64_t step[3];
  for (int k = 0; k < 3; k++) step[k] = inner_stride(samples.layout, k);
  LossSums unused;
  for_samples(samples.count, classes, &unused, [&](int64_t begin, int64_t end, LossSums &) {
    for_runs(samples.layout, begin, end, [&](const int64_t *offset, int64_t count) {
      T *y = data_of<T>(out) + offset[0];
      const int64_t *t = data_of<const int64_t>(target) + offset[1];
      if (stride == 1) {
        for (int64_t i = 0; i < count; i++) memset(y + i * step[0], 0, classes * sizeof(T));
      } else {
        for (int64_t c = 0; c < classes; c++) {
          for (int64_t i = 0; i < count; i++) y[i * step[0] + c * stride] = T(0);
        }
      }
      for (int64_t i = 0; i < count; i++) {
        const int64_t k = t[i * step[1]];
        if (k == ignore) continue;
        const V w = weight ? weight[k] : V(1);
        y[i * step[0] + k * stride] = static_cast<T>(-w * scale.at(offset[2] + i * step[2]));
      }
    });
    return true;
  });
  return VT_OK;
}

// loss = -sum_c w[c] q[c] log p[c], with q = (1 - s) target + s / C.
template <class T>
struct Probabilities {
  using V = acc_t<T>;
  const V *weight;
  V keep, uniform;
  Probabilities(const vt_array &weights, V *room, int64_t classes, double smoothing)
      : weight(class_weights(weights, room)),
        keep(static_cast<V>(1 - smoothing)),
        uniform(static_cast<V>(smoothing / static_cast<double>(classes))) {}

  // The sum of f(w q, x) over a row.
  template <class F>
  VT_INLINE V sum(const V *target, const V *x, int64_t n, const F &f) const {
    V total = V(0);
    for (int64_t i = 0; i < n; i++) {
      const V q = target[i] * keep + uniform;
      total += f(weight ? weight[i] * q : q, x[i]);
    }
    return total;
  }
};

template <class T>
vt_status probabilities_forward(const vt_array *a, const vt_value *v) {
  using V = acc_t<T>;
  const vt_array &input = a[0], &target = a[1], &out = a[3];
  const int64_t reduction = v[0].i;
  const vt_array *const with[] = {&input, &target};
  const Samples<2, 0> samples(with, nullptr);
  const int64_t n = samples.classes;
  const Scratch<V, kInline> weights(n);
  if (!weights.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const Probabilities<T> op(a[2], weights.data(), n, v[1].re);
  const int64_t step = inner_stride(samples.layout, 0), t_step = inner_stride(samples.layout, 1);
  LossSums total;
  const bool ok =
      for_samples(samples.count, n, &total, [&](int64_t begin, int64_t end, LossSums &sums) {
        const Scratch<V, kInline> room(2 * n);
        if (!room.ok()) return false;
        int64_t index = begin;
        for_runs(samples.layout, begin, end, [&](const int64_t *offset, int64_t count) {
          for (int64_t i = 0; i < count; i++, index++) {
            const T *x = data_of<const T>(input) + offset[0] + i * step;
            const T *t = data_of<const T>(target) + offset[1] + i * t_step;
            const V *p = row_as_acc(x, samples.stride[0], n, room.data());
            const V *q = row_as_acc(t, samples.stride[1], n, room.data() + n);
            const V m = row_max(p, n), log_sum = vlog(sum_exp<false, V>(p, nullptr, n, m));
            const V loss = op.sum(q, p, n, [=](V w, V e) { return w * (log_sum - (e - m)); });
            data_of<V>(a[4])[index] = m + log_sum;
            if (reduction == kReductionNone) data_of<T>(out)[index] = static_cast<T>(loss);
            sums.loss += loss;
          }
        });
        return true;
      });
  if (!ok) return VT_ERROR_OUT_OF_MEMORY;
  const double count = static_cast<double>(samples.count);
  if (reduction == kReductionMean) store_scalar(out, total.loss / count);
  if (reduction == kReductionSum) store_scalar(out, total.loss);
  return VT_OK;
}

// dx[c] = g (p[c] sum_k w[k] q[k] - w[c] q[c]); dtarget[c] = -g keep w[c] log p[c].
template <class T>
vt_status probabilities_backward(const vt_array *a, const vt_value *v) {
  using V = acc_t<T>;
  const vt_array &grad = a[0], &input = a[1], &target = a[2];
  const bool want_input = given(a[5]), want_target = given(a[6]);
  const int64_t reduction = v[0].i;
  const vt_array *const with[] = {&input, &target, want_input ? &a[5] : &input,
                                  want_target ? &a[6] : &input};
  const vt_array lse = a[4];
  // A gradient of one value is not walked.
  vt_array walked = grad;
  int64_t zeros[VT_MAX_DIMS] = {};
  if (reduction != kReductionNone) walked.strides = zeros;
  const vt_array *const without[] = {&walked};
  const Samples<4, 1> samples(with, without);
  const int64_t n = samples.classes;
  const Scratch<V, kInline> weights(n);
  if (!weights.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const Probabilities<T> op(a[3], weights.data(), n, v[1].re);
  const LossGrad<T> scale(grad, reduction, static_cast<double>(samples.count));
  int64_t step[5];
  for (int k = 0; k < 5; k++) step[k] = inner_stride(samples.layout, k);
  LossSums unused;
  const bool ok =
      for_samples(samples.count, n, &unused, [&](int64_t begin, int64_t end, LossSums &) {
        const Scratch<V, kInline> room(3 * n);
        if (!room.ok()) return false;
        int64_t index = begin;
        V *const result = room.data() + 2 * n;
        for_runs(samples.layout, begin, end, [&](const int64_t *offset, int64_t count) {
          for (int64_t i = 0; i < count; i++, index++) {
            const T *x = data_of<const T>(input) + offset[0] + i * step[0];
            const T *t = data_of<const T>(target) + offset[1] + i * step[1];
            const V *p = row_as_acc(x, samples.stride[0], n, room.data());
            const V *q = row_as_acc(t, samples.stride[1], n, room.data() + n);
            const V g = scale.at(offset[4] + i * step[4]), l = data_of<V>(lse)[index];
            if (want_input) {
              const V mass = op.sum(q, p, n, [](V w, V) { return w; });
              for (int64_t c = 0; c < n; c++) {
                const V w = (q[c] * op.keep + op.uniform) * (op.weight ? op.weight[c] : V(1));
                result[c] = g * (exp_small(p[c] - l) * mass - w);
              }
              store_row(data_of<T>(a[5]) + offset[2] + i * step[2], samples.stride[2], result, n);
            }
            if (want_target) {
              for (int64_t c = 0; c < n; c++) {
                result[c] = g * op.keep * (op.weight ? op.weight[c] : V(1)) * (l - p[c]);
              }
              store_row(data_of<T>(a[6]) + offset[3] + i * step[3], samples.stride[3], result, n);
            }
          }
        });
        return true;
      });
  return ok ? VT_OK : VT_ERROR_OUT_OF_MEMORY;
}

}  // namespace

// arrays: input (log-probabilities), target (int64), weight?, then out, total_weight. values:
// reduction, ignore_index. total_weight is one value of the compute type; out is contiguous.
vt_status nll_loss_cpu(const vt_array *a, const vt_value *v, vt_context *ctx) {
  if (a[1].dtype != VT_I64) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(
      a[0].dtype, [&](auto tag) { return nll_forward<typename decltype(tag)::type>(a, v, ctx); });
}

// arrays: grad, input, target, weight?, total_weight, then grad_input. values: as the forward's.
// The input is not read.
vt_status nll_loss_backward_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  if (a[2].dtype != VT_I64 || a[0].dtype != a[5].dtype) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(
      a[5].dtype, [&](auto tag) { return nll_backward<typename decltype(tag)::type>(a, v); });
}

// arrays: input, target (probabilities, shaped like the input), weight?, then out, lse. values:
// reduction, label_smoothing.
vt_status cross_entropy_probabilities_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  if (a[1].dtype != a[0].dtype) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(a[0].dtype, [&](auto tag) {
    return probabilities_forward<typename decltype(tag)::type>(a, v);
  });
}

// arrays: grad, input, target, weight?, lse, then grad_input?, grad_target?. values: as the
// forward's.
vt_status cross_entropy_probabilities_backward_cpu(const vt_array *a, const vt_value *v,
                                                   vt_context *) {
  if (a[0].dtype != a[1].dtype || a[2].dtype != a[1].dtype) return VT_ERROR_DTYPE;
  return dispatch<kFloating>(a[1].dtype, [&](auto tag) {
    return probabilities_backward<typename decltype(tag)::type>(a, v);
  });
}

}  // namespace VT_NS
