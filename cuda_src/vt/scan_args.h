// What the kernels of scan.cu are given.
#ifndef VT_SCAN_ARGS_H
#define VT_SCAN_ARGS_H

#include "vt/lines.h"

namespace VT_NS {

struct ScanArgs {
  const void *in;
  void *out;
  void *partial;  // sums by [chunk][line], where lines are cut into chunks
  Lines<2> lines;
  int64_t chunk;   // elements of a line that one block takes; blockIdx.y is its number
  int64_t totals;  // only write the sums of the chunks
};

constexpr int kScanThreads = 256;
constexpr int kScanItems = 4;  // neighbouring elements of one thread

}  // namespace VT_NS
#endif
