// Optimizer steps and gradient norm over lists of tensors: one pass over the memory of all of them. The
// order of operations is PyTorch's; half types are computed in float and rounded once.
#include <math.h>

#include "vibetensor/cpu/kernels/multi_tensor.h"

namespace VT_NS {

namespace {

// An optional number: a list of one float, or of none.
float number_or_zero(const vt_value &v) {
  return v.kind == VT_VALUE_ARRAYS && v.n == 1 ? *data_of<const float>(v.arrays[0]) : 0.0f;
}

// ---- Adam ----

template <class A>
struct AdamSettings {
  A sign;      // of the gradient: -1 to maximize
  A l2, keep;  // weight decay: added to the gradient, or what is left of the parameter
  A beta2, rest2;
  A weight;  // of the way from the mean to the gradient
  bool far;  // which is more than half of it
  A step_size, correction, eps;

  explicit AdamSettings(const vt_value *v) {
    const double lr = v[4].re, b1 = v[5].re, b2 = v[6].re, decay = v[8].re;
    const double step = v[9].re - static_cast<double>(number_or_zero(v[13]));
    const bool maximize = v[10].i != 0, decoupled = v[11].i != 0;
    sign = maximize ? A(-1) : A(1);
    l2 = decoupled ? A(0) : static_cast<A>(decay);
    keep = decoupled ? static_cast<A>(1.0 - lr * decay) : A(1);
    beta2 = static_cast<A>(b2);
    rest2 = static_cast<A>(1.0 - b2);
    const A rest1 = static_cast<A>(1.0 - b1);
    far = !(rest1 < A(0.5));
    weight = far ? rest1 - A(1) : rest1;
    step_size = static_cast<A>(lr / (1.0 - pow(b1, step)));
    correction = static_cast<A>(1.0 / sqrt(1.0 - pow(b2, step)));
    eps = static_cast<A>(v[7].re);
  }
};

VT_INLINE float square_root(float x) { return sqrtf(x); }
VT_INLINE double square_root(double x) { return sqrt(x); }

// kFar: the mean moves more than half of the way, so it is interpolated from the other end.
template <bool kL2, bool kFar, class A, class C>
void adam_run(const AdamSettings<A> &settings, int64_t n, C *p, const C *g, C *m, C *v) {
  const AdamSettings<A> s = settings;  // which the stores below cannot change
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const A param = get(p[i]), old_mean = get(m[i]);
    A grad = get(g[i]) * s.sign;
    if (kL2) grad += param * s.l2;
    const A mean = (kFar ? grad : old_mean) + s.weight * (grad - old_mean);
    const A square = get(v[i]) * s.beta2 + s.rest2 * grad * grad;
    put(m[i], mean);
    put(v[i], square);
    const A scale = square_root(square) * s.correction + s.eps;
    put(p[i], param * s.keep - s.step_size * mean / scale);
  }
}

template <class T>
void adam_part(const vt_value *v, const AdamSettings<acc_t<T>> &settings, int64_t k, int64_t begin,
               int64_t end) {
  Operand<T> params(v[0].arrays[k]), grads(v[1].arrays[k]);
  Operand<T> means(v[2].arrays[k]), squares(v[3].arrays[k]);
  const int64_t step = step_of(end - begin, params, grads, means, squares);
  using A = acc_t<T>;
  using C = loop_t<T>;
  const auto run =
      settings.l2 != 0
          ? (settings.far ? adam_run<true, true, A, C> : adam_run<true, false, A, C>)
          : (settings.far ? adam_run<false, true, A, C> : adam_run<false, false, A, C>);
  for (int64_t i = begin; i < end; i += step) {
    const int64_t n = min_of(step, end - i);
    C *p = params.load(i, n), *m = means.load(i, n), *s = squares.load(i, n);
    const C *g = grads.load(i, n);
    run(settings, n, p, g, m, s);
    params.store(i, n, p);
    means.store(i, n, m);
    squares.store(i, n, s);
  }
}

}  // namespace

// No arrays; lists params, grads, exp_avgs, exp_avg_sqs, then lr, beta1, beta2, eps, weight_decay,
// step (from 1), maximize, decoupled (AdamW's weight decay rather than L2). The k-th arrays of all
// lists have one shape and dtype. Then two lists of at most one float: found_inf (nothing happens where
// it is not zero), and how many steps that was so in.
vt_status adamw_cpu(const vt_array *, const vt_value *v, vt_context *) {
  const vt_status status = check_floating(v[0]);
  if (status != VT_OK || number_or_zero(v[12]) != 0) return status;
  const AdamSettings<float> single(v);
  const AdamSettings<double> dual(v);
  for_parts(v[0], [&](int64_t k, int64_t begin, int64_t end) {
    dispatch<kFloating>(v[0].arrays[k].dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (is_same<T, double>::value) {
        adam_part<T>(v, dual, k, begin, end);
      } else {
        adam_part<T>(v, single, k, begin, end);
      }
    });
  });
  return VT_OK;
}

