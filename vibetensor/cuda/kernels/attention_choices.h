// Which shape of the plain attention kernels runs where, as data: the first row that fits is taken.
// Measured on an H100 with head sizes 32, 64 and 128 (docs/attention.md); the rows of larger heads
// only fit the shared memory.
#ifndef VT_CUDA_ATTENTION_CHOICES_H
#define VT_CUDA_ATTENTION_CHOICES_H

#include <stdint.h>

namespace vt_cuda {

// What a product of the kernel is: half types; float32 by TF32, or by three products of TF32, which
// is about float32's precision.
enum Precision : uint8_t { kHalf, kTf32, kTf32x3 };
enum : uint8_t { kFull = 1, kCausal = 2, kAny = 3 };
constexpr int kEvery = 1 << 30;

struct Tile {
  Precision precision;
  uint8_t bound;  // kCausal: of calls in which queries have a last key
  int dim, keys;  // the largest ones
  uint8_t m, n;   // logarithms: queries and keys of a tile
  uint8_t warps, stages;
};

// One tile holds all keys: no loop over them. (No row: the kernel that loops.)
constexpr Tile kWholeTiles[] = {
    {kHalf, kAny, 64, 64, 6, 6, 4, 1},   {kHalf, kFull, 64, 128, 6, 7, 4, 1},
    {kTf32, kAny, 64, 64, 6, 6, 4, 1},   {kTf32, kAny, 32, 128, 7, 7, 8, 1},
    {kTf32x3, kAny, 32, 64, 6, 6, 4, 1},
};
constexpr Tile kForwardTiles[] = {
    {kHalf, kAny, 64, 128, 6, 6, 4, 1},      {kHalf, kAny, 64, kEvery, 6, 6, 4, 3},
    {kHalf, kAny, 128, kEvery, 7, 6, 8, 3},  {kHalf, kAny, 256, kEvery, 6, 6, 8, 1},
    {kTf32, kAny, 64, kEvery, 7, 6, 8, 2},   {kTf32, kAny, 128, kEvery, 6, 6, 8, 1},
    {kTf32x3, kAny, 64, kEvery, 6, 6, 4, 2}, {kTf32x3, kAny, 128, kEvery, 5, 6, 8, 1},
};
// Backward, all gradients in one kernel, where one tile holds all keys.
constexpr Tile kShortTiles[] = {
    {kHalf, kAny, 64, 64, 6, 6, 4, 1},  {kHalf, kAny, 32, 128, 6, 7, 4, 1},
    {kHalf, kAny, 64, 128, 5, 7, 8, 1}, {kTf32, kAny, 32, 64, 6, 6, 4, 1},
    {kTf32, kAny, 32, 128, 7, 7, 8, 1}, {kTf32x3, kAny, 32, 64, 6, 6, 4, 1},
};
// Else dq and what belongs to queries first, then dk and dv.
constexpr Tile kQueryTiles[] = {
    {kHalf, kAny, 64, kEvery, 6, 6, 4, 3},    {kHalf, kAny, 128, kEvery, 7, 6, 8, 3},
    {kHalf, kAny, 256, kEvery, 5, 6, 8, 1},   {kTf32, kAny, 64, kEvery, 6, 6, 4, 1},
    {kTf32, kAny, 128, kEvery, 5, 6, 8, 1},   {kTf32x3, kAny, 64, kEvery, 6, 6, 4, 1},
    {kTf32x3, kAny, 128, kEvery, 5, 6, 8, 1},
};
constexpr Tile kKeyTiles[] = {
    {kHalf, kAny, 64, kEvery, 6, 6, 4, 2},   {kHalf, kCausal, 128, kEvery, 5, 6, 4, 2},
    {kHalf, kAny, 128, kEvery, 6, 7, 8, 2},  {kHalf, kAny, 256, kEvery, 5, 6, 8, 1},
    {kTf32, kAny, 64, kEvery, 6, 6, 4, 1},   {kTf32, kAny, 128, kEvery, 5, 6, 8, 1},
    {kTf32x3, kAny, 64, kEvery, 5, 6, 4, 2}, {kTf32x3, kAny, 128, kEvery, 5, 6, 8, 1},
};
// The gradient of an added bias.
constexpr Tile kBiasTiles[] = {
    {kHalf, kAny, 64, kEvery, 6, 6, 4, 1},
    {kHalf, kAny, 256, kEvery, 5, 6, 8, 1},
    {kTf32, kAny, 128, kEvery, 5, 6, 8, 1},
    {kTf32x3, kAny, 128, kEvery, 5, 6, 8, 1},
};

template <int N>
inline const Tile *choose(const Tile (&rows)[N], Precision precision, bool causal, int64_t dim,
                          int64_t keys) {
  for (const Tile &row : rows) {
    if (row.precision == precision && row.bound & (causal ? kCausal : kFull) && dim <= row.dim &&
        keys <= row.keys) {
      return &row;
    }
  }
  return nullptr;
}

}  // namespace vt_cuda

#endif
