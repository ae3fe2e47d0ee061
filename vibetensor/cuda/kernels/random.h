// What the host sides of random kernels share.
#ifndef VT_CUDA_RANDOM_H
#define VT_CUDA_RANDOM_H

#include "vibetensor/types.h"
#include "vt/dropout.h"
#include "vt/philox_args.h"

namespace vt_cuda {

// The draw that two values, seed and offset, describe. Where the highest bit of the offset is set the
// seed is the address of a generator's record on the device: see vt/philox_args.h.
inline PhiloxArgs philox_args(const vt_value *v, vt_context *) {
  const uint64_t seed = static_cast<uint64_t>(v[0].i), offset = static_cast<uint64_t>(v[1].i);
  if (!(offset & VT_PHILOX_ON_DEVICE)) return {seed, offset, nullptr};
  return {0, offset & ~VT_PHILOX_ON_DEVICE, reinterpret_cast<const uint64_t *>(seed)};
}

// The dropout that three values describe: p, seed, offset.
inline vt::Dropout dropout_of(const vt_value *v, vt_context *ctx) {
  return vt::make_dropout(v[0].re, philox_args(v + 1, ctx));
}

}  // namespace vt_cuda

#endif
