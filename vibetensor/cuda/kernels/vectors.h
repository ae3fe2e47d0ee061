// The vector form of vt/pointwise.cuh: whether a plan allows it, and its launch.
#ifndef VT_CUDA_VECTORS_H
#define VT_CUDA_VECTORS_H

#include "vibetensor/cuda/kernels/plan.h"
#include "vibetensor/cuda/launch.h"

namespace vt_cuda {

// The arguments of both forms begin with the addresses: the output is written, the inputs are read.
constexpr ArgumentUse kPlanUse = {0xe, 0x1};

// log2 of the elements in a vector, of which the widest operand's move 16 bytes: vector_form::V of
// vt/pointwise.cuh.
inline int log2_vector(int dtype, int widest) {
  const bool is_small = dtype == VT_U8 || dtype == VT_I8 || dtype == VT_I16;
  return is_small ? 4 : 4 - __builtin_ctz(unsigned(widest));
}

// Fills `a`, but for parameters, if the operands allow the vector form for a loop of this dtype.
// *log2 tells the length of the vectors. A plan of one dimension may have any length.
bool vector_args(const vt_iter &it, int dtype, vt::VectorArgs &a, int *log2);

vt_status launch_vectors(Kernel &kernel, const vt::VectorArgs &a, int log2, vt_context *ctx);

}  // namespace vt_cuda

#endif
