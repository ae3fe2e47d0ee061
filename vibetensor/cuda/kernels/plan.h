// What the host does with the plan of a pointwise operator or a copy before a kernel can take it.
#ifndef VT_CUDA_PLAN_H
#define VT_CUDA_PLAN_H

#include <stdint.h>
#include <stdlib.h>

#include "vibetensor/core/iter.h"
#include "vt/pointwise_args.h"

namespace vt_cuda {

inline int dtype_size(int dtype) {
  static constexpr uint8_t sizes[VT_NUM_DTYPES] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16};
  return sizes[dtype];
}

// Whether 32 bits are enough for the number of every element and its offset in every operand.
bool fits_32_bits(const vt_iter &it);

// The two halves of a plan along the dimension with the longest way.
void split(const vt_iter &it, vt_iter *low, vt_iter *high);

// Position `i` of the outermost dimension.
void slice_outermost(const vt_iter &it, int64_t i, vt_iter *part);

// The element of an input on the host, converted to the loop's dtype.
vt::Element host_element(const vt_iter &it, int k);

// The arguments of a kernel of the strided form, but for parameters. At most kStridedDims dimensions,
// and fits_32_bits.
void strided_args(const vt_iter &it, vt::StridedArgs *a);
inline unsigned strided_blocks(const vt_iter &it) {
  constexpr int64_t kPerBlock = 4 * vt::kPointwiseThreads;
  return unsigned((it.numel + kPerBlock - 1) / kPerBlock);
}

// Calls run(part) for parts of the plan that a strided kernel takes.
template <class F>
vt_status for_parts(const vt_iter &it, const F &run) {
  if (!fits_32_bits(it)) {
    vt_iter part[2];
    split(it, &part[0], &part[1]);
    const vt_status status = for_parts(part[0], run);
    return status != VT_OK ? status : for_parts(part[1], run);
  }
  if (it.ndim <= vt::kStridedDims) return run(it);
  for (int64_t i = 0; i < it.sizes[it.ndim - 1]; i++) {
    vt_iter part;
    slice_outermost(it, i, &part);
    const vt_status status = for_parts(part, run);
    if (status != VT_OK) return status;
  }
  return VT_OK;
}

}  // namespace vt_cuda

#endif
