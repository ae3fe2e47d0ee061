// The driver of reductions on the device; see cuda_src/vt/reduce.cuh.
#ifndef VT_CUDA_REDUCE_H
#define VT_CUDA_REDUCE_H

#include "vibetensor/cuda/kernels/walk.h"
#include "vt/reduce_args.h"

namespace vt_cuda {

// The kernels of one operator, by dtype.
struct ReduceKernels {
  KernelSet rows, columns, finish;
};
#define VT_REDUCE_SETS(FAMILY, NAME) \
  {{FAMILY, "vt_" NAME "_rows"}, {FAMILY, "vt_" NAME "_columns"}, {FAMILY, "vt_" NAME "_finish"}}

// What differs between the operators.
struct ReduceRule {
  ReduceKernels *kernels;
  int slot;      // the dtype whose kernels are taken
  int item;      // bytes of an element that those kernels read
  int state;     // bytes of their state
  int dim;       // kReduceByShape, or the one reduced dimension, or kReduceAll
  int32_t flag;  // see ReduceArgs
  uint64_t mask;
  double correction;
};
constexpr int kReduceByShape = -2;  // the output has size 1 in the reduced dimensions
constexpr int kReduceAll = -1;      // the whole input, numbered in row-major order

vt_status run_reduction(const ReduceRule &rule, const vt_array &in, const vt_array &out,
                        vt_context *ctx);

// A complex array as a real one with one more dimension: of two elements, or of one where it is an
// output over which both parts are reduced.
struct RealView {
  vt_array array;
  int64_t sizes[VT_MAX_DIMS + 1], strides[VT_MAX_DIMS + 1];
  RealView(const vt_array &a, int64_t size) : array(a) {
    for (int d = 0; d < a.ndim; d++) {
      sizes[d] = a.sizes[d];
      strides[d] = size * a.strides[d];
    }
    sizes[a.ndim] = size;
    strides[a.ndim] = 1;
    array.sizes = sizes;
    array.strides = strides;
    array.ndim++;
    array.numel *= size;
    if (size == 2) array.dtype = a.dtype == VT_C64 ? VT_F32 : VT_F64;
  }
  RealView(const RealView &) = delete;
  RealView &operator=(const RealView &) = delete;
};

}  // namespace vt_cuda

#endif
