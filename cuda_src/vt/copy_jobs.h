// The parameters of the strided copies around matrix products: a few copies in one launch.
#ifndef VT_COPY_JOBS_H
#define VT_COPY_JOBS_H

#include <stdint.h>

// One copy of up to four dimensions, the last the innermost. Sizes and strides count units of the
// kernel's width: elements, or several at a time where they lie together on both sides.
struct vt_copy_job {
  const void *src;
  void *dst;
  int64_t size[4];
  int64_t src_stride[4], dst_stride[4];
};

enum { VT_MAX_COPY_JOBS = 5 };

// blockIdx.y is the job.
struct vt_copy_jobs {
  vt_copy_job job[VT_MAX_COPY_JOBS];
};

#endif
