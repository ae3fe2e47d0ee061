// Places of the elements that are not zero, and the reverse for one dimension: one_hot.
#include "vibetensor/cpu/kernel_utils.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainElements = 32 << 10;
constexpr int64_t kChunk = 1024;

template <class T>
VT_INLINE bool is_nonzero(T x) {
  if constexpr (is_complex<T>) {
    return x.re != 0 || x.im != 0;
  } else if constexpr (is_half_type<T>) {
    return (x.bits & 0x7fffu) != 0;
  } else {
    return x != T(0);
  }
}

template <class T>
int64_t count_run(const T *x, int64_t step, int64_t n) {
  int64_t count = 0;
  if (step == 1) {
    // 32-bit sums of short parts, which keep more elements in a vector.
    for (int64_t i = 0; i < n; i += kChunk) {
      const int64_t end = min_of(n, i + kChunk);
      int32_t part = 0;
#pragma omp simd reduction(+ : part)
      for (int64_t j = i; j < end; j++) part += is_nonzero(x[j]);
      count += part;
    }
  } else {
    for (int64_t i = 0; i < n; i++) count += is_nonzero(x[i * step]);
  }
  return count;
}

// A bool is the byte 0 or 1: adds eight counters of 8 bits at a time.
template <>
int64_t count_run<bool>(const bool *x, int64_t step, int64_t n) {
  int64_t count = 0, i = 0;
  if (step == 1) {
    while (i + 8 <= n) {
      const int64_t words = min_of<int64_t>((n - i) / 8, 255);
      uint64_t bytes = 0;
#pragma omp simd reduction(+ : bytes)
      for (int64_t k = 0; k < words; k++) {
        uint64_t word;
        memcpy(&word, x + i + 8 * k, 8);
        bytes += word;
      }
      const uint64_t pairs = (bytes & 0x00ff00ff00ff00ffu) + (bytes >> 8 & 0x00ff00ff00ff00ffu);
      count += static_cast<int64_t>(pairs * 0x0001000100010001u >> 48);
      i += 8 * words;
    }
  }
  for (; i < n; i++) count += x[i * step];
  return count;
}

template <class T>
int64_t count_part(const Layout<1> &l, const T *x, int64_t begin, int64_t end) {
  int64_t count = 0;
  for_runs(l, begin, end, [&](const int64_t *offset, int64_t n) {
    count += count_run(x + offset[0], inner_stride(l, 0), n);
  });
  return count;
}

// Writes the coordinates of the nonzero elements among [begin, end), in order.
template <class T>
void list_part(const vt_array &input, int64_t begin, int64_t end, int64_t *out, int64_t out_step,
               int64_t out_dim_step) {
  const int last = input.ndim - 1;
  int64_t at[VT_MAX_DIMS], offset = 0, rest = begin;
  for (int d = last; d >= 0; d--) {
    at[d] = rest % input.sizes[d];
    rest /= input.sizes[d];
    offset += at[d] * input.strides[d];
  }
  const int64_t row = input.sizes[last], step = input.strides[last];
  int32_t found[kChunk];
  while (begin < end) {
    const int64_t n = min_of(min_of(row - at[last], end - begin), kChunk);
    const T *x = data_of<const T>(input) + offset;
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++) {
      found[count] = i;
      count += is_nonzero(x[i * step]);
    }
    if (count > 0) {
      for (int d = 0; d < last; d++) {
        for (int32_t i = 0; i < count; i++) out[i * out_step + d * out_dim_step] = at[d];
      }
      int64_t *column = out + last * out_dim_step;
      for (int32_t i = 0; i < count; i++) column[i * out_step] = at[last] + found[i];
      out += count * out_step;
    }
    begin += n;
    at[last] += n;
    offset += n * step;
    for (int d = last; d > 0 && at[d] == input.sizes[d]; d--) {
      offset += input.strides[d - 1] - at[d] * input.strides[d];
      at[d] = 0;
      at[d - 1]++;
    }
  }
}

}  // namespace

// input, out (int64, one element).
vt_status count_nonzero_cpu(const vt_array *a, const vt_value *, vt_context *) {
  const vt_array &input = a[0];
  const Layout<1> l = layout_of(-1, true, input);
  int64_t total = 0;
  const vt_status status = dispatch<kAll>(input.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(input.numel, kGrainElements, [&](int64_t begin, int64_t end) {
      const int64_t count = count_part(l, data_of<const T>(input), begin, end);
      __atomic_fetch_add(&total, count, __ATOMIC_RELAXED);
    });
  });
  *data_of<int64_t>(a[1]) = total;
  return status;
}

// input, out (int64: a row of input.ndim coordinates for each of its nonzero elements, in order).
vt_status nonzero_cpu(const vt_array *a, const vt_value *, vt_context *) {
  const vt_array &input = a[0], &out = a[1];
  if (input.ndim == 0 || out.numel == 0) return VT_OK;
  const int64_t step = out.strides[0], dim_step = out.strides[1];
  // Every part has to know where its rows begin, so the parts are counted first.
  constexpr int64_t kMostParts = 64;
  const int64_t numel = input.numel;
  const int64_t parts = clamp_to<int64_t>(numel / kGrainElements, 1, kMostParts);
  const auto part_begin = [&](int64_t k) { return numel / parts * k + min_of(k, numel % parts); };
  const Layout<1> l = layout_of(-1, false, input);
  return dispatch<kAll>(input.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    int64_t starts[kMostParts] = {};
    if (parts > 1) {
      parallel_for(parts, 1, [&](int64_t first, int64_t last) {
        for (int64_t k = first; k < last; k++) {
          starts[k] = count_part(l, data_of<const T>(input), part_begin(k), part_begin(k + 1));
        }
      });
      int64_t total = 0;
      for (int64_t k = 0; k < parts; k++) {
        const int64_t count = starts[k];
        starts[k] = total;
        total += count;
      }
    }
    parallel_for(parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; k++) {
        list_part<T>(input, part_begin(k), part_begin(k + 1),
                     data_of<int64_t>(out) + starts[k] * step, step, dim_step);
      }
    });
  });
}

// input (int64), out (int64, contiguous, the input's shape and a last dimension of num_classes);
// num_classes.
vt_status one_hot_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const vt_array &input = a[0];
  const int64_t classes = v[0].i;
  int64_t *out = data_of<int64_t>(a[1]);
  memset(out, 0, a[1].numel * sizeof(int64_t));
  const Layout<1> l = layout_of(-1, false, input);
  const int64_t step = inner_stride(l, 0);
  bool negative = false, large = false;
  for_runs(l, 0, input.numel, [&](const int64_t *offset, int64_t n) {
    const int64_t *x = data_of<const int64_t>(input) + offset[0];
    for (int64_t i = 0; i < n; i++, out += classes) {
      const int64_t label = x[i * step];
      if (VT_LIKELY(static_cast<uint64_t>(label) < static_cast<uint64_t>(classes))) {
        out[label] = 1;
      } else {
        (label < 0 ? negative : large) = true;
      }
    }
  });
  if (!negative && !large) return VT_OK;
  context->message = negative ? "Class values must be non-negative."
                              : "Class values must be smaller than num_classes.";
  return VT_ERROR_VALUE;
}

}  // namespace VT_NS
