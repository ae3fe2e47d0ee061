// Products of matrices of any strides, for all dtypes but bool.
#ifndef VT_CPU_GEMM_H
#define VT_CPU_GEMM_H

#include "vibetensor/cpu/kernel_utils.h"

namespace VT_NS {

// A matrix or vector in memory; strides in elements.
struct MatrixRef {
  const void *data;
  int64_t row, col;
};

// A factor in the forms the dtypes need: an integer, or a complex number.
struct Factor {
  int64_t i;
  double re, im;
};
constexpr Factor kOne = {1, 1.0, 0.0};

VT_INLINE Factor factor_of(const vt_value &v) {
  return {v.kind == VT_VALUE_INT ? v.i : static_cast<int64_t>(v.re), v.re, v.im};
}

// C (m x n) = alpha A (m x k) B (k x n) + beta init (m x n). Without init (data == NULL) C is not
// read; init may be C itself. Half types are summed and combined in float and rounded once;
// integers wrap.
struct Product {
  int dtype;
  int64_t m, n, k;
  MatrixRef a, b;
  void *c;
  int64_t c_row, c_col;
  MatrixRef init = {nullptr, 0, 0};
  Factor alpha = kOne, beta = kOne;
};

// On this thread only.
vt_status gemm_serial(const Product &p);
// Over the thread pool.
vt_status gemm(const Product &p);

}  // namespace VT_NS

#endif
