// What the kernels of gelu_rows.cu are given.
#ifndef VT_GELU_ROWS_ARGS_H
#define VT_GELU_ROWS_ARGS_H

#include "vt/config.h"

namespace VT_NS {

// grad (rows, n) becomes grad * gelu'(x), the derivative of the tanh form; without gaps.
struct GeluRowsArgs {
  void *grad;
  const void *x;
  // (gridDim.y, n) in the compute type: the results' sums over the rows of each piece, or null.
  void *sums;
  int64_t rows, n;
};

constexpr int kGeluRowsX = 32, kGeluRowsY = 8;  // threads of a block: packs of a row, and rows

}  // namespace VT_NS
#endif
