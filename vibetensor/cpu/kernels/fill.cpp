// Arrays made from a formula: constants, ranges, the identity, and triangles of a matrix.
#include "vibetensor/cpu/kernels/copy.h"
#include "vibetensor/cpu/kernels/runs.h"
#include "vibetensor/cpu/kernels/scalar.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainBytes = 256 << 10;
constexpr int64_t kGrainElements = 32 << 10;
constexpr int64_t kChunk = 1024;

template <class T>
void fill_strided(T *to, int64_t n, int64_t stride, const T *element) {
  for (int64_t i = 0; i < n; i++) to[i * stride] = *element;
}

void fill_with(const vt_array &out, const void *element) {
  const int64_t size = dtype_size(out.dtype);
  const Pattern pattern(element, size);
  if (is_contiguous(out)) {
    parallel_for(div_up(out.numel * size, 16), kGrainBytes / 16, [&](int64_t begin, int64_t end) {
      fill_run(out.data + 16 * begin, min_of(16 * end, out.numel * size) - 16 * begin, pattern);
    });
    return;
  }
  const Layout<1> l = layout_of(-1, true, out);
  const int64_t step = inner_stride(l, 0);
  parallel_for(out.numel, kGrainElements, [&](int64_t begin, int64_t end) {
    for_runs(l, begin, end, [&](const int64_t *offset, int64_t n) {
      char *to = out.data + offset[0] * size;
      if (step == 1) {
        fill_run(to, n * size, pattern);
        return;
      }
      dispatch_size(out.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        fill_strided(reinterpret_cast<T *>(to), n, step, static_cast<const T *>(element));
      });
    });
  });
}

// Fills `out` with f(i) of the position i, computed as A and converted to T.
template <class T, class A, class F>
void fill_by_position(const vt_array &out, const F &f) {
  const Runs<T, A> runs(out);
  parallel_for(out.numel, kGrainElements, [&](int64_t begin, int64_t end) {
    alignas(64) A room[kChunk];
    for (int64_t i = begin; i < end; i += kChunk) {
      const int64_t n = min_of(kChunk, end - i);
      A *to = runs.target(i, room);
      f(i, n, to);
      runs.write(i, n, to);
    }
  });
}

template <class A>
void range_run(int64_t first, int64_t n, int64_t start, int64_t step, A *to) {
  // Wraps, without being undefined.
  const uint64_t ustep = static_cast<uint64_t>(step);
  uint64_t x = static_cast<uint64_t>(start) + static_cast<uint64_t>(first) * ustep;
  for (int64_t i = 0; i < n; i++, x += ustep) to[i] = static_cast<A>(static_cast<int64_t>(x));
}
template <class A>
void range_run(int64_t first, int64_t n, double start, double step, A *to) {
  const double base = static_cast<double>(first);
  // A short counter, because 64-bit integers do not convert as vectors everywhere.
  const int32_t count = static_cast<int32_t>(n);
#pragma omp simd
  for (int32_t i = 0; i < count; i++) {
    to[i] = static_cast<A>(start + (base + static_cast<double>(i)) * step);
  }
}

}  // namespace

// out; value.
vt_status fill_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return dispatch<kAll>(a[0].dtype, [&](auto tag) {
    const auto element = element_from<typename decltype(tag)::type>(v[0]);
    fill_with(a[0], &element);
  });
}

// out (n); start, step: start + i * step, exact where both are integers. Reals are computed in
// double and rounded once.
vt_status arange_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return dispatch<kIntegers | kFloating>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = acc_t<T>;
    if (is_integral<T> || (v[0].kind == VT_VALUE_INT && v[1].kind == VT_VALUE_INT)) {
      const int64_t start = element_from<int64_t>(v[0]), step = element_from<int64_t>(v[1]);
      fill_by_position<T, A>(
          a[0], [&](int64_t i, int64_t n, A *to) { range_run(i, n, start, step, to); });
    } else {
      const double start = v[0].re, step = v[1].re;
      fill_by_position<T, A>(
          a[0], [&](int64_t i, int64_t n, A *to) { range_run(i, n, start, step, to); });
    }
  });
}

namespace {

// Evenly spaced from both ends, so that the ends are exact and a symmetric range is symmetric.
template <class A>
struct Spacing {
  A start, end;
  double step;
  int64_t n;

  Spacing(double from, double to, int64_t count)
      : start(static_cast<A>(from)), end(static_cast<A>(to)), step(0), n(count) {
    // The step is rounded to A, as in PyTorch.
    if (n > 1) step = static_cast<double>((end - start) / static_cast<A>(n - 1));
  }
  VT_INLINE A operator()(int64_t i) const {
    const double x = i < n / 2 ? static_cast<double>(start) + step * static_cast<double>(i)
                               : static_cast<double>(end) - step * static_cast<double>(n - 1 - i);
    return n == 1 ? start : static_cast<A>(x);
  }
};

}  // namespace

