#include "vibetensor/cuda/kernels/contiguous.h"

namespace vt_cuda {

namespace {

constexpr int kThreads = 256, kPerBlock = 4 * kThreads;  // as in index.cu

Kernel move_kernels[] = {{"index", "vt_move_1"},
                         {"index", "vt_move_2"},
                         {"index", "vt_move_4"},
                         {"index", "vt_move_8"},
                         {"index", "vt_move_16"}};

}  // namespace

vt_status move_elements(vt_context *ctx, const vt_array &from, const vt_array &to) {
  Dims<2> dims = dims_of(-1, to, from);
  dims.sort();
  dims.coalesce();
  const int64_t bytes = element_size(to.dtype);
  return dims.for_walks([&](const Walk<2> &walk, const int64_t *offset) {
    return launch(ctx, move_kernels[size_slot(bytes)], blocks_for(walk.numel, kPerBlock),
                  {kThreads}, 0, walk, to.data + offset[0] * bytes,
                  static_cast<const char *>(from.data + offset[1] * bytes));
  });
}

}  // namespace vt_cuda
