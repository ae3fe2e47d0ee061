// Which shape of the attention kernels runs where, as data: the first row that fits is taken.
// Measured on an H100 with head sizes 32, 64 and 128; the plain kernels' rows for larger heads only fit
// the shared memory.
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

// ---- Hopper ----

// From how many queries and keys on they are faster than the plain kernels, for heads of 64 elements; what
// counts is the product of the two. What vt_attention_hopper_min_rows is at the start.
constexpr int kHopperMinRows = 128;

// The rows of vibetensor/kernels/attention/hopper_choices.py (a test compares them): `dim` is the
// padded head size, max_rows the most queries.
struct HopperForward {
  int dim;
  bool causal;
  int max_rows, m, n, stages, query_stages, warpgroups, registers, together;
};
constexpr HopperForward kHopperForward[] = {
    {128, true, 512, 128, 64, 3, 2, 2, 240, 16},     {128, true, kEvery, 128, 128, 2, 2, 2, 240, 8},
    {128, false, kEvery, 128, 128, 2, 2, 2, 240, 8}, {64, true, 512, 128, 64, 4, 2, 2, 240, 16},
    {64, true, 2048, 128, 128, 3, 2, 2, 240, 8},     {64, true, kEvery, 192, 128, 2, 2, 3, 160, 8},
    {64, false, 1024, 128, 128, 3, 2, 2, 240, 8},    {64, false, kEvery, 192, 128, 2, 2, 3, 160, 8},
};
// `shared`: of causal calls in which heads of queries share keys. Their programs walk over several heads, short
// ones get to the next head before long ones, and would wait for these: the sum is cleared before instead.
struct HopperBackward {
  int dim;
  bool shared;
  int max_rows, m, n, stages, sum_stages;
  bool cleared;
};
constexpr HopperBackward kHopperBackward[] = {
    {128, true, 512, 64, 128, 2, 2, false},     {128, true, kEvery, 64, 128, 2, 2, true},
    {64, true, kEvery, 64, 128, 3, 2, true},    {128, false, kEvery, 64, 128, 2, 2, false},
    {64, false, kEvery, 64, 128, 3, 2, false},
};

}  // namespace vt_cuda

#endif