// out (n); start, end.
vt_status linspace_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const int64_t count = a[0].numel;
  return dispatch<kIntegers | kFloating | kComplex>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = acc_t<T>;
    if constexpr (is_integral<T>) {
      // Only the step is a fraction.
      const double start = static_cast<double>(element_from<T>(v[0]));
      const Spacing<double> re(start, static_cast<double>(element_from<T>(v[1])), count);
      fill_by_position<T, T>(a[0], [&](int64_t first, int64_t n, T *to) {
        for (int64_t i = 0; i < n; i++) {
          to[i] = static_cast<T>(static_cast<int64_t>(re(first + i)));
        }
      });
    } else {
      using R = real_t<A>;
      const Spacing<R> re(v[0].re, v[1].re, count), im(v[0].im, v[1].im, count);
      fill_by_position<T, A>(a[0], [&](int64_t first, int64_t n, A *to) {
        for (int64_t i = 0; i < n; i++) {
          if constexpr (is_complex<T>) {
            to[i] = A(re(first + i), im(first + i));
          } else {
            to[i] = re(first + i);
          }
        }
      });
    }
  });
}

// out (n, m): ones on the main diagonal, else zeros.
vt_status eye_cpu(const vt_array *a, const vt_value *, vt_context *) {
  const vt_array &out = a[0];
  const Bytes16 zero = {0, 0};
  fill_with(out, &zero);
  const int64_t ones = min_of(out.sizes[0], out.sizes[1]);
  const int64_t stride = out.strides[0] + out.strides[1];
  return dispatch<kAll>(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T one = static_cast<T>(static_cast<acc_t<T>>(1));
    fill_strided(data_of<T>(out), ones, stride, &one);
  });
}

namespace {

// Rows of which [kept_begin, kept_end) is copied and the rest becomes zero.
template <class T>
void keep_part(T *to, int64_t to_step, const T *from, int64_t from_step, int64_t n,
               int64_t kept_begin, int64_t kept_end) {
  const T zero = {};
  const int64_t kept = kept_end - kept_begin;
  if (to_step == 1) {
    memset(to, 0, kept_begin * sizeof(T));
    memset(to + kept_end, 0, (n - kept_end) * sizeof(T));
  } else {
    fill_strided(to, kept_begin, to_step, &zero);
    fill_strided(to + kept_end * to_step, n - kept_end, to_step, &zero);
  }
  to += kept_begin * to_step;
  from += kept_begin * from_step;
  if (to == from) return;
  if (to_step == 1 && from_step == 1) {
    memcpy(to, from, kept * sizeof(T));
  } else {
    for (int64_t i = 0; i < kept; i++) to[i * to_step] = from[i * from_step];
  }
}

// The part of every matrix below (or above) a diagonal.
template <bool kLower>
vt_status triangle(const vt_array &input, const vt_array &out, int64_t diagonal) {
  if (out.numel == 0) return VT_OK;
  const int last = out.ndim - 1;
  const int64_t rows = out.sizes[last - 1], columns = out.sizes[last];
  const int64_t to_step = out.strides[last], from_step = input.strides[last];
  // Far diagonals are all alike, and would overflow.
  diagonal = clamp_to(diagonal, -rows - 1, columns + 1);
  const Layout<2> l = layout_of(last, false, out, input);
  const int64_t to_row = inner_stride(l, 0), from_row = inner_stride(l, 1);
  return dispatch_size(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(out.numel / columns, div_up(kGrainElements, columns), [&](int64_t b, int64_t e) {
      int64_t row = b % rows;
      for_runs(l, b, e, [&](const int64_t *offset, int64_t n) {
        for (int64_t i = 0; i < n; i++) {
          const int64_t edge = clamp_to(row + diagonal + (kLower ? 1 : 0), int64_t(0), columns);
          keep_part(data_of<T>(out) + offset[0] + i * to_row, to_step,
                    data_of<const T>(input) + offset[1] + i * from_row, from_step, columns,
                    kLower ? 0 : edge, kLower ? edge : columns);
          row = row + 1 == rows ? 0 : row + 1;
        }
      });
    });
  });
}

}  // namespace

// input (..., m, n), out; diagonal. `out` may be the input.
vt_status tril_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return triangle<true>(a[0], a[1], v[0].i);
}
vt_status triu_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return triangle<false>(a[0], a[1], v[0].i);
}

}  // namespace VT_NS