// ---- SGD ----

namespace {

template <class A>
struct SgdSettings {
  A sign, lr, momentum, fresh, decay;  // fresh = 1 - dampening
  bool nesterov, has_momentum, first;

  explicit SgdSettings(const vt_value *v)
      : sign(v[8].i != 0 ? A(-1) : A(1)),
        lr(static_cast<A>(v[3].re)),
        momentum(static_cast<A>(v[4].re)),
        fresh(static_cast<A>(1.0 - v[5].re)),
        decay(static_cast<A>(v[6].re)),
        nesterov(v[7].i != 0),
        has_momentum(v[2].n > 0 && v[4].re != 0),
        first(v[9].i != 0) {}
};

template <bool kDecay, class A>
VT_INLINE A sgd_gradient(const SgdSettings<A> &s, A p, A g) {
  return kDecay ? g * s.sign + s.decay * p : g * s.sign;
}

template <bool kDecay, class A, class C>
void sgd_plain(const SgdSettings<A> &settings, int64_t n, C *p, const C *g) {
  const SgdSettings<A> s = settings;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const A param = get(p[i]);
    const A grad = sgd_gradient<kDecay>(s, param, get(g[i]));
    put(p[i], param - s.lr * grad);
  }
}

// In the first step the buffer becomes the gradient; what it holds is not looked at.
template <bool kDecay, bool kFirst, class A, class C>
void sgd_momentum(const SgdSettings<A> &settings, int64_t n, C *p, const C *g, C *buffer) {
  const SgdSettings<A> s = settings;
  // The direction is direct * gradient + through * buffer.
  const A direct = s.nesterov ? A(1) : A(0), through = s.nesterov ? s.momentum : A(1);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const A param = get(p[i]);
    const A grad = sgd_gradient<kDecay>(s, param, get(g[i]));
    const A moved = kFirst ? grad : get(buffer[i]) * s.momentum + grad * s.fresh;
    put(buffer[i], moved);
    put(p[i], param - s.lr * (direct * grad + through * moved));
  }
}

template <bool kDecay, class A, class C>
void sgd_run(const SgdSettings<A> &s, int64_t n, C *p, const C *g, C *buffer) {
  if (buffer == nullptr) return sgd_plain<kDecay>(s, n, p, g);
  s.first ? sgd_momentum<kDecay, true>(s, n, p, g, buffer)
          : sgd_momentum<kDecay, false>(s, n, p, g, buffer);
}

template <class T>
void sgd_part(const vt_value *v, const SgdSettings<acc_t<T>> &s, int64_t k, int64_t begin,
              int64_t end) {
  using C = loop_t<T>;
  Operand<T> params(v[0].arrays[k]), grads(v[1].arrays[k]);
  Operand<T> buffers(s.has_momentum ? v[2].arrays[k] : v[0].arrays[k]);
  const int64_t step = step_of(end - begin, params, grads, buffers);
  for (int64_t i = begin; i < end; i += step) {
    const int64_t n = min_of(step, end - i);
    C *p = params.load(i, n), *b = nullptr;
    const C *g = grads.load(i, n);
    if (s.has_momentum) b = s.first ? buffers.target(i) : buffers.load(i, n);
    s.decay != 0 ? sgd_run<true>(s, n, p, g, b) : sgd_run<false>(s, n, p, g, b);
    if (s.has_momentum) buffers.store(i, n, b);
    params.store(i, n, p);
  }
}

}  // namespace

// No arrays; lists params, grads, momentum buffers (may be empty), then lr, momentum, dampening,
// weight_decay, nesterov, maximize, first_step (the buffers are written, not read), found_inf as in
// adamw_cpu.
vt_status sgd_cpu(const vt_array *, const vt_value *v, vt_context *) {
  const vt_status status = check_floating(v[0]);
  if (status != VT_OK || number_or_zero(v[10]) != 0) return status;
  const SgdSettings<float> single(v);
  const SgdSettings<double> dual(v);
  for_parts(v[0], [&](int64_t k, int64_t begin, int64_t end) {
    dispatch<kFloating>(v[0].arrays[k].dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (is_same<T, double>::value) {
        sgd_part<T>(v, dual, k, begin, end);
      } else {
        sgd_part<T>(v, single, k, begin, end);
      }
    });
  });
  return VT_OK;
}

// ---- Muon's momentum ----

