#include "vibetensor/cuda/free_blocks.h"

#include "vibetensor/cuda/arena.h"

namespace vt_cuda {

int FreeBlocks::bin_of(size_t size) {
  size_t units = size / kMinBlock;
  if (units < kExact) return int(units);
  int exponent = 63 - __builtin_clzll(units);
  int fraction = int(units >> (exponent - 6)) & (kPerOctave - 1);
  int bin = kExact + (exponent - kExactBits) * kPerOctave + fraction;
  return bin < kBins ? bin : kBins - 1;
}

void FreeBlocks::insert(Block *block) {
  int bin = bin_of(block->size);
  // Of equal blocks the one used last comes first: it may still be in the device's cache.
  Block *before = nullptr, *after = bins_[bin];
  while (after != nullptr && after->size < block->size) {
    before = after;
    after = after->link;
  }
  block->back = before;
  block->link = after;
  if (after != nullptr) after->back = block;
  if (before != nullptr) {
    before->link = block;
    return;
  }
  bins_[bin] = block;
  words_[bin / 64] |= uint64_t(1) << (bin % 64);
  summary_[bin / 64 / 64] |= uint64_t(1) << (bin / 64 % 64);
}

void FreeBlocks::erase(Block *block) {
  if (block->link != nullptr) block->link->back = block->back;
  if (block->back != nullptr) {
    block->back->link = block->link;
    return;
  }
  int bin = bin_of(block->size);
  bins_[bin] = block->link;
  if (block->link != nullptr) return;
  words_[bin / 64] &= ~(uint64_t(1) << (bin % 64));
  if (words_[bin / 64] == 0) summary_[bin / 64 / 64] &= ~(uint64_t(1) << (bin / 64 % 64));
}

// The first bin at or after `bin` that holds a block, or -1.
int FreeBlocks::next_bin(int bin) const {
  if (bin >= kBins) return -1;
  int word = bin / 64;
  uint64_t bits = words_[word] & (~uint64_t(0) << (bin % 64));
  if (bits != 0) return word * 64 + __builtin_ctzll(bits);
  for (int s = (word + 1) / 64; s < int(sizeof(summary_) / sizeof(summary_[0])); ++s) {
    uint64_t words = summary_[s];
    if (s == (word + 1) / 64) words &= ~uint64_t(0) << ((word + 1) % 64);
    if (words == 0) continue;
    word = s * 64 + __builtin_ctzll(words);
    return word * 64 + __builtin_ctzll(words_[word]);
  }
  return -1;
}

Block *FreeBlocks::best_fit(size_t size) const {
  int bin = bin_of(size);
  for (Block *b = bins_[bin]; b != nullptr; b = b->link) {
    if (b->size >= size) return b;
  }
  int next = next_bin(bin + 1);
  return next < 0 ? nullptr : bins_[next];
}

}  // namespace vt_cuda
