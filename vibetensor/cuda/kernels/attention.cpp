// The operators of attention on a device: which way a call takes.
#include "vibetensor/cuda/kernels/attention.h"

using namespace vt_cuda;

extern "C" vt_status sdpa_cuda(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const bool composed = values[kOptions].i & kComposed;
  return (composed ? attention_composed : attention_plain)(arrays, values, ctx);
}

extern "C" vt_status sdpa_backward_cuda(const vt_array *arrays, const vt_value *values,
                                        vt_context *ctx) {
  const bool composed = values[kOptions].i & kComposed;
  return (composed ? attention_composed_backward : attention_plain_backward)(arrays, values, ctx);
}
