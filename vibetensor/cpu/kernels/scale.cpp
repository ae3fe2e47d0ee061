// Scaling over lists of tensors: of gradients that are clipped, and of those of a scaled loss, with the
// scale itself. Casts of lists, as autocast makes them of weights.
#include <math.h>

#include "vibetensor/cpu/kernels/multi_tensor.h"
#include "vt/loss_scale.h"

namespace VT_NS {

// ---- scaling ----

namespace {

template <class A, class C>
void scale_run(C *x, int64_t n, A factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) put(x[i], get(x[i]) * factor);
}

template <class T>
void scale_part(const vt_array &a, acc_t<T> factor, int64_t begin, int64_t end) {
  Operand<T> operand(a);
  const int64_t step = step_of(end - begin, operand);
  for (int64_t i = begin; i < end; i += step) {
    const int64_t n = min_of(step, end - i);
    loop_t<T> *x = operand.load(i, n);
    scale_run(x, n, factor);
    operand.store(i, n, x);
  }
}

}  // namespace

// scale (floating, one element); list of tensors, multiplied in place.
vt_status scale_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const vt_value &list = v[0];
  vt_status status = check_floating(list);
  if (status != VT_OK) return status;
  double factor = 1;
  status = dispatch<kFloating>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    factor = static_cast<double>(static_cast<acc_t<T>>(*data_of<const T>(a[0])));
  });
  if (status != VT_OK || factor == 1.0) return status;
  for_parts(list, [&](int64_t k, int64_t begin, int64_t end) {
    const vt_array &x = list.arrays[k];
    dispatch<kFloating>(x.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      scale_part<T>(x, static_cast<acc_t<T>>(factor), begin, end);
    });
  });
  return VT_OK;
}

// ---- unscaling ----

namespace {

VT_INLINE float magnitude(float x) { return fabsf(x); }
VT_INLINE double magnitude(double x) { return fabs(x); }

// Whether all elements were finite.
template <class A, class C>
bool unscale_run(C *x, int64_t n, A factor) {
  int other = 0;
#pragma omp simd reduction(| : other)
  for (int64_t i = 0; i < n; i++) {
    const A value = get(x[i]);
    other |= !(magnitude(value) < static_cast<A>(INFINITY));
    put(x[i], value * factor);
  }
  return other == 0;
}

template <class T>
bool unscale_part(const vt_array &a, acc_t<T> factor, int64_t begin, int64_t end) {
  Operand<T> operand(a);
  const int64_t step = step_of(end - begin, operand);
  bool finite = true;
  for (int64_t i = begin; i < end; i += step) {
    const int64_t n = min_of(step, end - i);
    loop_t<T> *x = operand.load(i, n);
    finite = unscale_run(x, n, factor) && finite;
    operand.store(i, n, x);
  }
  return finite;
}

}  // namespace

// inv_scale and found_inf (float, one element each); list of tensors, multiplied in place.
vt_status unscale_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const vt_value &list = v[0];
  const vt_status status = check_floating(list);
  if (status != VT_OK) return status;
  const float factor = *data_of<const float>(a[0]);
  float *found_inf = data_of<float>(a[1]);
  for_parts(list, [&](int64_t k, int64_t begin, int64_t end) {
    const vt_array &x = list.arrays[k];
    dispatch<kFloating>(x.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if (!unscale_part<T>(x, static_cast<acc_t<T>>(factor), begin, end)) {
        __atomic_store_n(reinterpret_cast<int32_t *>(found_inf), 0x3f800000, __ATOMIC_RELAXED);
      }
    });
  });
  return VT_OK;
}

// scale (float), growth_tracker (int32), found_inf (float), one element each; growth factor, backoff
// factor, growth interval.
vt_status update_scale_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  update_scale(data_of<float>(a[0]), data_of<int32_t>(a[1]), *data_of<const float>(a[2]), v[0].re,
               v[1].re, v[2].i);
  return VT_OK;
}

// ---- casts ----

namespace {

template <class T>
void cast_part(const vt_array &from, const vt_array &to, int64_t begin, int64_t end) {
  const Runs<float> source(from);
  const Runs<T> target(to);
  alignas(64) float room[kChunk];
  for (int64_t i = begin; i < end; i += kChunk) {
    const int64_t n = min_of(kChunk, end - i);
    target.write(i, n, source.read(i, n, room));
  }
}

}  // namespace

// No arrays of its own; list of float32 arrays, list of arrays of one half type that they are written to.
vt_status cast_tensors_cpu(const vt_array *, const vt_value *v, vt_context *) {
  const vt_value &from = v[0], &to = v[1];
  for (int64_t k = 0; k < from.n; k++) {
    const int dtype = to.arrays[k].dtype;
    if (from.arrays[k].dtype != VT_F32 || (dtype != VT_F16 && dtype != VT_BF16)) {
      return VT_ERROR_DTYPE;
    }
  }
  for_parts(from, [&](int64_t k, int64_t begin, int64_t end) {
    if (to.arrays[k].dtype == VT_F16) {
      cast_part<half>(from.arrays[k], to.arrays[k], begin, end);
    } else {
      cast_part<bfloat16>(from.arrays[k], to.arrays[k], begin, end);
    }
  });
  return VT_OK;
}

}  // namespace VT_NS
