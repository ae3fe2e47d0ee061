// Joining arrays along a dimension.
#include "vibetensor/cpu/kernel_utils.h"
#include "vibetensor/cpu/kernels/copy.h"

namespace VT_NS {

namespace {

// Part of `out` from `start` on along `dim`, of the sizes of `like`.
struct Slice {
  vt_array array;

  Slice(const vt_array &out, int dim, int64_t start, const vt_array &like) : array(out) {
    array.data += start * out.strides[dim] * dtype_size(out.dtype);
    array.sizes = like.sizes;
    array.numel = like.numel;
    array.contiguous = 0;
    array.contiguous = is_contiguous(array);
  }
};

}  // namespace

// out; list of arrays, dim. An empty array of one dimension may stand beside arrays of any shape.
vt_status cat_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const vt_array &out = a[0], *inputs = v[0].arrays;
  const int64_t count = v[0].n;
  const int dim = static_cast<int>(v[1].i);
  int failed = 0;
  const auto copy_some = [&](int64_t begin, int64_t end) {
    int64_t start = 0;
    for (int64_t k = 0; k < end; k++) {
      if (inputs[k].numel == 0) continue;
      if (k >= begin && copy_array(inputs[k], Slice(out, dim, start, inputs[k]).array) != VT_OK) {
        __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      }
      start += inputs[k].sizes[dim];
    }
  };
  // Many inputs are shared out; few are copied one after the other, each in parallel.
  constexpr int64_t kMany = 32, kGrainElements = 64 << 10;
  if (count < kMany) {
    copy_some(0, count);
  } else {
    parallel_for(count, div_up(kGrainElements * count, out.numel + 1), copy_some);
  }
  return failed ? VT_ERROR_DTYPE : VT_OK;
}

}  // namespace VT_NS