namespace {

// On the way from a to b, from whichever end is nearer.
template <class A>
VT_INLINE A between(A a, A b, A weight) {
  return weight < A(0.5) ? a + weight * (b - a) : b - (b - a) * (A(1) - weight);
}

template <class T>
void muon_part(const vt_value *v, int64_t k, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  using C = loop_t<T>;
  const A momentum = static_cast<A>(v[3].re), fresh = static_cast<A>(1.0 - v[3].re);
  const bool nesterov = v[4].i != 0;
  Operand<T> grads(v[0].arrays[k]), buffers(v[1].arrays[k]), updates(v[2].arrays[k]);
  const int64_t step = step_of(end - begin, grads, buffers, updates);
  for (int64_t i = begin; i < end; i += step) {
    const int64_t n = min_of(step, end - i);
    const C *g = grads.load(i, n);
    C *b = buffers.load(i, n), *u = updates.target(i);
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      const A grad = get(g[j]);
      put(b[j], between(A(get(b[j])), grad, fresh));
      put(u[j], nesterov ? between(grad, A(get(b[j])), momentum) : A(get(b[j])));
    }
    buffers.store(i, n, b);
    updates.store(i, n, u);
  }
}

}  // namespace

// No arrays; lists grads, momentum buffers, updates (written), then momentum, nesterov. The buffers move
// towards the gradients; the updates are they, or a look ahead.
vt_status muon_cpu(const vt_array *, const vt_value *v, vt_context *) {
  const vt_status status = check_floating(v[0]);
  if (status != VT_OK) return status;
  for_parts(v[0], [&](int64_t k, int64_t begin, int64_t end) {
    dispatch<kFloating>(v[0].arrays[k].dtype, [&](auto tag) {
      muon_part<typename decltype(tag)::type>(v, k, begin, end);
    });
  });
  return VT_OK;
}

// ---- norm ----

namespace {

enum NormKind { kCount, kSum, kSquares, kLargest, kSmallest, kPower };

struct Norm {
  NormKind kind;
  double p;

  explicit Norm(double order) : p(order) {
    kind = p == 2                                ? kSquares
           : p == 1                              ? kSum
           : p == 0                              ? kCount
           : p == static_cast<double>(INFINITY)  ? kLargest
           : p == -static_cast<double>(INFINITY) ? kSmallest
                                                 : kPower;
  }

  double start() const { return kind == kSmallest ? static_cast<double>(INFINITY) : 0.0; }

  double combine(double a, double b) const {
    switch (kind) {
      case kLargest:
        return a > b || a != a ? a : b;
      case kSmallest:
        return a < b || a != a ? a : b;
      default:
        return a + b;
    }
  }

  double finish(double x) const {
    return kind == kSquares ? sqrt(x) : kind == kPower ? pow(x, 1.0 / p) : x;
  }

  // Over n elements, in double: squares of large gradients overflow a float.
  template <class C>
  double run(const C *x, int64_t n) const {
    const auto at = [&](int64_t i) { return static_cast<double>(get(x[i])); };
    double sum = start();
    switch (kind) {
      case kSquares:
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += at(i) * at(i);
        break;
      case kSum:
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += fabs(at(i));
        break;
      case kCount:
        for (int64_t i = 0; i < n; i++) sum += at(i) != 0;
        break;
      case kPower:
        for (int64_t i = 0; i < n; i++) sum += pow(fabs(at(i)), p);
        break;
      default:
        for (int64_t i = 0; i < n; i++) sum = combine(fabs(at(i)), sum);
    }
    return sum;
  }
};

// Parts are cut the same way whatever the number of threads is, and added in order.
constexpr int64_t kNormPart = 16 << 10;

double norm_of_part(const Norm &norm, const vt_array &a, int64_t begin, int64_t end) {
  double sum = norm.start();
  dispatch<kFloating>(a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Operand<T> operand(a);
    const int64_t step = step_of(end - begin, operand);
    for (int64_t i = begin; i < end; i += step) {
      const int64_t n = min_of(step, end - i);
      sum = norm.combine(norm.run(operand.load(i, n), n), sum);
    }
  });
  return sum;
}

}  // namespace

// out (float or double, one element); list of gradients, p (2, infinity or any other order).
vt_status grad_norm_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const vt_value &list = v[0];
  const Norm norm(v[1].re);
  const vt_status status = check_floating(list);
  if (status != VT_OK) return status;
  int64_t parts = 0;
  for (int64_t k = 0; k < list.n; k++) parts += div_up(list.arrays[k].numel, kNormPart);
  Scratch<double> partial(parts);
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  parallel_for(parts, 2, [&](int64_t first, int64_t last) {
    int64_t start = 0;
    for (int64_t k = 0; k < list.n && start < last; k++) {
      const vt_array &x = list.arrays[k];
      const int64_t n = div_up(x.numel, kNormPart);
      for (int64_t i = max_of(first - start, int64_t(0)); i < min_of(last - start, n); i++) {
        partial[start + i] =
            norm_of_part(norm, x, i * kNormPart, min_of((i + 1) * kNormPart, x.numel));
      }
      start += n;
    }
  });
  double total = parts > 0 ? norm.start() : 0.0;
  for (int64_t i = 0; i < parts; i++) total = norm.combine(partial[i], total);
  return dispatch<kFloatDouble>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    *data_of<T>(a[0]) = static_cast<T>(norm.finish(total));
  });
}

}  // namespace VT_NS
