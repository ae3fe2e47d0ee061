// An embedding with the embedding of positions added.
#include "vibetensor/cuda/kernels/norm_rows.h"
#include "vt/embedding_add_args.h"

using namespace vt_cuda;

namespace {

KernelSet kernels("embedding_add", "vt_embedding_add");

}  // namespace

// arrays: weight (rows, width), indices (..., length), position (length, width), then out, contiguous.
extern "C" vt_status embedding_add_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  const vt_array &weight = a[0], &index = a[1], &position = a[2], &out = a[3];
  const int dtype = out.dtype;
  if (!in_set(kFloatingSet, dtype) || weight.dtype != dtype || position.dtype != dtype) {
    return VT_ERROR_DTYPE;
  }
  if (out.numel == 0) return VT_OK;
  const int64_t width = weight.sizes[1], pack = 16 / element_size(dtype);
  NormRows table(ctx, weight, width, Contiguous::kRead),
      places(ctx, position, width, Contiguous::kRead);
  Contiguous indices(ctx, index, Contiguous::kRead);
  for (vt_status s : {table.status(), places.status(), indices.status()}) {
    if (s != VT_OK) return s;
  }
  vt::EmbeddingAddArgs args = {};
  args.table = table.data();
  args.position = places.data();
  args.index = indices.data();
  args.out = out.data;
  args.tokens = index.numel;
  args.length = position.sizes[0];
  args.width = width;
  args.rows = weight.sizes[0];
  args.table_stride = table.stride();
  args.position_stride = places.stride();
  args.wide = index.dtype == VT_I64;
  args.packed =
      width % pack == 0 && table.in_packs(pack) && places.in_packs(pack) && is_aligned(out.data);
  args.sink = {index_error_slot(ctx), ctx->op, 0};
  const int64_t units = div_up(width, args.packed ? pack : 1);
  const int64_t x = clamp(power_of_two_from(units), 1, vt::kEmbeddingAddThreads);
  const int64_t y = vt::kEmbeddingAddThreads / x;
  const Dim grid = {static_cast<unsigned>(div_up(args.tokens, y)),
                    static_cast<unsigned>(clamp(div_up(units, 4 * x), 1, 65535))};
  return launch(ctx, kernels[dtype], grid, {static_cast<unsigned>(x), static_cast<unsigned>(y)}, 0,
                args);
}
