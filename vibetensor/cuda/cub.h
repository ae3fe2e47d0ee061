// The entry points of CUB: host functions that launch kernels of their own, compiled by nvcc into an
// object of this library (cuda_src/cub_entries.cu). All calls go through this table, whose functions
// the simulated driver exchanges for stand-ins.
//
// A stand-in does what the comment says of `temp`: with temp == NULL it stores a size into *temp_bytes
// (say 1024 + n / 16) and returns 0; else it records one call on `stream` that reads keys_in and
// values_in and writes keys_out, values_out and temp (sizes follow from n), and returns 0.
#ifndef VT_CUDA_CUB_H
#define VT_CUDA_CUB_H

#include <stddef.h>
#include <stdint.h>

namespace vt_cuda {

struct CubTable {
  // Sorts n pairs by the bits [begin_bit, end_bit) of their keys, ascending and stable. With temp ==
  // NULL nothing is launched, and *temp_bytes becomes the size that `temp` has to have. Returns a
  // cudaError_t, 0 for success.
  int (*sort_pairs_32)(void *temp, size_t *temp_bytes, const uint32_t *keys_in, uint32_t *keys_out,
                       const uint32_t *values_in, uint32_t *values_out, int64_t n, int begin_bit,
                       int end_bit, void *stream);
  int (*sort_pairs_64)(void *temp, size_t *temp_bytes, const uint64_t *keys_in, uint64_t *keys_out,
                       const uint32_t *values_in, uint32_t *values_out, int64_t n, int begin_bit,
                       int end_bit, void *stream);
};

// The table in use: the real one, or the simulated driver's (chosen in backend.cpp).
extern CubTable cub;
extern const CubTable cub_entries, cub_simulated;

}  // namespace vt_cuda

#endif
