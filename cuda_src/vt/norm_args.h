// What the kernels of norm.cu and norm_backward.cu are given.
#ifndef VT_NORM_ARGS_H
#define VT_NORM_ARGS_H

#include "vt/dropout.h"
#include "vt/parameter.h"

namespace VT_NS {

// Rows of n neighbouring elements. The statistics have the compute type.
struct NormArgs {
  const void *x;
  Parameter weight, bias;
  void *out, *mean, *rstd;  // the last two may be null
  int64_t rows, n, x_stride, out_stride;
  double eps;
  int64_t rms;
};

// The norm of sum = residual + dropout(x), which is stored as well; `norm.x` is not looked at. x may be
// of a half type where the others are float.
struct AddNormArgs {
  NormArgs norm;
  const void *x, *residual;
  void *sum;
  int64_t x_stride, residual_stride, sum_stride;
  Dropout dropout;
};

struct NormBackwardArgs {
  const void *g, *x;
  Parameter weight;
  const void *mean, *rstd;
  void *dx;                       // or null
  void *weight_sums, *bias_sums;  // [pieces][n] of the compute type, or null
  int64_t rows, n, g_stride, x_stride, dx_stride;
  int64_t pieces;
  int64_t rms;
};

// The gradient of the sum: that which comes through the norm, in `norm.dx`, and `extra`, that of its other
// users, added there. The gradient of what was dropped goes to `dropped`, in its own dtype.
struct AddNormBackwardArgs {
  NormBackwardArgs norm;
  const void *extra;  // or null
  void *dropped;      // or null
  int64_t extra_stride, dropped_stride;
  Dropout dropout;
};

// The sums of the pieces, stored as a floating dtype.
struct NormFinishArgs {
  const void *weight_sums, *bias_sums;
  void *weight, *bias;
  int64_t pieces, n;
  int32_t weight_dtype, bias_dtype;
};

// Kernels that keep rows in registers: packs of 16 bytes and registers of a thread, threads for one row at
// most. Fewer registers spill, more leave the SM empty.
struct NormShape {
  int packs, registers, threads;
};
constexpr int kNormThreads = 512;
constexpr NormShape kNormRows = {2, 56, kNormThreads}, kNormWide = {4, 96, kNormThreads};
// Those of a sum have twice as much under way.
constexpr NormShape kAddNormRows = {2, 64, 256}, kAddNormWide = {4, 128, kNormThreads};
// The gradients': elements and registers of a thread.
constexpr int norm_slice(int bytes) { return bytes == 8 ? 8 : 16; }
constexpr int kNormBackwardRegisters = 128;
constexpr int kNormLong = 1024;    // of a block that streams a row
constexpr int kNormColumns = 256;  // of a block that sums columns of long rows
constexpr int kNormFinishX = 32, kNormFinishY = 16;

}  // namespace VT_NS
#endif
