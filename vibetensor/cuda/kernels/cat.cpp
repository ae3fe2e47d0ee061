// Joining arrays along a dimension.
#include <string.h>

#include "vibetensor/cuda/kernels/copy.h"
#include "vibetensor/cuda/kernels/walk.h"
#include "vt/copy_args.h"

namespace vt_cuda {
namespace {

using vt::CatArgs;

Kernel cat_kernels[] = {{"cat", "vt_cat_1"},
                        {"cat", "vt_cat_2"},
                        {"cat", "vt_cat_4"},
                        {"cat", "vt_cat_8"},
                        {"cat", "vt_cat_16"}};

// Inputs of one launch, with their place in a row of the output, in bytes.
struct Batch {
  int count = 0;
  const char *data[vt::kCatInputs];
  int64_t at[vt::kCatInputs], width[vt::kCatInputs];
};

vt_status run(const Batch &b, const vt_array &out, int64_t rows, int64_t row, vt_context *ctx) {
  if (b.count == 0) return VT_OK;
  uint64_t bits = reinterpret_cast<uint64_t>(out.data) | static_cast<uint64_t>(row);
  int64_t widest = 0;
  for (int k = 0; k < b.count; k++) {
    bits |= reinterpret_cast<uint64_t>(b.data[k]) | static_cast<uint64_t>(b.at[k] | b.width[k]);
    widest = b.width[k] > widest ? b.width[k] : widest;
  }
  const int slot = bits & 15 ? __builtin_ctzll(bits) : 4;
  CatArgs a;
  memset(&a, 0, sizeof(a));
  a.out = out.data;
  a.row = row >> slot;
  a.rows = static_cast<uint32_t>(rows);
  for (int k = 0; k < b.count; k++) {
    a.in[k] = b.data[k];
    a.at[k] = b.at[k] >> slot;
    a.width[k] = vt::Divider::of(static_cast<uint32_t>(b.width[k] >> slot));
  }
  constexpr int64_t kPerBlock = vt::kCatThreads * vt::kCatUnits;
  const Dim grid = {blocks_for(rows * (widest >> slot), kPerBlock).x,
                    static_cast<unsigned>(b.count)};
  ArgumentUse use = {0, 1};
  for (int k = 0; k < b.count; k++) use.reads |= uint64_t(1) << (3 + k) % 64;
  return launch_packed(ctx, cat_kernels[slot], grid, {vt::kCatThreads}, 0, &a, sizeof(a), &use);
}

// Part of `out` from `start` on along `dim`, of the sizes of `like`.
vt_array slice_of(const vt_array &out, int dim, int64_t start, const vt_array &like) {
  vt_array part = out;
  part.data += start * out.strides[dim] * element_size(out.dtype);
  part.sizes = like.sizes;
  part.numel = like.numel;
  part.contiguous = 0;
  return part;
}

}  // namespace
}  // namespace vt_cuda

using namespace vt_cuda;

// out; list of arrays, dim. An empty array of one dimension may stand beside arrays of any shape.
extern "C" vt_status cat_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &out = a[0], *inputs = v[0].arrays;
  const int dim = static_cast<int>(v[1].i);
  const int64_t size = element_size(out.dtype);
  int64_t rows = 1, inner = size, start = 0;
  if (out.numel == 0) return VT_OK;
  for (int d = 0; d < dim; d++) rows *= out.sizes[d];
  for (int d = dim + 1; d < out.ndim; d++) inner *= out.sizes[d];
  const bool dense = is_contiguous(out);
  const int64_t row = out.sizes[dim] * inner;
  Batch batch;
  vt_status status = VT_OK;
  for (int64_t k = 0; k < v[0].n && status == VT_OK; k++) {
    const vt_array &input = inputs[k];
    if (input.numel == 0) continue;
    if (dense && input.dtype == out.dtype && is_contiguous(input) &&
        input.numel * size <= INT32_MAX && rows <= INT32_MAX) {
      batch.data[batch.count] = input.data;
      batch.at[batch.count] = start * inner;
      batch.width[batch.count++] = input.sizes[dim] * inner;
      if (batch.count == vt::kCatInputs) {
        status = run(batch, out, rows, row, ctx);
        batch.count = 0;
      }
    } else {
      status = copy_array(input, slice_of(out, dim, start, input), ctx);
    }
    start += input.sizes[dim];
  }
  return status == VT_OK ? run(batch, out, rows, row, ctx) : status;
}
