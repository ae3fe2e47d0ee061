// What the kernels of sort.cu share with their host side.
#ifndef VT_SORT_ARGS_H
#define VT_SORT_ARGS_H

#include "vt/walk.h"

namespace VT_NS {

// How elements become unsigned keys of the same order.
struct KeyRule {
  int32_t bytes;       // of an element: 1, 2, 4 or 8
  int32_t kind;        // 0: unsigned, 1: signed, 2: floating, 3: bfloat16
  int32_t descending;  // keys are complemented, so that equal elements keep their order
  int32_t bits;        // of a key: 8 * bytes
};

// The first `k` of the n elements of each row, in order.
struct SortArgs {
  Walk<3> rows;  // input, values, indices: all dimensions but the sorted one
  int64_t n, k;
  int64_t steps[3];  // of the arrays along the sorted dimension
  KeyRule rule;
};

// Rows of up to this length are sorted within a thread block.
constexpr int kSortRow = 4096;
// Up to this many elements are selected within a thread block.
constexpr int kSelectRow = 2048;

}  // namespace VT_NS
#endif
