// What the host tells the kernel of small matrix products.
#ifndef VT_SMALL_PRODUCT_ARGS_H
#define VT_SMALL_PRODUCT_ARGS_H

#include <stdint.h>

namespace vt {

constexpr int kSmallProduct = 32;  // m, n and k at most

// C (m x n) = alpha A (m x k) B (k x n) + beta init + bias. Strides in elements, of any sign.
struct SmallProductArgs {
  int32_t m, n, k;
  float alpha, beta;
  int64_t a_row, a_col, b_row, b_col, c_row, c_col, init_row, init_col, bias;
};

}  // namespace vt

#endif
