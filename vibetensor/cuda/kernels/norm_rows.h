// An array as rows of n neighbouring elements, a fixed distance apart: in place where it is that, else
// a row-major copy.
#ifndef VT_CUDA_NORM_ROWS_H
#define VT_CUDA_NORM_ROWS_H

#include "vibetensor/cuda/kernels/contiguous.h"
#include "vibetensor/cuda/kernels/shapes.h"

namespace vt_cuda {

class NormRows {
 public:
  // n is the product of the sizes of some trailing dimensions.
  NormRows(vt_context *ctx, const vt_array &a, int64_t n, Contiguous::Use use)
      : stride_(n), copy_(ctx, a, find_stride(a, n) ? Contiguous::kNothing : use) {}

  vt_status status() const { return copy_.status(); }
  char *data() const { return copy_.data(); }
  int64_t stride() const { return stride_; }
  vt_status finish() { return copy_.finish(); }
  bool in_packs(int64_t pack) const { return stride_ % pack == 0 && is_aligned(data()); }

 private:
  // Whether the rows can be used in place; then stride_ is the distance between them.
  bool find_stride(const vt_array &a, int64_t n) {
    int64_t expected = 1, seen = 1;
    int d = a.ndim - 1;
    for (; d >= 0 && seen < n; d--) {
      if (a.sizes[d] == 1) continue;
      if (a.strides[d] != expected) return false;
      seen *= a.sizes[d];
      expected = seen;
    }
    bool first = true;
    for (; d >= 0; d--) {
      if (a.sizes[d] == 1) continue;
      if (first) {
        stride_ = a.strides[d];
        first = false;
      } else if (a.strides[d] != expected) {
        stride_ = n;
        return false;
      }
      expected = a.strides[d] * a.sizes[d];
    }
    return true;
  }

  int64_t stride_;
  Contiguous copy_;
};

}  // namespace vt_cuda

#endif
