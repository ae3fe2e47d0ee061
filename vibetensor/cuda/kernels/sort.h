// Sorting along a dimension, for operators that need it.
#ifndef VT_CUDA_SORT_H
#define VT_CUDA_SORT_H

#include "vibetensor/types.h"

namespace vt_cuda {

// Writes the k first elements of `in` along `dim`, in order, and their int64 indices. NaN counts as the
// largest value; equal values keep their order. `values` and `indices` have the shape of `in` but for
// `dim`, where they have k.
vt_status order_along(vt_context *ctx, const vt_array &in, const vt_array &values,
                      const vt_array &indices, int64_t dim, int64_t k, bool descending);

}  // namespace vt_cuda

#endif
