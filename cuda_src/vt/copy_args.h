// The parameters of the kernels of copy.cu, cat.cu and fill.cu.
#ifndef VT_COPY_ARGS_H
#define VT_COPY_ARGS_H

#include "vt/divide.h"

namespace vt {

constexpr int kMoveThreads = 256, kMoveUnits = 4;  // units a thread moves

// A transposition: in the input elements lie together along dimension 1, in the output along
// dimension 0. Tiles of the two; further dimensions are walked tile by tile.
constexpr int kTransposeThreads = 256, kTransposeDims = 8;
struct TransposeArgs {
  char *out;
  const char *in;
  int32_t size[2];    // elements of dimensions 0 and 1
  int64_t in0, out1;  // strides in bytes: of the input along 0, of the output along 1
  Divider tiles[2];   // along dimensions 0 and 1
  int32_t ndim;       // of the further dimensions
  Divider sizes[kTransposeDims];
  int64_t strides[2][kTransposeDims];  // bytes: output, input
};
// Elements along an edge of the tile, by the bytes of an element and of an access.
constexpr int transpose_tile(int size, int access) {
  return size == access ? 32 : size == 1 ? 128 : size <= 4 ? 64 : 32;
}

// Joining arrays without gaps: the output is `rows` rows of `row` units, of which input k gives
// `width` from `at` on.
constexpr int kCatInputs = 64, kCatThreads = 256, kCatUnits = 4;
struct CatArgs {
  char *out;
  int64_t row;
  uint32_t rows;
  const char *in[kCatInputs];
  int64_t at[kCatInputs];
  Divider width[kCatInputs];
};

// 16 bytes of one element repeated.
struct alignas(16) Pattern {
  unsigned char bytes[16];
};
constexpr int kFillThreads = 256, kFillUnits = 4;

}  // namespace vt

#endif
