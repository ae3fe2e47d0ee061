// Strided copies of up to four dimensions, several in one launch: operands that cuBLASLt cannot read
// in place, heads gathered for batched products.
#ifndef VT_CUDA_STRIDED_COPY_H
#define VT_CUDA_STRIDED_COPY_H

#include "vibetensor/types.h"
#include "vt/copy_jobs.h"

namespace vt_cuda {

// Bytes of an element of a dtype that products know.
inline int dtype_bytes(int dtype) {
  switch (dtype) {
    case VT_F16:
    case VT_BF16:
      return 2;
    case VT_F32:
      return 4;
    case VT_C128:
      return 16;
    default:
      return 8;
  }
}

// A list of copies of one dtype, at most VT_MAX_COPY_JOBS.
class CopyJobs {
 public:
  explicit CopyJobs(int dtype) : element_(dtype_bytes(dtype)) {}

  // Sizes and strides count elements, the last dimension being the innermost of `dst`.
  void add(void *dst, const int64_t (&dst_strides)[4], const void *src,
           const int64_t (&src_strides)[4], const int64_t (&sizes)[4]);
  vt_status run(vt_context *ctx);

 private:
  int widest() const;

  int element_, count_ = 0;
  vt_copy_jobs jobs_;
};

}  // namespace vt_cuda

#endif
