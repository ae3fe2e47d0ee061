// What the kernels of swiglu.cu are given: rows of n neighbouring elements.
#ifndef VT_SWIGLU_ARGS_H
#define VT_SWIGLU_ARGS_H

#include "vt/config.h"

namespace VT_NS {

struct SwigluArgs {
  const void *gate, *up;
  void *out;
  int64_t rows, n, gate_stride, up_stride, out_stride;
  int64_t packed;  // rows are made of whole packs
};

struct SwigluBackwardArgs {
  const void *g, *gate, *up;
  void *dgate, *dup;  // or null
  int64_t rows, n, g_stride, gate_stride, up_stride, dgate_stride, dup_stride;
  int64_t packed;
};

constexpr int kSwigluThreads = 256;

}  // namespace VT_NS
#endif
