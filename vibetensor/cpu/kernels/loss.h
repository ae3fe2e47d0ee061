// What the classification losses share: walking the samples of (N, C, ...) or (C), weights,
// targets.
#ifndef VT_CPU_KERNELS_LOSS_H
#define VT_CPU_KERNELS_LOSS_H

#include "vibetensor/cpu/kernels/row_math.h"
#include "vibetensor/cpu/kernels/runs.h"

namespace VT_NS {

enum Reduction { kReductionNone = 0, kReductionMean = 1, kReductionSum = 2 };

// The dimension of the classes in (N, C, ...) or (C).
inline int class_dim(const vt_array &input) { return input.ndim > 1 ? 1 : 0; }

// The samples of C arrays with a class dimension and K without: all other dimensions, in row-major
// order. Layout operands are the C, then the K.
template <int C, int K>
struct Samples {
  int64_t count = 1, classes;
  int64_t stride[C];  // between the classes of one sample
  Layout<C + K> layout;
  bool side_by_side;  // whether neighbouring samples are neighbours in memory, and classes are not

  Samples(const vt_array *const (&with)[C], const vt_array *const *without) {
    const vt_array &input = *with[0];
    const int dim = class_dim(input);
    classes = input.sizes[dim];
    for (int k = 0; k < C; k++) stride[k] = with[k]->strides[dim];
    for (int d = input.ndim - 1; d >= 0; d--) {
      if (d == dim) continue;
      count *= input.sizes[d];
      if (input.sizes[d] == 1) continue;
      const int at = layout.ndim++;
      layout.sizes[at] = input.sizes[d];
      for (int k = 0; k < C; k++) layout.strides[k][at] = with[k]->strides[d];
      for (int k = 0; k < K; k++) {
        layout.strides[C + k][at] = without[k]->strides[d > dim ? d - 1 : d];
      }
    }
    layout.coalesce();
    side_by_side = layout.ndim > 0 && layout.sizes[0] >= 8;
    for (int k = 0; k < C; k++) {
      side_by_side = side_by_side && layout.strides[k][0] == 1 && stride[k] != 1;
    }
  }
};

// A weight per class as contiguous values, or null.
template <class V>
inline const V *class_weights(const vt_array &a, V *room) {
  if (!given(a)) return nullptr;
  const V *result = nullptr;
  dispatch<kFloating>(a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    result = Runs<T, V>(a).read(0, a.numel, room);
  });
  return result;
}

struct LossSums {
  double loss = 0, weight = 0;
};

// Calls f(begin, end, sums) over pieces of the samples that depend on their number and the work of
// each only, and adds the pieces' sums in order. False when memory ran out.
template <class F>
inline bool for_samples(int64_t count, int64_t work, LossSums *total, const F &f) {
  const int64_t length =
      max_of(div_up(count, 256), max_of<int64_t>(1, 16384 / max_of<int64_t>(work, 1)));
  const int64_t pieces = div_up(count, length);
  LossSums sums[256];
  bool failed = false;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      if (!f(p * length, min_of((p + 1) * length, count), sums[p])) {
        __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
      }
    }
  });
  for (int64_t p = 0; p < pieces; p++) {
    total->loss += sums[p].loss;
    total->weight += sums[p].weight;
  }
  return !failed;
}

// Stores one value of a floating dtype.
inline void store_scalar(const vt_array &a, double x) {
  dispatch<kFloating>(a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    *data_of<T>(a) = static_cast<T>(static_cast<acc_t<T>>(x));
  });
}

// Looks for the first target that is neither a class nor the ignored one.
inline vt_status check_targets(const vt_array &target, const vt_array &input, int64_t ignore,
                               vt_context *ctx) {
  const int64_t classes = input.sizes[class_dim(input)];
  const auto l = layout_of(-1, false, target);
  const int64_t *t = data_of<int64_t>(target);
  vt_status status = VT_OK;
  for_runs(l, 0, target.numel, [&](const int64_t *offset, int64_t n) {
    for (int64_t i = 0; i < n && status == VT_OK; i++) {
      const int64_t c = t[offset[0] + i * inner_stride(l, 0)];
      if ((c < 0 || c >= classes) && c != ignore) {
        ctx->detail[0] = c;
        ctx->detail[1] = class_dim(input);
        ctx->detail[2] = classes;
        status = VT_ERROR_INDEX;
      }
    }
  });
  return status;
}

// Whether losses of such an input, or their gradients, may have the dtype of `a`: the input's, or
// float32 for half types.
inline bool holds_loss_of(const vt_array &a, const vt_array &input) {
  return a.dtype == input.dtype ||
         (a.dtype == VT_F32 && (input.dtype == VT_F16 || input.dtype == VT_BF16));
}

// What a sample's part of the loss is multiplied by on the way back. `grad` holds one value, or one
// per sample where the losses were not reduced.
template <class T>
struct LossGrad {
  const T *grad;
  const acc_t<T> *wide;  // not null: instead of it, where the loss of a half type is float32
  bool per_sample;
  acc_t<T> all;

  LossGrad(const vt_array &g, int64_t reduction, double total)
      : grad(data_of<const T>(g)),
        wide(g.dtype == VT_F32 && !is_same<T, acc_t<T>>::value ? data_of<const acc_t<T>>(g)
                                                               : nullptr),
        per_sample(reduction == kReductionNone),
        all(0) {
    if (!per_sample) {
      const acc_t<T> value = wide ? *wide : static_cast<acc_t<T>>(*grad);
      all = reduction == kReductionMean ? value / static_cast<acc_t<T>>(total) : value;
    }
  }
  VT_INLINE acc_t<T> at(int64_t offset) const {
    if (!per_sample) return all;
    return wide ? wide[offset] : static_cast<acc_t<T>>(grad[offset]);
  }
};

}  // namespace VT_NS

#endif
