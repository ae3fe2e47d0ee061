// The operators of attention on a device: which way a call takes.
#include "vibetensor/cuda/kernels/attention.h"

using namespace vt_cuda;

extern "C" vt_status sdpa_cuda(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  if (values[kOptions].i & kComposed) return attention_composed(arrays, values, ctx);
  const bool hopper = attention_fits_hopper(arrays, values, ctx);
  return (hopper ? attention_hopper : attention_plain)(arrays, values, ctx);
}

extern "C" vt_status sdpa_backward_cuda(const vt_array *arrays, const vt_value *values,
                                        vt_context *ctx) {
  if (values[kOptions].i & kComposed) return attention_composed_backward(arrays, values, ctx);
  const bool hopper = attention_backward_fits_hopper(arrays, values, ctx);
  return (hopper ? attention_hopper_backward : attention_plain_backward)(arrays, values, ctx);
}
