// Arrays in row-major order for kernels that take nothing else: in place where they are, else a copy in
// scratch memory that is written back.
#ifndef VT_CUDA_CONTIGUOUS_H
#define VT_CUDA_CONTIGUOUS_H

#include <optional>

#include "vibetensor/cuda/kernels/walk.h"

namespace vt_cuda {

// Copies elements between arrays of one shape and element size.
vt_status move_elements(vt_context *ctx, const vt_array &from, const vt_array &to);

class Contiguous {
 public:
  enum Use { kNothing = 0, kRead = 1, kWrite = 2, kUpdate = 3 };  // kNothing: leave it as it is

  // Check status() before data() is used, and return finish() at the end.
  Contiguous(vt_context *ctx, const vt_array &a, Use use)
      : ctx_(ctx), array_(a), use_(use), data_(a.data) {
    if (use == kNothing || a.numel == 0 || is_contiguous(a)) return;
    scratch_.emplace(ctx, static_cast<size_t>(a.numel) * element_size(a.dtype));
    status_ = scratch_->ok() ? VT_OK : VT_ERROR_OUT_OF_MEMORY;
    data_ = scratch_->as<char>();
    if (status_ == VT_OK && (use & kRead)) status_ = move_elements(ctx, a, copy());
  }

  vt_status status() const { return status_; }
  char *data() const { return data_; }
  vt_status finish() {
    if (!scratch_ || !(use_ & kWrite)) return VT_OK;
    return move_elements(ctx_, copy(), array_);
  }

 private:
  // The scratch memory as an array; its strides live as long as this object.
  vt_array copy() {
    int64_t stride = 1;
    for (int d = array_.ndim - 1; d >= 0; d--) {
      strides_[d] = stride;
      stride *= array_.sizes[d];
    }
    vt_array c = array_;
    c.data = data_;
    c.strides = strides_;
    c.contiguous = 1;
    return c;
  }

  vt_context *ctx_;
  const vt_array &array_;
  Use use_;
  char *data_;
  vt_status status_ = VT_OK;
  std::optional<Scratch> scratch_;
  int64_t strides_[VT_MAX_DIMS];
};

}  // namespace vt_cuda

#endif
