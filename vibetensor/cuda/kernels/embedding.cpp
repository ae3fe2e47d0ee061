// The gradient of an embedding: tokens sorted by row, then one pass that writes every row of the result
// once (cuda_src/embedding.cu).
#include "vibetensor/cuda/kernels/contiguous.h"
#include "vibetensor/cuda/kernels/sort_pairs.h"
#include "vt/embedding_args.h"
#include "vt/index_error.h"

using namespace vt_cuda;

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int64_t kPacks = 2;  // as in embedding.cu

KernelSet wide_tiles("embedding", "vt_embedding_tiles_wide");
KernelSet wide_rows("embedding", "vt_embedding_rows_wide");
KernelSet narrow_tiles("embedding", "vt_embedding_tiles_narrow");
KernelSet narrow_rows("embedding", "vt_embedding_rows_narrow");
Kernel keys_kernel("embedding", "vt_embedding_keys");
Kernel ranges_kernel("embedding", "vt_embedding_ranges");

// Room in one piece of scratch memory, each part aligned for anything.
class Parts {
 public:
  size_t add(size_t bytes) {
    const size_t at = size_;
    size_ += (bytes + 255) & ~size_t(255);
    return at;
  }
  size_t size() const { return size_; }

 private:
  size_t size_ = 0;
};

// Whether rows may be read or written 16 bytes at a time.
bool takes_packs(const vt::EmbeddingArgs &args, const void *grad, const void *out, int64_t size) {
  const int64_t n = 16 / size;
  if (args.grad_step != 1 || args.step != 1 || args.width % n != 0) return false;
  uint64_t parts = static_cast<uint64_t>(args.row_stride);
  for (int d = 0; d < args.places.ndim; d++) {
    parts |= static_cast<uint64_t>(args.places.strides[0][d]);
  }
  return parts % n == 0 &&
         (reinterpret_cast<uintptr_t>(grad) | reinterpret_cast<uintptr_t>(out)) % 16 == 0;
}

}  // namespace

extern "C" {

// grad (the shape of indices, D), indices (int32 or int64), grad_weight (V, D); padding_idx (-1 for
// none), scale_grad_by_freq. A row of the result is the sum of its gradients in order.
vt_status embedding_backward_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &grad = a[0], &index = a[1], &out = a[2];
  if (!in_set(kFloatingSet, out.dtype)) return VT_ERROR_DTYPE;
  if (out.numel == 0) return VT_OK;
  const int64_t rows = out.sizes[0], width = out.sizes[1], tokens = index.numel;
  const int64_t size = element_size(out.dtype), sum_size = out.dtype == VT_F64 ? 8 : 4;
  if (rows >= UINT32_MAX || tokens > UINT32_MAX) {
    ctx->message = "embedding_backward(): at most 2**32 - 2 rows and tokens are supported on CUDA";
    return VT_ERROR_VALUE;
  }
  Dims<1> places = dims_of(grad.ndim - 1, grad), indices = dims_of(-1, index);
  places.coalesce();
  indices.coalesce();
  // Layouts that no kernel takes directly are copied.
  Contiguous plain_index(ctx, index,
                         indices.ndim > kWalkDims ? Contiguous::kRead : Contiguous::kNothing);
  Contiguous plain_grad(ctx, grad,
                        places.ndim > kWalkDims ? Contiguous::kRead : Contiguous::kNothing);
  if (plain_index.status() != VT_OK) return plain_index.status();
  if (plain_grad.status() != VT_OK) return plain_grad.status();
  vt::EmbeddingArgs args = {};
  args.grad_step = grad.strides[grad.ndim - 1];
  if (places.ndim > kWalkDims) {
    places.ndim = 0;
    places.push(tokens, width);
    args.grad_step = 1;
  }
  if (indices.ndim > kWalkDims) {
    indices.ndim = 0;
    indices.push(tokens, 1);
  }
  args.places = places.walk();
  args.rows = rows;
  args.width = width;
  args.row_stride = out.strides[0];
  args.step = out.strides[1];
  args.tokens = tokens;
  args.by_frequency = v[1].i != 0;

  const int64_t tiles = tokens / vt::kEmbeddingTile;
  Parts parts;
  const size_t n = static_cast<size_t>(tokens) * sizeof(uint32_t);
  const size_t keys_at = parts.add(n), identity_at = parts.add(n), sorted_at = parts.add(n),
               order_at = parts.add(n), ranges_at = parts.add(rows * sizeof(vt::RowRange)),
               partial_at = parts.add(tiles * width * sum_size);
  Scratch room(ctx, parts.size());
  if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
  char *const base = room.as<char>();
  const auto at = [&](size_t offset) { return reinterpret_cast<uint32_t *>(base + offset); };
  const vt_error_sink sink = {index_error_slot(ctx), ctx->op, 0};

  vt_status status =
      memset_async(ctx, base + ranges_at, 0, static_cast<size_t>(rows) * sizeof(vt::RowRange));
  if (status != VT_OK) return status;
  if (tokens > 0) {
    status = launch(ctx, keys_kernel, blocks_for(tokens, kThreads), {kThreads}, 0, indices.walk(),
                    static_cast<const char *>(plain_index.data()),
                    static_cast<int32_t>(index.dtype == VT_I64), at(keys_at), at(identity_at), rows,
                    v[0].i, sink);
    if (status != VT_OK) return status;
    status = sort_pairs(ctx, static_cast<const uint32_t *>(at(keys_at)), at(sorted_at),
                        static_cast<const uint32_t *>(at(identity_at)), at(order_at), tokens, 0,
                        bits_below(static_cast<uint64_t>(rows) + 1));
    if (status != VT_OK) return status;
    status = launch(ctx, ranges_kernel, blocks_for(tokens, kThreads), {kThreads}, 0,
                    static_cast<const uint32_t *>(at(sorted_at)), base + ranges_at, tokens, rows);
    if (status != VT_OK) return status;
  }
  const char *const from = plain_grad.data();
  const bool wide = takes_packs(args, from, out.data, size);
  const int64_t slab = kPacks * 32 * (wide ? 16 / size : 1);
  const unsigned slabs = static_cast<unsigned>(div_up(width, slab));
  if (tiles > 0) {
    status = launch(ctx, (wide ? wide_tiles : narrow_tiles)[out.dtype],
                    {static_cast<unsigned>(div_up(tiles, kWarps)), slabs}, {32, kWarps}, 0, args,
                    from, static_cast<const uint32_t *>(at(sorted_at)),
                    static_cast<const uint32_t *>(at(order_at)), base + partial_at);
    if (status != VT_OK) return status;
  }
  return launch(ctx, (wide ? wide_rows : narrow_rows)[out.dtype],
                {static_cast<unsigned>(div_up(rows, kWarps)), slabs}, {32, kWarps}, 0, args, from,
                static_cast<const uint32_t *>(at(order_at)),
                static_cast<const char *>(base + ranges_at),
                static_cast<const char *>(base + partial_at), out.data);
}

}  // extern "C"
