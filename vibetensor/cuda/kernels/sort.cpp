// sort and topk: short rows within a thread block, the k first of long ones by selection, the rest by
// CUB, with the row's number above the key so that one sort does all rows. See cuda_src/sort.cu.
#include "vibetensor/cuda/kernels/sort.h"

#include "vibetensor/cuda/kernels/sort_pairs.h"
#include "vibetensor/cuda/kernels/walk.h"
#include "vt/sort_args.h"

namespace vt_cuda {

namespace {

constexpr int kThreads = 256, kSelectThreads = 1024;  // as in sort.cu
// Elements that go through CUB together: what is more than this takes too much scratch memory.
constexpr int64_t kMostTogether = int64_t(1) << 28;

struct RowKernel {
  Kernel kernel[2];  // keys of 32 and of 64 bits
  int length;
  unsigned threads;
};
RowKernel row_kernels[] = {
    {{{"sort", "vt_sort_rows_32_256"}, {"sort", "vt_sort_rows_64_256"}}, 256, 64},
    {{{"sort", "vt_sort_rows_32_1024"}, {"sort", "vt_sort_rows_64_1024"}}, 1024, 128},
    {{{"sort", "vt_sort_rows_32_4096"}, {"sort", "vt_sort_rows_64_4096"}}, vt::kSortRow, 512}};
Kernel select_kernels[] = {{"sort", "vt_select_rows_32"}, {"sort", "vt_select_rows_64"}};
Kernel keys_kernels[] = {{"sort", "vt_sort_keys_32"}, {"sort", "vt_sort_keys_64"}};
Kernel row_keys_kernel("sort", "vt_sort_row_keys");
Kernel finish_kernel("sort", "vt_sort_finish");

bool key_rule(int dtype, bool descending, vt::KeyRule *rule) {
  switch (dtype) {
    case VT_BOOL:
    case VT_U8:
      rule->kind = 0;
      break;
    case VT_I8:
    case VT_I16:
    case VT_I32:
    case VT_I64:
      rule->kind = 1;
      break;
    case VT_F16:
    case VT_F32:
    case VT_F64:
      rule->kind = 2;
      break;
    case VT_BF16:
      rule->kind = 3;
      break;
    default:
      return false;
  }
  rule->bytes = element_size(dtype);
  rule->bits = 8 * rule->bytes;
  rule->descending = descending;
  return true;
}

// The three arrays of one walk over rows.
struct Arrays {
  const char *in;
  char *values, *indices;
};

// Sorts rows [first, first + rows) through CUB with keys of type K.
template <class K>
vt_status sort_together(vt_context *ctx, const vt::SortArgs &args, const Arrays &a, int64_t first,
                        int64_t rows) {
  const int64_t count = rows * args.n;
  const int row_bits = bits_below(static_cast<uint64_t>(rows));
  const bool with_row = rows > 1 && args.rule.bits + row_bits <= int(8 * sizeof(K));
  Scratch room(ctx, static_cast<size_t>(count) * 2 * (sizeof(K) + sizeof(uint32_t)));
  if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
  K *const keys = room.as<K>(), *const sorted = keys + count;
  uint32_t *const places = reinterpret_cast<uint32_t *>(sorted + count);
  uint32_t *order = places + count;
  vt_status status =
      launch(ctx, keys_kernels[sizeof(K) == 8], blocks_for(count, kThreads), {kThreads}, 0, args,
             a.in, keys, places, first, count, static_cast<int32_t>(with_row));
  if (status != VT_OK) return status;
  status =
      sort_pairs(ctx, static_cast<const K *>(keys), sorted, static_cast<const uint32_t *>(places),
                 order, count, 0, args.rule.bits + (with_row ? row_bits : 0));
  if (status != VT_OK) return status;
  if (rows > 1 && !with_row) {
    // A stable sort by row after the one by key.
    uint32_t *const row_keys = reinterpret_cast<uint32_t *>(keys);
    status = launch(ctx, row_keys_kernel, blocks_for(count, kThreads), {kThreads}, 0,
                    static_cast<const uint32_t *>(order), row_keys, count, args.n);
    if (status != VT_OK) return status;
    status = sort_pairs(ctx, static_cast<const uint32_t *>(row_keys),
                        reinterpret_cast<uint32_t *>(sorted), static_cast<const uint32_t *>(order),
                        places, count, 0, row_bits);
    if (status != VT_OK) return status;
    order = places;
  }
  return launch(ctx, finish_kernel, blocks_for(rows * args.k, kThreads), {kThreads}, 0, args, a.in,
                a.values, a.indices, static_cast<const uint32_t *>(order), first, rows * args.k);
}

vt_status order_rows(vt_context *ctx, const vt::SortArgs &args, const Arrays &a) {
  const int64_t rows = args.rows.numel, n = args.n;
  const bool long_keys = args.rule.bits > 32;
  const Dim blocks = {static_cast<unsigned>(rows)};
  for (RowKernel &r : row_kernels) {
    if (n > r.length) continue;
    return launch(ctx, r.kernel[long_keys], blocks, {r.threads}, 0, args, a.in, a.values,
                  a.indices);
  }
  // A block reads its row some six times, which is too slow for few and very long rows.
  const bool few = rows < properties(ctx).sm_count / 4 && n > (1 << 20);
  if (args.k <= vt::kSelectRow && args.k < n && !few) {
    return launch(ctx, select_kernels[long_keys], blocks, {kSelectThreads}, 0, args, a.in, a.values,
                  a.indices);
  }
  int64_t together = kMostTogether / n;
  if (together < 1) together = 1;
  for (int64_t first = 0; first < rows; first += together) {
    const int64_t m = rows - first < together ? rows - first : together;
    const int bits = args.rule.bits + bits_below(static_cast<uint64_t>(m));
    const vt_status status = bits <= 32 ? sort_together<uint32_t>(ctx, args, a, first, m)
                                        : sort_together<uint64_t>(ctx, args, a, first, m);
    if (status != VT_OK) return status;
  }
  return VT_OK;
}

}  // namespace

vt_status order_along(vt_context *ctx, const vt_array &in, const vt_array &values,
                      const vt_array &indices, int64_t dim, int64_t k, bool descending) {
  vt::SortArgs args = {};
  if (!key_rule(in.dtype, descending, &args.rule)) return VT_ERROR_DTYPE;
  if (in.numel == 0 || k == 0) return VT_OK;
  const bool scalar = in.ndim == 0;
  args.n = scalar ? 1 : in.sizes[dim];
  args.k = k;
  args.steps[0] = scalar ? 1 : in.strides[dim];
  args.steps[1] = scalar ? 1 : values.strides[dim];
  args.steps[2] = scalar ? 1 : indices.strides[dim];
  if (args.n > UINT32_MAX) {
    ctx->message = "sort(): rows of more than 2**32 - 1 elements are not supported on CUDA";
    return VT_ERROR_VALUE;
  }
  Dims<3> rows = dims_of(scalar ? -1 : static_cast<int>(dim), in, values, indices);
  rows.sort();
  rows.coalesce();
  const int64_t size = args.rule.bytes;
  return rows.for_walks([&](const Walk<3> &walk, const int64_t *offset) {
    args.rows = walk;
    return order_rows(ctx, args,
                      {in.data + offset[0] * size, values.data + offset[1] * size,
                       indices.data + offset[2] * int64_t(sizeof(int64_t))});
  });
}

}  // namespace vt_cuda

extern "C" {

// arrays: input, then values, indices. values: dim, descending, stable (it always is).
vt_status sort_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const int64_t n = a[0].ndim > 0 ? a[0].sizes[v[0].i] : 1;
  return vt_cuda::order_along(ctx, a[0], a[1], a[2], v[0].i, n, v[1].i != 0);
}

// arrays: input, then values, indices. values: k, dim, largest, sorted (they always are).
vt_status topk_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return vt_cuda::order_along(ctx, a[0], a[1], a[2], v[1].i, v[0].i, v[2].i != 0);
}

}  // extern "C"
