// What the kernel of embedding_add.cu is given.
#ifndef VT_EMBEDDING_ADD_ARGS_H
#define VT_EMBEDDING_ADD_ARGS_H

#include "vt/config.h"
#include "vt/index_error.h"

namespace VT_NS {

// Token t gets row index[t] of the table plus row t % length of the positions, `width` elements.
struct EmbeddingAddArgs {
  const void *table, *position, *index;
  void *out;
  int64_t tokens, length, width, rows;
  int64_t table_stride, position_stride;
  int32_t wide;    // indices of 64 bits
  int32_t packed;  // rows are made of whole packs
  vt_error_sink sink;
};

constexpr int kEmbeddingAddThreads = 256;

}  // namespace VT_NS
#endif
