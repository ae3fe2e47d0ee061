// Stand-ins for CUB's entry points on the simulated device: they answer the question about the size of
// the scratch memory and record each sort as one call on its stream.
#include "vibetensor/cuda/cub.h"
#include "vibetensor/cuda/driver.h"

namespace vt_cuda {
namespace {

int sort_pairs(void *temp, size_t *temp_bytes, const void *keys_in, void *keys_out,
               const void *values_in, void *values_out, int64_t n, void *stream) {
  if (temp == nullptr) {
    *temp_bytes = 1024 + static_cast<size_t>(n) / 16;
    return 0;
  }
  const void *reads[] = {keys_in, values_in};
  void *writes[] = {keys_out, values_out, temp};
  driver.library_call("DeviceRadixSort::SortPairs", static_cast<CUstream>(stream), reads, 2, writes,
                      3);
  return 0;
}

template <class K>
int sort(void *temp, size_t *temp_bytes, const K *keys_in, K *keys_out, const uint32_t *values_in,
         uint32_t *values_out, int64_t n, int, int, void *stream) {
  return sort_pairs(temp, temp_bytes, keys_in, keys_out, values_in, values_out, n, stream);
}

}  // namespace

extern const CubTable cub_simulated = {sort<uint32_t>, sort<uint64_t>};

}  // namespace vt_cuda
