// The pointwise operators on CUDA: what the generator writes about every functor, and the entries.
#ifndef VT_CUDA_POINTWISE_H
#define VT_CUDA_POINTWISE_H

#include "vibetensor/core/iter.h"
#include "vibetensor/cuda/launch.h"

namespace vt_cuda {

enum FunctorResult { kResult_same, kResult_bool, kResult_real };

// Kernels are positions in pointwise_kernels by the loop's dtype, -1 where there is none.
struct Functor {
  uint8_t inputs, params;
  uint8_t bools;   // bit k: input k is bool whatever the dtype
  uint8_t result;  // FunctorResult
  int16_t vectors[VT_NUM_DTYPES], strided[VT_NUM_DTYPES];
};

// pointwise_table.cpp, generated.
extern Kernel pointwise_kernels[];
extern const Functor functors[];
extern const int functor_count;

}  // namespace vt_cuda

extern "C" {
// Runs a plan whose operands lie on the device; inputs marked `host` are taken by value.
vt_status vt_cuda_pointwise(const vt_iter *it, int functor, int dtype, const vt_value *params,
                            vt_context *ctx);
// The same for operands without gaps, of one shape, none of which needs a cast: data[0] is the output.
vt_status vt_cuda_pointwise_flat(int functor, int dtype, int noperands, char *const *data,
                                 int64_t numel, const vt_value *params, vt_context *ctx);
}

#endif
