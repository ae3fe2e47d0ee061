// What the kernels of vt/reduce.cuh are given; the host side is vibetensor/cuda/kernels/reduce.cpp.
#ifndef VT_REDUCE_ARGS_H
#define VT_REDUCE_ARGS_H

#include "vt/walk.h"

namespace VT_NS {

// How a thread reads the elements that are folded into one output.
enum ReduceLoad : int32_t {
  kLoadElements = 0,  // one by one
  kLoadRun = 1,       // one contiguous run: 16 bytes at a time between its ends
  kLoadPacks = 2      // 16 bytes at a time; counts and strides are those of packs
};

constexpr int kReduceThreads = 256;
// Neighbouring columns of one thread, for elements and states of so many bytes: what a 16-byte load
// holds, but no more than 64 bytes of states. A power of two.
constexpr int columns_per_thread(int item, int state) {
  int n = item < 16 ? 16 / item : 1;
  while (n > 1 && n * state > 64) n /= 2;
  return n;
}

struct ReduceArgs {
  const char *in;
  char *out;
  char *partial;         // states by [split][output], or null: the one split gives the results
  int64_t outputs;       // of this launch
  int64_t count;         // units folded into each output: elements, or packs with kLoadPacks
  int64_t split_length;  // units of each split
  int64_t elements;      // folded into each output
  int64_t inner;         // columns: outputs along the innermost dimension
  int32_t splits;
  int32_t load;  // ReduceLoad; of columns: whether packs of columns are read
  int32_t out_dtype;
  int32_t flag;       // mean: divide; any: 1, all: 0
  uint64_t mask;      // min: the bits that turn the order round; any, all: the bits that count
  double correction;  // var
  Walk<2> kept;       // offsets of an output's first element, and of the output
  Walk<1> reduced;
};

}  // namespace VT_NS
#endif
