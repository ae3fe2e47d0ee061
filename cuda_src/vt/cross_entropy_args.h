// What the kernels of cross_entropy.cu are given.
#ifndef VT_CROSS_ENTROPY_ARGS_H
#define VT_CROSS_ENTROPY_ARGS_H

#include "vt/index_error.h"
#include "vt/lines.h"
#include "vt/parameter.h"

namespace VT_NS {

// loss = (1 - s) w[t] nll[t] + s / C sum_c w[c] nll[c], with nll = -log softmax(x).
struct CrossEntropyOptions {
  const void *weight;  // per class in the compute type, then their sum; or null
  int64_t ignore;
  double smoothing;
  vt_error_sink sink;
};

// A value per sample.
struct SampleValues {
  const void *data;
  int64_t outer_stride, inner_stride;
};

struct CrossEntropyArgs {
  const void *x;
  SampleValues target;  // int64
  void *losses;         // per sample, or null
  int64_t wide;         // whether they have the compute type rather than that of x
  void *largest, *sum;  // per sample, in the compute type
  void *partial;        // the sums of loss and weight of each block, in double
  Lines<1> lines;
  CrossEntropyOptions options;
};

struct CrossEntropyFinishArgs {
  const void *partial;
  void *out;  // or null: the losses are not reduced
  void *total;
  int64_t blocks;
  int64_t mean;
};

struct CrossEntropyBackwardArgs {
  SampleValues grad;  // or one value
  int64_t wide;       // whether it has the compute type rather than that of x
  const void *x;
  SampleValues target;
  const void *largest, *sum;
  const void *total;  // null: the gradient is not divided by it
  void *dx;
  Lines<2> lines;  // x, dx
  CrossEntropyOptions options;
};

// Neighbouring rows of logits, whose gradient takes their place.
struct CrossEntropyRowsArgs {
  void *x;
  SampleValues target;
  void *losses;       // per row, in double
  const void *total;  // null: the gradient is not divided by it
  int64_t rows, classes;
  int64_t kept;      // packs of a row that shared memory has room for
  double scale;      // of the gradient
  int32_t gradient;  // whether it is wanted
  CrossEntropyOptions options;
};

struct ClassWeightsArgs {
  Parameter weight;
  void *out;
  int64_t classes;
};

constexpr int kCrossEntropyThreads = 512;  // at most, of a block
// Of a block that has an SM for itself, for elements of so many bytes: doubles need the registers.
constexpr int cross_entropy_long(int bytes) { return bytes == 8 ? 512 : 1024; }
constexpr int kCrossEntropyFinish = 1024;  // of the block that adds the partial sums

}  // namespace VT_NS
#endif
