// Sorting on the device, with the scratch memory it takes.
#ifndef VT_CUDA_SORT_PAIRS_H
#define VT_CUDA_SORT_PAIRS_H

#include <stdint.h>

#include "vibetensor/types.h"

namespace vt_cuda {

// Sorts n pairs by the bits [begin_bit, end_bit) of the keys, ascending and stable. All four arrays
// differ and are on the device; n < 2^32.
vt_status sort_pairs(vt_context *ctx, const uint32_t *keys_in, uint32_t *keys_out,
                     const uint32_t *values_in, uint32_t *values_out, int64_t n, int begin_bit,
                     int end_bit);
vt_status sort_pairs(vt_context *ctx, const uint64_t *keys_in, uint64_t *keys_out,
                     const uint32_t *values_in, uint32_t *values_out, int64_t n, int begin_bit,
                     int end_bit);

// The number of bits of the numbers below n.
inline int bits_below(uint64_t n) { return n <= 1 ? 0 : 64 - __builtin_clzll(n - 1); }

}  // namespace vt_cuda

#endif
