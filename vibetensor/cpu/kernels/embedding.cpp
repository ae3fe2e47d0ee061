// Rows of a table by number, and the gradient of that: sums of rows.
#include <emmintrin.h>

#include "vibetensor/cpu/kernels/index_error.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainElements = 16 << 10;

template <class T>
void copy_row(T *to, int64_t to_step, const T *from, int64_t from_step, int64_t n) {
  if (to_step == 1 && from_step == 1) {
    memcpy(to, from, n * sizeof(T));
  } else {
    for (int64_t i = 0; i < n; i++) to[i * to_step] = from[i * from_step];
  }
}

// The positions of an array (..., D) as a layout without its last dimension.
Layout<1> rows_of(const vt_array &a) { return layout_of(a.ndim - 1, false, a); }

}  // namespace

// weight (V, D), indices (int32 or int64, any shape), out (the shape of indices, D).
vt_status embedding_cpu(const vt_array *a, const vt_value *, vt_context *context) {
  const vt_array &weight = a[0], &out = a[2];
  const Indices indices(a[1]);
  if (!indices.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const int64_t rows = weight.sizes[0], width = weight.sizes[1], stride = weight.strides[0];
  const int64_t to_step = out.strides[out.ndim - 1], from_step = weight.strides[1];
  const Layout<1> l = rows_of(out);
  const int64_t row_step = inner_stride(l, 0);
  IndexErrors errors;
  const vt_status status = dispatch_size(weight.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T *table = data_of<const T>(weight);
    parallel_for(a[1].numel, div_up(kGrainElements, width + 1), [&](int64_t begin, int64_t end) {
      int64_t p = begin;
      for_runs(l, begin, end, [&](const int64_t *offset, int64_t n) {
        T *to = data_of<T>(out) + offset[0];
        for (int64_t i = 0; i < n; i++, p++, to += row_step) {
          const int64_t row = indices[p];
          if (VT_UNLIKELY(!in_range(row, rows))) {
            errors.raise(row, 0, rows);
            continue;
          }
          // Rows lie anywhere, which the processor cannot foresee.
          if (i + 1 < n) __builtin_prefetch(table + indices[p + 1] * stride);
          copy_row(to, to_step, table + row * stride, from_step, width);
        }
      });
    });
  });
  return status == VT_OK ? errors.status(context) : status;
}

namespace {

// For each row of the table the places that refer to it, as linked lists in ascending order. -1 ends
// a list.
class PlacesByRow {
 public:
  PlacesByRow(const Indices &indices, int64_t n, int64_t rows, int64_t padding, IndexErrors &errors)
      : first_(rows), next_(n) {
    if (!ok()) return;
    memset(first_.data(), 0xff, rows * sizeof(int64_t));
    for (int64_t place = n - 1; place >= 0; place--) {
      const int64_t row = indices[place];
      if (VT_UNLIKELY(!in_range(row, rows))) {
        errors.raise(row, 0, rows);
        continue;
      }
      if (row == padding) continue;
      next_[place] = first_[row];
      first_[row] = place;
    }
  }
  bool ok() const { return first_.ok() && next_.ok(); }
  VT_INLINE int64_t first(int64_t row) const { return first_[row]; }
  VT_INLINE int64_t next(int64_t place) const { return next_[place]; }
  int64_t count(int64_t row) const {
    int64_t n = 0;
    for (int64_t place = first_[row]; place >= 0; place = next_[place]) n++;
    return n;
  }

 private:
  Scratch<int64_t, 64> first_, next_;
};

template <class A, class T>
VT_INLINE void add_scaled(A *sum, const T *x, int64_t step, A scale, int64_t n) {
  if constexpr (is_half_type<T>) {
    constexpr int64_t kBlock = 256;
    alignas(64) A room[kBlock];
    for (int64_t i = 0; i < n; i += kBlock) {
      const int64_t m = min_of(kBlock, n - i);
      load_row(room, x + i * step, step, m);
      add_scaled(sum + i, static_cast<const A *>(room), 1, scale, m);
    }
  } else if (step == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += x[i] * scale;
  } else {
    for (int64_t i = 0; i < n; i++) sum[i] += x[i * step] * scale;
  }
}

// A row that one place refers to needs no sum.
template <class T>
VT_INLINE void first_row(acc_t<T> *sum, const T *x, int64_t step, acc_t<T> scale, int64_t n) {
  load_row(sum, x, step, n);
  if (scale != acc_t<T>(1)) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] *= scale;
  }
}

