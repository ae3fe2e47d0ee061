// The host entry points of CUB that the library uses: vibetensor/cuda/cub.h. The only file that is
// linked with the CUDA runtime, statically.
#include <cub/device/device_radix_sort.cuh>

#include "vibetensor/cuda/cub.h"

namespace vt_cuda {

namespace {

template <class K>
int sort_pairs(void *temp, size_t *temp_bytes, const K *keys_in, K *keys_out,
               const uint32_t *values_in, uint32_t *values_out, int64_t n, int begin_bit,
               int end_bit, void *stream) {
  return cub::DeviceRadixSort::SortPairs(temp, *temp_bytes, keys_in, keys_out, values_in,
                                         values_out, n, begin_bit, end_bit,
                                         static_cast<cudaStream_t>(stream));
}

}  // namespace

extern const CubTable cub_entries = {sort_pairs<uint32_t>, sort_pairs<uint64_t>};

}  // namespace vt_cuda
