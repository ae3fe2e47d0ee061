// Filling arrays with functions of random words: the part that all distributions share.
#ifndef VT_CPU_RANDOM_WORDS_H
#define VT_CPU_RANDOM_WORDS_H

#include <emmintrin.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "vibetensor/cpu/kernel_utils.h"
#include "vibetensor/cpu/kernels/runs.h"
#include "vt/philox.h"
#include "vt/random_math.h"

namespace VT_NS {

constexpr int64_t kChunkBlocks = 256;  // blocks at a time: 4 KB of words stay in the first cache
constexpr int64_t kChunkWords = 4 * kChunkBlocks;

namespace detail {
#ifdef __AVX2__
typedef uint64_t Lanes __attribute__((vector_size(32)));
VT_INLINE Lanes multiply(Lanes a, Lanes b) {
  return (Lanes)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
#else
typedef uint64_t Lanes __attribute__((vector_size(16)));
VT_INLINE Lanes multiply(Lanes a, Lanes b) { return (Lanes)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#endif
constexpr int64_t kLanes = sizeof(Lanes) / 8;
constexpr int64_t kChains = 2;  // independent computations, to fill the latency of the products
}  // namespace detail

constexpr int64_t kBlocksAtOnce = detail::kLanes * detail::kChains;

// The words of `blocks` blocks from `counter` on, in order, the same as philox() gives one by one.
// Writes whole groups of kBlocksAtOnce blocks.
inline void philox_words(uint64_t seed, uint64_t counter, int64_t blocks, uint32_t *words) {
  using detail::Lanes;
  constexpr int64_t kLanes = detail::kLanes, kChains = detail::kChains;
  const Lanes zero = {}, low_half = zero + 0xffffffffu;
  const Lanes multiplier0 = zero + kPhiloxMultiplier0, multiplier1 = zero + kPhiloxMultiplier1;
  Lanes steps = {};
  for (int64_t i = 0; i < kLanes; i++) steps[i] = static_cast<uint64_t>(i);
  for (int64_t block = 0; block < blocks; block += kBlocksAtOnce) {
    // Each lane holds one 32-bit word; what lies in its upper half is ignored by the product.
    Lanes a[kChains], b[kChains], c[kChains], d[kChains];
    for (int64_t k = 0; k < kChains; k++) {
      a[k] = steps + (counter + static_cast<uint64_t>(block + k * kLanes));
      b[k] = a[k] >> 32;
      c[k] = d[k] = zero;
    }
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < kPhiloxRounds; round++) {
      for (int64_t k = 0; k < kChains; k++) {
        const Lanes p = detail::multiply(a[k], multiplier0);
        const Lanes q = detail::multiply(c[k], multiplier1);
        a[k] = (q >> 32) ^ b[k] ^ (zero + key0);
        b[k] = q;
        c[k] = (p >> 32) ^ d[k] ^ (zero + key1);
        d[k] = p;
      }
      key0 += kPhiloxWeyl0;
      key1 += kPhiloxWeyl1;
    }
    for (int64_t k = 0; k < kChains; k++) {
      const Lanes ab = (a[k] & low_half) | b[k] << 32, cd = (c[k] & low_half) | d[k] << 32;
      uint64_t *to = reinterpret_cast<uint64_t *>(words) + 2 * (block + k * kLanes);
      for (int64_t i = 0; i < kLanes; i++) {
        const uint64_t block_words[2] = {ab[i], cd[i]};
        memcpy(to + 2 * i, block_words, sizeof(block_words));
      }
    }
  }
}

// Fills `out` from the draw (seed, offset). fill(words, blocks, to) turns the words of some blocks
// into kPerBlock values each.
template <int kPerBlock, class T, class F>
void draw(const vt_array &out, uint64_t seed, uint64_t offset, const F &fill) {
  using A = acc_t<T>;
  const Runs<T> runs(out);
  const int64_t blocks = div_up(out.numel, kPerBlock);
  parallel_for(blocks, 32 * kChunkBlocks, [&](int64_t first, int64_t last) {
    alignas(64) uint32_t words[kChunkWords];
    alignas(64) A room[kChunkBlocks * kPerBlock];
    for (int64_t block = first; block < last; block += kChunkBlocks) {
      const int64_t n = min_of(kChunkBlocks, last - block), begin = block * kPerBlock;
      const int64_t count = min_of(n * kPerBlock, out.numel - begin);
      philox_words(seed, offset + static_cast<uint64_t>(block), n, words);
      // The last block may hold more values than there is room for in the output.
      A *to = count == n * kPerBlock ? runs.target(begin, room) : room;
      fill(words, n, to);
      runs.write(begin, count, to);
    }
  });
}

}  // namespace VT_NS
#endif
