// The ways to compute attention on a device. Arrays and values are those of the operators sdpa and
// sdpa_backward (opdefs/attention.py):
//   q (B, H, Tq, D), k (B, Hkv, Tk, D), v (B, Hkv, Tk, Dv), mask (each dimension of its size or 1;
//   boolean or of q's dtype), slopes (B or 1, H), cu_queries, cu_keys, out (B, H, Tq, Dv),
//   lse (B, H, Tq) float, double for double;
//   grad (B, H, Tq, Dv), the same up to lse, then the outputs grad_q, grad_k, grad_v and grad_mask.
// Mask, slopes, cu_* and each output of the second may be none.
#ifndef VT_CUDA_ATTENTION_H
#define VT_CUDA_ATTENTION_H

#include "vibetensor/types.h"

namespace vt_cuda {

// Values by name.
enum { kScale, kDropoutP, kSeed, kOffset, kLow, kHigh, kOptions, kLengths };
// Bits of kOptions (ops/attention.pxd).
enum { kDeterministic = 1, kComposed = 2 };

// Products and a softmax kernel: no dropout, slopes, packed sequences, or lower bound of a window.
// Here grad_mask is (B, H, Tq, Tk), of the dtype of the mask.
vt_status attention_composed(const vt_array *arrays, const vt_value *values, vt_context *ctx);
vt_status attention_composed_backward(const vt_array *arrays, const vt_value *values,
                                      vt_context *ctx);

// The plain Triton kernels: everything but float64. grad_mask is float, contiguous, of the batches
// and heads of the mask, by Tq and Tk.
vt_status attention_plain(const vt_array *arrays, const vt_value *values, vt_context *ctx);
vt_status attention_plain_backward(const vt_array *arrays, const vt_value *values, vt_context *ctx);

// The Hopper kernels, for what fits them. Their gradient of the queries is summed in any order.
bool attention_fits_hopper(const vt_array *arrays, const vt_value *values, const vt_context *ctx);
bool attention_backward_fits_hopper(const vt_array *arrays, const vt_value *values,
                                    const vt_context *ctx);
vt_status attention_hopper(const vt_array *arrays, const vt_value *values, vt_context *ctx);
vt_status attention_hopper_backward(const vt_array *arrays, const vt_value *values,
                                    vt_context *ctx);

}  // namespace vt_cuda

#endif
