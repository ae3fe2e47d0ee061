// Matrix products of which one block of threads makes all: launching our kernel costs the host half of
// a call of cuBLASLt, and the GPU no more.
#ifndef VT_CUDA_SMALL_PRODUCT_H
#define VT_CUDA_SMALL_PRODUCT_H

#include "vibetensor/cuda/kernels/gemm.h"

namespace vt_cuda {

// Whether small_product takes it: any layout, summed in float32 whatever the precision of products.
bool is_small_product(const Product &p);
vt_status small_product(const Product &p, vt_context *ctx);

}  // namespace vt_cuda

#endif
