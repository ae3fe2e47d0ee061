#include "vibetensor/cuda/kernels/small_product.h"

#include "vibetensor/cuda/launch.h"
#include "vt/small_product_args.h"

namespace vt_cuda {
namespace {

KernelSet kernels("matrix", "vt_small_product");

}  // namespace

bool is_small_product(const Product &p) {
  using vt::kSmallProduct;
  return p.m <= kSmallProduct && p.n <= kSmallProduct && p.k <= kSmallProduct && p.batch == 1 &&
         p.dtype >= VT_F16 && p.dtype <= VT_F32 && p.out_dtype == p.dtype &&
         p.epilogue == kLtEpilogueNone;
}

vt_status small_product(const Product &p, vt_context *ctx) {
  const vt::SmallProductArgs args = {
      int32_t(p.m), int32_t(p.n), int32_t(p.k), float(p.alpha.re), float(p.beta.re),
      p.a.row,      p.a.col,      p.b.row,      p.b.col,           p.c_row,
      p.c_col,      p.init.row,   p.init.col,   p.bias_stride};
  const unsigned warps = unsigned(p.m * p.n + 31) / 32;
  return launch(ctx, kernels[p.dtype], {1}, {warps * 32}, 0, p.c, p.a.data, p.b.data, p.init.data,
                p.bias, args);
}

}  // namespace vt_cuda
