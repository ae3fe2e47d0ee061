// cumsum: running sums along one dimension, float and half types in double.
#include "vibetensor/cpu/kernels/reduce_ops.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainWork = 16384;
constexpr int64_t kTile = 256;

// What sums run in. Integers wrap, so they are added unsigned.
template <class T>
struct ScanType {
  using type = std::conditional_t<is_integral<T>, uint64_t, double>;
};
template <class R>
struct ScanType<complex<R>> {
  using type = complex<double>;
};

template <class S, class T>
VT_INLINE S scan_load(T x) {
  if constexpr (is_integral<T>) {
    return static_cast<S>(static_cast<int64_t>(x));
  } else {
    return static_cast<S>(x);
  }
}

template <class O, class S>
VT_INLINE O scan_store(S x) {
  if constexpr (is_half_type<O>) {
    return static_cast<O>(static_cast<float>(x));
  } else {
    return static_cast<O>(x);
  }
}

// Groups of four: only one addition of each group waits for the group before.
template <class T, class O>
void scan_row(const T *x, int64_t stride, O *y, int64_t out_stride, int64_t n) {
  using S = typename ScanType<T>::type;
  S sum = S(0);
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const S a = scan_load<S>(x[i * stride]), b = scan_load<S>(x[(i + 1) * stride]);
    const S c = scan_load<S>(x[(i + 2) * stride]), d = scan_load<S>(x[(i + 3) * stride]);
    const S ab = a + b, abc = ab + c, abcd = ab + (c + d);
    y[i * out_stride] = scan_store<O>(sum + a);
    y[(i + 1) * out_stride] = scan_store<O>(sum + ab);
    y[(i + 2) * out_stride] = scan_store<O>(sum + abc);
    sum = sum + abcd;
    y[(i + 3) * out_stride] = scan_store<O>(sum);
  }
  for (; i < n; i++) {
    sum = sum + scan_load<S>(x[i * stride]);
    y[i * out_stride] = scan_store<O>(sum);
  }
}

template <class T, class O>
void scan_columns(const T *x, int64_t stride, O *y, int64_t out_stride, int64_t n, int64_t cols) {
  using S = typename ScanType<T>::type;
  alignas(64) S sum[kTile];
  for (int64_t c = 0; c < cols; c++) sum[c] = S(0);
  for (int64_t r = 0; r < n; r++) {
    const T *p = x + r * stride;
    O *q = y + r * out_stride;
#pragma omp simd
    for (int64_t c = 0; c < cols; c++) {
      sum[c] = sum[c] + scan_load<S>(p[c]);
      q[c] = scan_store<O>(sum[c]);
    }
  }
}

template <class T, class O>
void cumsum(const vt_array &in, const vt_array &out, int64_t dim) {
  const T *x = data_of<T>(in);
  O *y = data_of<O>(out);
  const int64_t n = in.ndim > 0 ? in.sizes[dim] : 1;
  if (in.numel == 0) return;
  const int64_t stride = in.ndim > 0 ? in.strides[dim] : 1;
  const int64_t out_stride = in.ndim > 0 ? out.strides[dim] : 1;
  const auto rows = layout_of(in.ndim > 0 ? static_cast<int>(dim) : -1, true, in, out);
  const int64_t in_step = inner_stride(rows, 0), out_step = inner_stride(rows, 1);
  const bool columns = in_step == 1 && out_step == 1 && rows.sizes[0] >= 4 && stride != 1;
  const int64_t grain = max_of<int64_t>(1, kGrainWork / n);
  parallel_for(in.numel / n, grain, [&](int64_t begin, int64_t end) {
    for_runs(rows, begin, end, [&](const int64_t *offset, int64_t count) {
      const T *p = x + offset[0];
      O *q = y + offset[1];
      if (columns) {
        for (int64_t c = 0; c < count; c += kTile) {
          scan_columns(p + c, stride, q + c, out_stride, n, min_of(count - c, kTile));
        }
        return;
      }
      for (int64_t r = 0; r < count; r++) {
        scan_row(p + r * in_step, stride, q + r * out_step, out_stride, n);
      }
    });
  });
}

}  // namespace

// values: dim. Integers and bool give int64, other types themselves.
vt_status cumsum_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const vt_array &in = a[0], &out = a[1];
  return dispatch<kAll & ~kBool>(bool_as_byte(in.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using O = std::conditional_t<is_integral<T>, int64_t, T>;
    if (out.dtype != TypeTraits<O>::code) return VT_ERROR_DTYPE;
    cumsum<T, O>(in, out, v[0].i);
    return VT_OK;
  });
}

}  // namespace VT_NS
