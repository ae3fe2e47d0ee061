// What the host tells a pointwise kernel, shared by both. Plain data, copied into the kernel's
// parameters.
#ifndef VT_POINTWISE_ARGS_H
#define VT_POINTWISE_ARGS_H

#include "vt/divide.h"

namespace vt {

constexpr int kMaxInputs = 3;    // tensors that a functor takes
constexpr int kMaxParams = 2;    // numbers that follow them
constexpr int kMaxElement = 16;  // bytes of the widest dtype
constexpr int kPointwiseThreads = 128;

// Elements by themselves: an operand on the host, or a parameter.
struct alignas(16) Element {
  unsigned char bytes[kMaxElement];
};

// Vectors of 16 bytes along dimension 0, the innermost. Each operand has no gaps there, or (a bit of
// `splat`) has one element for all of it.
constexpr int kVectorDims = 6;
struct VectorArgs {
  char *data[1 + kMaxInputs];  // the output, then the inputs
  int64_t numel;
  int64_t vectors;      // whole ones that are aligned
  uint8_t head;         // with one dimension: elements before the first vector,
  uint8_t rest;         // and those before the first and after the last one
  uint8_t splat, host;  // bit k: of input k; a host element is in `value`
  uint8_t dtype;        // of the loop
  uint8_t ndim;
  Divider sizes[kVectorDims];                    // of dimension 0 in vectors
  int32_t strides[1 + kMaxInputs][kVectorDims];  // bytes; of dimension 0 not used
  Element value[kMaxInputs], param[kMaxParams];
};

// Four elements along dimension 0 to a thread, any strides, any dtypes.
constexpr int kStridedDims = 12;
struct StridedArgs {
  char *data[1 + kMaxInputs];
  uint32_t numel;
  int32_t ndim;
  uint8_t whole;  // no four elements belong to two rows of dimension 0
  uint8_t host;   // bit k: input k is in `value`, already of the loop's dtype
  uint8_t wide;   // bit k: operand k has no gaps along dimension 0, where four lie aligned
  uint8_t dtype[1 + kMaxInputs];       // as stored
  uint8_t loop_dtype[1 + kMaxInputs];  // as the functor takes it
  Divider sizes[kStridedDims];
  int32_t strides[1 + kMaxInputs][kStridedDims];  // bytes
  Element value[kMaxInputs], param[kMaxParams];
};

}  // namespace vt

#endif
