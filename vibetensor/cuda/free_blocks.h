/* Free blocks of one kind, ordered by size: best fit in a few instructions.
 *
 * A bin per size up to 2 MiB (sizes are multiples of 512 bytes), then 64 bins per doubling, each
 * sorted. A bit per bin, and a bit per word of bits, find the next bin that has something. */
#ifndef VT_CUDA_FREE_BLOCKS_H
#define VT_CUDA_FREE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

namespace vt_cuda {

struct Block;

class FreeBlocks {
 public:
  void insert(Block *block);
  void erase(Block *block);
  /* The smallest block of at least `size` bytes, or NULL. It stays in. */
  Block *best_fit(size_t size) const;

 private:
  static constexpr int kExact = 4096; /* units of 512 bytes: 2 MiB */
  static constexpr int kExactBits = 12;
  static constexpr int kPerOctave = 64;
  static constexpr int kBins = kExact + 26 * kPerOctave + kPerOctave; /* sizes to 2^47 */
  static constexpr int kWords = (kBins + 63) / 64;

  static int bin_of(size_t size);
  int next_bin(int bin) const;

  Block *bins_[kBins] = {};
  uint64_t words_[kWords] = {};
  uint64_t summary_[(kWords + 63) / 64] = {};
};

}  // namespace vt_cuda
#endif
