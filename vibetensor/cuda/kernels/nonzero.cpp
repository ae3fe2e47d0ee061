// Places of the elements that are not zero, and the reverse for one dimension: one_hot.
#include "vibetensor/cuda/kernels/contiguous.h"
#include "vt/index_error.h"

using namespace vt_cuda;

namespace {

constexpr int kThreads = 256;
constexpr int64_t kTile = 8 * kThreads;  // as in nonzero.cu

Kernel count_kernels[] = {{"nonzero", "vt_nonzero_count_1"},
                          {"nonzero", "vt_nonzero_count_2"},
                          {"nonzero", "vt_nonzero_count_4"},
                          {"nonzero", "vt_nonzero_count_8"},
                          {"nonzero", "vt_nonzero_count_16"}};
Kernel tile_kernels[] = {{"nonzero", "vt_nonzero_tiles_1"},
                         {"nonzero", "vt_nonzero_tiles_2"},
                         {"nonzero", "vt_nonzero_tiles_4"},
                         {"nonzero", "vt_nonzero_tiles_8"},
                         {"nonzero", "vt_nonzero_tiles_16"}};
Kernel list_kernels[] = {{"nonzero", "vt_nonzero_list_1"},
                         {"nonzero", "vt_nonzero_list_2"},
                         {"nonzero", "vt_nonzero_list_4"},
                         {"nonzero", "vt_nonzero_list_8"},
                         {"nonzero", "vt_nonzero_list_16"}};
Kernel starts_kernel("nonzero", "vt_nonzero_starts");
Kernel coordinate_kernel("nonzero", "vt_nonzero_coordinate");
Kernel one_hot_kernel("nonzero", "vt_one_hot");

// The bits of an element that make it nonzero: signs do not.
uint64_t mask_of(int dtype) {
  switch (dtype) {
    case VT_F16:
    case VT_BF16:
      return 0x7fffu;
    case VT_F32:
      return 0x7fffffffu;
    case VT_F64:
    case VT_C128:
      return 0x7fffffffffffffffu;
    case VT_C64:
      return 0x7fffffff7fffffffu;
    default:
      return ~uint64_t(0);
  }
}

// The input as a walk in row-major order; through a copy where it has too many dimensions.
class RowMajor {
 public:
  RowMajor(vt_context *ctx, const vt_array &a)
      : dims_(merged(a)),
        copied_(dims_.ndim > kWalkDims),
        plain_(ctx, a, copied_ ? Contiguous::kRead : Contiguous::kNothing) {
    if (!copied_) return;
    dims_.ndim = 0;
    dims_.push(a.numel, 1);
  }
  vt_status status() const { return plain_.status(); }
  Walk<1> walk() const { return dims_.walk(); }
  const char *data() const { return plain_.data(); }

 private:
  static Dims<1> merged(const vt_array &a) {
    Dims<1> dims = dims_of(-1, a);
    dims.coalesce();
    return dims;
  }
  Dims<1> dims_;
  bool copied_;
  Contiguous plain_;
};

}  // namespace

extern "C" {

// input, out (int64, one element).
vt_status count_nonzero_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  const vt_array &input = a[0];
  if (input.dtype >= VT_NUM_DTYPES) return VT_ERROR_DTYPE;
  vt_status status = memset_async(ctx, a[1].data, 0, sizeof(int64_t));
  if (status != VT_OK || input.numel == 0) return status;
  const RowMajor x(ctx, input);
  if (x.status() != VT_OK) return x.status();
  // Blocks stride over the tiles, for as few additions to the one total.
  const int64_t most = 8 * int64_t(properties(ctx).sm_count), tiles = div_up(input.numel, kTile);
  const Dim blocks = {static_cast<unsigned>(tiles < most ? tiles : most)};
  return launch(ctx, count_kernels[size_slot(element_size(input.dtype))], blocks, {kThreads}, 0,
                x.walk(), x.data(), mask_of(input.dtype), a[1].data);
}

// input, out (int64: a row of input.ndim coordinates for each of its nonzero elements, in order).
vt_status nonzero_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  const vt_array &input = a[0], &out = a[1];
  if (input.dtype >= VT_NUM_DTYPES) return VT_ERROR_DTYPE;
  if (input.ndim == 0 || out.numel == 0 || input.numel == 0) return VT_OK;
  const RowMajor x(ctx, input);
  if (x.status() != VT_OK) return x.status();
  const int64_t found = out.sizes[0], tiles = div_up(input.numel, kTile);
  // The places of one dimension are the result.
  const bool in_place = input.ndim == 1 && (out.strides[0] == 1 || found == 1);
  Scratch starts(ctx, static_cast<size_t>(tiles) * sizeof(int64_t));
  Scratch room(ctx, in_place ? 0 : static_cast<size_t>(found) * sizeof(int64_t));
  if (!starts.ok() || !room.ok()) return VT_ERROR_OUT_OF_MEMORY;
  char *const places = in_place ? out.data : room.as<char>();
  const int slot = size_slot(element_size(input.dtype));
  const uint64_t mask = mask_of(input.dtype);
  vt_status status = launch(ctx, tile_kernels[slot], {static_cast<unsigned>(tiles)}, {kThreads}, 0,
                            x.walk(), x.data(), mask, starts.as<char>());
  if (status == VT_OK)
    status = launch(ctx, starts_kernel, {1}, {1024}, 0, starts.as<char>(), tiles);
  if (status == VT_OK) {
    status =
        launch(ctx, list_kernels[slot], {static_cast<unsigned>(tiles)}, {kThreads}, 0, x.walk(),
               x.data(), mask, static_cast<const char *>(starts.as<char>()), places, found);
  }
  if (status != VT_OK || in_place) return status;
  uint64_t below = 1;
  for (int d = input.ndim - 1; d >= 0; d--) {
    const uint64_t size = static_cast<uint64_t>(input.sizes[d]);
    status = launch(ctx, coordinate_kernel, blocks_for(found, kThreads), {kThreads}, 0,
                    static_cast<const char *>(places), found, below, size,
                    out.data + d * out.strides[1] * int64_t(sizeof(int64_t)), out.strides[0]);
    if (status != VT_OK) return status;
    below *= size;
  }
  return VT_OK;
}

// input (int64), out (int64, contiguous, the input's shape and a last dimension of num_classes);
// num_classes. A label that is no class leaves zeros and is reported.
vt_status one_hot_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &input = a[0];
  if (input.numel == 0) return VT_OK;
  const RowMajor labels(ctx, input);
  if (labels.status() != VT_OK) return labels.status();
  const vt_error_sink sink = {index_error_slot(ctx), ctx->op, 0};
  return launch(ctx, one_hot_kernel, blocks_for(a[1].numel, kThreads), {kThreads}, 0, labels.walk(),
                labels.data(), a[1].data, v[0].i, sink);
}

}  // extern "C"
