// What the kernels of softmax.cu are given.
#ifndef VT_SOFTMAX_ARGS_H
#define VT_SOFTMAX_ARGS_H

#include "vt/lines.h"

namespace VT_NS {

// Operands: input (backward: gradient and result), output.
struct SoftmaxArgs {
  const void *in[2];
  void *out;
  Lines<3> lines;
  int32_t packed;  // lines are read and written 16 bytes at a time
  int32_t log;     // log_softmax
};

// Elements of a line in the registers of one thread: few for short lines.
template <int Bytes>
struct SoftmaxSlice {
  static constexpr int kSmall = 8;
  static constexpr int kForward = Bytes == 8 ? 16 : 32;
  static constexpr int kBackward = Bytes == 8 ? 8 : 16;
};
constexpr int kSoftmaxThreads = 256;  // of a block, but for long lines
constexpr int kSoftmaxLong = 1024;    // of a block that streams a long line
constexpr int kSoftmaxColumns = 512;  // of a block of neighbouring lines

}  // namespace VT_NS
#endif
