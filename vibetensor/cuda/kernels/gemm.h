// Products of matrices of any strides on the device, through cuBLASLt (blas.h) or, small ones, through a
// kernel of ours (small_product.h).
#ifndef VT_CUDA_GEMM_H
#define VT_CUDA_GEMM_H

#include "vibetensor/cuda/blas.h"
#include "vibetensor/types.h"

namespace vt_cuda {

// A batch of matrices in memory, or none; strides in elements, of any sign.
struct Matrices {
  const void *data = nullptr;
  int64_t row = 0, col = 0, batch = 0;
};

// C (m x n) = epilogue(alpha A (m x k) B (k x n) + beta init + bias), `batch` times. Without init C
// is not read; init may be C itself. Half types are summed in float and rounded once.
struct Product {
  int dtype;
  int out_dtype; /* `dtype`, or float32 for half types */
  int64_t m, n, k, batch = 1;
  Matrices a, b, init;
  void *c;
  int64_t c_row, c_col, c_batch = 0;
  GemmFactor alpha = {1, 0}, beta = {1, 0};
  // Added to every row: n elements of out_dtype, or none.
  const void *bias = nullptr;
  int64_t bias_stride = 1;
  // Where BGradB stores its m sums, 16-byte aligned.
  void *bias_grad = nullptr;
  // Without the bias's part: kLtEpilogueNone, Relu, Gelu, GeluAux or BGradB. Those but None
  // need C in rows, and no init beside a bias.
  uint32_t epilogue = kLtEpilogueNone;
  void *aux = nullptr; /* m x n in rows, aux_ld a multiple of 8 */
  int64_t aux_ld = 0;
};

vt_status gemm(const Product &p, vt_context *ctx);

// input (rows, in) times weight (out, in) transposed, plus a bias (out) where one is given.
Product linear_of(const vt_array &input, const vt_array &weight, const vt_array &bias,
                  const vt_array &out);

// C = factor * X, or zeros without X, over batches of matrices.
vt_status scale_matrices(int dtype, int64_t batch, int64_t m, int64_t n, void *c, int64_t c_row,
                         int64_t c_col, int64_t c_batch, const Matrices &x, GemmFactor factor,
                         vt_context *ctx);

inline GemmFactor factor_of(const vt_value &v) { return {v.re, v.im}; }
inline bool given(const vt_array &a) { return a.ndim >= 0; }

}  // namespace vt_cuda

#endif
