// The driver of operators that map rows along one dimension to rows of the same length.
#ifndef VT_CPU_KERNELS_ROWS_H
#define VT_CPU_KERNELS_ROWS_H

#include "vibetensor/cpu/kernels/row_math.h"

namespace VT_NS {

// The most columns that Kernel::columns gets at once.
constexpr int64_t kRowColumns = 256;

// Calls a kernel for every row along `dim` of K inputs and one output of the same shape and dtype
// T.
//   Kernel::row(const V *const *in, V *out, int64_t n): contiguous rows of V = acc_t<T>
//   Kernel::columns(const V *const *in, const int64_t *strides, V *out, int64_t out_stride,
//                   int64_t n, int64_t cols): neighbouring rows side by side
// The output may be the memory of an input.
template <class T, int K, class Kernel>
inline vt_status run_rows(const vt_array *in, const vt_array &out, int64_t dim) {
  using V = acc_t<T>;
  constexpr bool kInPlace = is_same<T, V>::value;
  constexpr int64_t kGrainWork = 16384;
  if (out.numel == 0) return VT_OK;
  const int64_t n = out.ndim > 0 ? out.sizes[dim] : 1;
  int64_t stride[K + 1];
  const T *from[K];
  T *const to = data_of<T>(out);
  for (int k = 0; k < K; k++) {
    from[k] = data_of<const T>(in[k]);
    stride[k] = out.ndim > 0 ? in[k].strides[dim] : 1;
  }
  stride[K] = out.ndim > 0 ? out.strides[dim] : 1;

  Layout<K + 1> rows;
  for (int d = out.ndim - 1; d >= 0; d--) {
    if (d == dim || out.sizes[d] == 1) continue;
    for (int k = 0; k < K; k++) rows.strides[k][rows.ndim] = in[k].strides[d];
    rows.strides[K][rows.ndim] = out.strides[d];
    rows.sizes[rows.ndim++] = out.sizes[d];
  }
  rows.sort(K);
  rows.coalesce();

  bool columns = rows.ndim > 0 && rows.sizes[0] >= 8;
  for (int k = 0; k <= K; k++) columns &= inner_stride(rows, k) == 1;
  // Tiles of columns stay in the second-level cache.
  const int64_t tile = clamp_to<int64_t>((65536 / n) & ~int64_t(15), 16, kRowColumns);
  const int64_t room_size =
      kInPlace ? (columns ? 0 : (K + 1) * n) : (K + 1) * n * (columns ? tile : 1);

  const int64_t grain = max_of<int64_t>(1, kGrainWork / n);
  bool failed = false;
  parallel_for(out.numel / n, grain, [&](int64_t begin, int64_t end) {
    const Scratch<V, 4096> room(room_size);
    if (!room.ok()) {
      __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
      return;
    }
    for_runs(rows, begin, end, [&](const int64_t *offset, int64_t count) {
      const V *source[K];
      if (columns) {
        for (int64_t c = 0; c < count; c += tile) {
          const int64_t cols = min_of(count - c, tile);
          T *const target = to + offset[K] + c;
          if constexpr (kInPlace) {
            for (int k = 0; k < K; k++) source[k] = from[k] + offset[k] + c;
            Kernel::columns(source, stride, target, stride[K], n, cols);
          } else {
            int64_t steps[K];
            V *const result = room.data() + K * n * cols;
            for (int k = 0; k < K; k++) {
              V *const copy = room.data() + k * n * cols;
              const T *const p = from[k] + offset[k] + c;
              for (int64_t r = 0; r < n; r++) load_row(copy + r * cols, p + r * stride[k], 1, cols);
              source[k] = copy;
              steps[k] = cols;
            }
            Kernel::columns(source, steps, result, cols, n, cols);
            for (int64_t r = 0; r < n; r++) {
              store_row(target + r * stride[K], 1, result + r * cols, cols);
            }
          }
        }
        return;
      }
      for (int64_t r = 0; r < count; r++) {
        for (int k = 0; k < K; k++) {
          const T *const p = from[k] + offset[k] + r * inner_stride(rows, k);
          source[k] = row_as_acc(p, stride[k], n, room.data() + k * n);
        }
        T *const target = to + offset[K] + r * inner_stride(rows, K);
        if constexpr (kInPlace) {
          if (stride[K] == 1) {
            Kernel::row(source, target, n);
            continue;
          }
        }
        V *const result = room.data() + K * n;
        Kernel::row(source, result, n);
        store_row(target, stride[K], result, n);
      }
    });
  });
  return failed ? VT_ERROR_OUT_OF_MEMORY : VT_OK;
}

}  // namespace VT_NS

#endif
