// What the kernels of embedding_backward share with their host side.
#ifndef VT_EMBEDDING_ARGS_H
#define VT_EMBEDDING_ARGS_H

#include "vt/walk.h"

namespace VT_NS {

// Tokens are taken in tiles of this many once they are sorted by row. A tile that lies within one row
// is summed by itself, so that a row that most tokens name does not take one thread block forever.
constexpr int kEmbeddingTile = 32;

struct EmbeddingArgs {
  Walk<1> places;     // of grad without its last dimension
  int64_t grad_step;  // of grad along its last dimension
  int64_t rows, width;
  int64_t row_stride, step;  // of the result
  int64_t tokens;
  int32_t by_frequency;
};

// The sorted tokens of one row of the table: [begin, end).
struct RowRange {
  uint32_t begin, end;
};

}  // namespace VT_NS
#endif
