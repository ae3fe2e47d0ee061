// Copies between arrays on one device, whatever their layouts and dtypes.
#ifndef VT_CUDA_COPY_H
#define VT_CUDA_COPY_H

#include "vibetensor/core/iter.h"
#include "vibetensor/cuda/launch.h"

extern "C" {
// Operand 1 of the plan into operand 0, converted; operand 1 may be one element on the host.
vt_status vt_cuda_copy(const vt_iter *it, vt_context *ctx);
}

namespace vt_cuda {

// The same for arrays of one shape.
vt_status copy_array(const vt_array &from, const vt_array &to, vt_context *ctx);

// One element in memory, of the array's dtype, everywhere.
vt_status fill_array(const vt_array &to, const void *element, vt_context *ctx);

// `count` elements of `size` bytes without gaps.
vt_status fill_elements(char *to, const void *element, int size, int64_t count, vt_context *ctx);

}  // namespace vt_cuda

#endif
