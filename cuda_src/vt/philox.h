// Random bits: Philox4x32-10 (Salmon et al., SC 2011), a block cipher over a counter. Nothing is
// carried from one number to the next, so every thread, device and instruction set draws the same.
//
// A draw is described by (seed, offset): its blocks are the counters offset, offset + 1, ... under
// the key `seed`, four 32-bit words each. An element takes one word (VT_DRAW_32) or two
// (VT_DRAW_64, the first one is the high half), in row-major order of the output:
//
//   uniform, normal   float, half, bfloat16: VT_DRAW_32; double: VT_DRAW_64; a complex number
//                     counts as two real ones
//   bernoulli, dropout                       VT_DRAW_32
//   randint, randperm                        VT_DRAW_64
//   multinomial       VT_DRAW_64: one per number drawn; without replacement and more than one
//                     number per row: one per probability
//
// Whoever draws n elements then moves the generator's offset on by vt_philox_blocks(kind, n).
#ifndef VT_PHILOX_H
#define VT_PHILOX_H

#include <stdint.h>

enum { VT_DRAW_32 = 4, VT_DRAW_64 = 2 };  // elements per block

static inline int64_t vt_philox_blocks(int kind, int64_t n) { return (n + kind - 1) / kind; }

#ifdef __cplusplus
#include "vt/config.h"

namespace VT_NS {

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxMultiplier0 = 0xd2511f53u, kPhiloxMultiplier1 = 0xcd9e8d57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9e3779b9u, kPhiloxWeyl1 = 0xbb67ae85u;

struct PhiloxBlock {
  uint32_t word[4];
};

// One block. The counter has 128 bits; the upper half is there for other streams of one seed.
VT_HD PhiloxBlock philox(uint64_t seed, uint64_t counter, uint64_t counter_high = 0) {
  uint32_t a = uint32_t(counter), b = uint32_t(counter >> 32);
  uint32_t c = uint32_t(counter_high), d = uint32_t(counter_high >> 32);
  uint32_t key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
#ifdef __CUDACC__
#pragma unroll
#endif
  for (int round = 0; round < kPhiloxRounds; round++) {
    const uint64_t p = uint64_t(a) * kPhiloxMultiplier0, q = uint64_t(c) * kPhiloxMultiplier1;
    a = uint32_t(q >> 32) ^ b ^ key0;
    b = uint32_t(q);
    c = uint32_t(p >> 32) ^ d ^ key1;
    d = uint32_t(p);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return {{a, b, c, d}};
}

}  // namespace VT_NS
#endif
#endif
