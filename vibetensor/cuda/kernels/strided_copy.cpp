#include "vibetensor/cuda/kernels/strided_copy.h"

#include "vibetensor/cuda/launch.h"

namespace vt_cuda {
namespace {

Kernel copy_2("matrix", "vt_strided_copy_2");
Kernel copy_4("matrix", "vt_strided_copy_4");
Kernel copy_8("matrix", "vt_strided_copy_8");
Kernel copy_16("matrix", "vt_strided_copy_16");

constexpr unsigned kThreads = 256;
constexpr int64_t kUnitsPerThread = 4;

bool divides(int64_t value, int64_t width) { return value % width == 0; }

// Whether all of a job's rows can be copied in steps of `width` bytes.
bool allows(const vt_copy_job &job, int element, int width) {
  if (width == element) return true;
  if (job.src_stride[3] != 1 || job.dst_stride[3] != 1) return false;
  const uintptr_t addresses =
      reinterpret_cast<uintptr_t>(job.src) | reinterpret_cast<uintptr_t>(job.dst);
  if (addresses % uintptr_t(width) || !divides(job.size[3] * element, width)) return false;
  for (int i = 0; i < 3; i++) {
    if (job.size[i] == 1) continue;
    if (!divides(job.src_stride[i] * element, width) ||
        !divides(job.dst_stride[i] * element, width)) {
      return false;
    }
  }
  return true;
}

}  // namespace

void CopyJobs::add(void *dst, const int64_t (&dst_strides)[4], const void *src,
                   const int64_t (&src_strides)[4], const int64_t (&sizes)[4]) {
  if (sizes[0] * sizes[1] * sizes[2] * sizes[3] == 0) return;
  vt_copy_job &job = jobs_.job[count_++];
  job.src = src;
  job.dst = dst;
  for (int i = 0; i < 4; i++) {
    job.size[i] = sizes[i];
    job.src_stride[i] = sizes[i] == 1 && i == 3 ? 1 : src_strides[i];
    job.dst_stride[i] = sizes[i] == 1 && i == 3 ? 1 : dst_strides[i];
  }
}

int CopyJobs::widest() const {
  for (int width = 16; width > element_; width /= 2) {
    bool all = true;
    for (int i = 0; i < count_; i++) all = all && allows(jobs_.job[i], element_, width);
    if (all) return width;
  }
  return element_;
}

vt_status CopyJobs::run(vt_context *ctx) {
  if (count_ == 0) return VT_OK;
  const int width = widest(), times = width / element_;
  int64_t longest = 0;
  for (int i = 0; i < count_; i++) {
    vt_copy_job &job = jobs_.job[i];
    job.size[3] /= times;
    if (times > 1) {
      for (int k = 0; k < 3; k++) {
        job.src_stride[k] /= times;
        job.dst_stride[k] /= times;
      }
    }
    const int64_t n = job.size[0] * job.size[1] * job.size[2] * job.size[3];
    longest = n > longest ? n : longest;
  }
  for (int i = count_; i < VT_MAX_COPY_JOBS; i++) jobs_.job[i] = vt_copy_job{};
  const int64_t wanted = (longest + kThreads * kUnitsPerThread - 1) / (kThreads * kUnitsPerThread);
  const int64_t limit = int64_t(properties(ctx).sm_count) * 64;
  const unsigned blocks = unsigned(wanted < limit ? wanted : limit);
  Kernel &kernel = width == 16 ? copy_16 : width == 8 ? copy_8 : width == 4 ? copy_4 : copy_2;
  return launch(ctx, kernel, {blocks, unsigned(count_)}, {kThreads}, 0, jobs_);
}

}  // namespace vt_cuda