// Tables of this size leave the caches before anybody reads them: their empty rows, which are most
// of them, are written around the caches.
constexpr int64_t kStreamBytes = 16 << 20;

// `to` is aligned to 16 bytes.
VT_INLINE void stream_zeros(void *to, int64_t bytes) {
  __m128i *p = static_cast<__m128i *>(to);
  for (int64_t i = 0; i < bytes / 16; i++) _mm_stream_si128(p + i, _mm_setzero_si128());
  memset(p + bytes / 16, 0, bytes % 16);
}

template <class T>
struct RowSums {
  using A = acc_t<T>;
  const vt_array &grad, &out;
  const Layout<1> &positions;  // of grad
  const PlacesByRow &places;
  bool by_frequency;

  // Writes rows [begin, end) of the table, every element once. `room` holds a row.
  void run(int64_t begin, int64_t end, A *room) const {
    const int64_t width = out.sizes[1], row_stride = out.strides[0], step = out.strides[1];
    const int64_t grad_step = grad.strides[grad.ndim - 1];
    const bool stream = out.numel * int64_t(sizeof(T)) >= kStreamBytes;
    for (int64_t row = begin; row < end; row++) {
      T *to = data_of<T>(out) + row * row_stride;
      int64_t place = places.first(row);
      if (place < 0) {
        zero_row(to, step, width, stream);
        continue;
      }
      const A scale = by_frequency ? A(1) / static_cast<A>(places.count(row)) : A(1);
      A *sum = room;
      if constexpr (is_same<T, A>::value) {
        if (step == 1) sum = to;
      }
      first_row(sum, grad_row(place), grad_step, scale, width);
      for (place = places.next(place); place >= 0; place = places.next(place)) {
        add_scaled(sum, grad_row(place), grad_step, scale, width);
      }
      if (sum == room) store_row(to, step, sum, width);
    }
    if (stream) _mm_sfence();
  }

 private:
  const T *grad_row(int64_t place) const {
    const int64_t offset = positions.ndim <= 1 ? place * inner_stride(positions, 0)
                                               : Walker<1>(positions, place).offset[0];
    return data_of<const T>(grad) + offset;
  }
  static void zero_row(T *to, int64_t step, int64_t n, bool stream) {
    if (step == 1 && stream && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
      stream_zeros(to, n * sizeof(T));
    } else if (step == 1) {
      memset(to, 0, n * sizeof(T));
    } else {
      for (int64_t i = 0; i < n; i++) to[i * step] = T(A(0));
    }
  }
};

}  // namespace

// grad (the shape of indices, D), indices (int32 or int64), grad_weight (V, D); padding_idx (-1 for
// none), scale_grad_by_freq. A row of the result is the sum of its gradients in order.
vt_status embedding_backward_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const vt_array &grad = a[0], &out = a[2];
  const Indices indices(a[1]);
  if (!indices.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const int64_t rows = out.sizes[0], width = out.sizes[1];
  IndexErrors errors;
  const PlacesByRow places(indices, a[1].numel, rows, v[0].i, errors);
  if (!places.ok()) return VT_ERROR_OUT_OF_MEMORY;
  if (errors.status(context) != VT_OK) return VT_ERROR_INDEX;
  const Layout<1> positions = rows_of(grad);
  bool no_memory = false;
  const vt_status status = dispatch<kFloating>(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const RowSums<T> sums = {grad, out, positions, places, v[1].i != 0};
    parallel_for(rows, div_up(kGrainElements, width + 1), [&](int64_t begin, int64_t end) {
      Scratch<acc_t<T>> room(width);
      if (room.ok()) {
        sums.run(begin, end, room.data());
      } else {
        __atomic_store_n(&no_memory, true, __ATOMIC_RELAXED);
      }
    });
  });
  return no_memory ? VT_ERROR_OUT_OF_MEMORY : status;
}

}  // namespace VT_NS
