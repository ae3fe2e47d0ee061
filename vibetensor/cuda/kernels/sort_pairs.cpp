#include "vibetensor/cuda/kernels/sort_pairs.h"

#include "vibetensor/cuda/cub.h"
#include "vibetensor/cuda/launch.h"

namespace vt_cuda {

CubTable cub = cub_entries;

namespace {

template <class K>
vt_status sort(vt_context *ctx,
               int (*entry)(void *, size_t *, const K *, K *, const uint32_t *, uint32_t *, int64_t,
                            int, int, void *),
               const K *keys_in, K *keys_out, const uint32_t *values_in, uint32_t *values_out,
               int64_t n, int begin_bit, int end_bit) {
  if (n == 0) return VT_OK;
  size_t bytes = 0;
  int error = entry(nullptr, &bytes, keys_in, keys_out, values_in, values_out, n, begin_bit,
                    end_bit, ctx->stream);
  if (error == 0) {
    // CUB takes a NULL for the question about the size.
    Scratch temp(ctx, bytes > 0 ? bytes : 1);
    if (!temp.ok()) return VT_ERROR_OUT_OF_MEMORY;
    error = entry(temp.as<void>(), &bytes, keys_in, keys_out, values_in, values_out, n, begin_bit,
                  end_bit, ctx->stream);
  }
  if (error == 0) return VT_OK;
  ctx->message = "CUDA: sorting on the device failed";
  return VT_ERROR_VALUE;
}

}  // namespace

vt_status sort_pairs(vt_context *ctx, const uint32_t *keys_in, uint32_t *keys_out,
                     const uint32_t *values_in, uint32_t *values_out, int64_t n, int begin_bit,
                     int end_bit) {
  return sort(ctx, cub.sort_pairs_32, keys_in, keys_out, values_in, values_out, n, begin_bit,
              end_bit);
}

vt_status sort_pairs(vt_context *ctx, const uint64_t *keys_in, uint64_t *keys_out,
                     const uint32_t *values_in, uint32_t *values_out, int64_t n, int begin_bit,
                     int end_bit) {
  return sort(ctx, cub.sort_pairs_64, keys_in, keys_out, values_in, values_out, n, begin_bit,
              end_bit);
}

}  // namespace vt_cuda
