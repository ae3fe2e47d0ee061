// Picks the way to copy: the driver's copy where both sides have no gaps, tiles where they run along
// different dimensions, vectors for the common conversions, and the strided kernels for the rest.
#include "vibetensor/cuda/kernels/copy.h"

#include <string.h>

#include "vibetensor/cuda/kernels/vectors.h"
#include "vt/copy_args.h"

namespace vt_cuda {
namespace {

using vt::StridedArgs;
using vt::TransposeArgs;

Kernel move_kernels[] = {{"copy", "vt_move_1"},
                         {"copy", "vt_move_2"},
                         {"copy", "vt_move_4"},
                         {"copy", "vt_move_8"},
                         {"copy", "vt_move_16"}};
Kernel transpose_kernels[] = {{"copy", "vt_transpose_1"},
                              {"copy", "vt_transpose_2"},
                              {"copy", "vt_transpose_4"},
                              {"copy", "vt_transpose_8"},
                              {"copy", "vt_transpose_16"}};
Kernel transpose_one_kernels[] = {{"copy", "vt_transpose_1_one"},
                                  {"copy", "vt_transpose_2_one"},
                                  {"copy", "vt_transpose_4_one"},
                                  {"copy", "vt_transpose_8_one"}};

int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }
bool is_multiple(int64_t x, int64_t of) { return (x & (of - 1)) == 0; }

// ---- one dtype ----

bool rows_are_multiples(const vt_iter &it, int64_t of) {
  for (int k = 0; k < 2; k++) {
    if (!is_multiple(reinterpret_cast<intptr_t>(it.data[k]), of)) return false;
    for (int d = 1; d < it.ndim; d++) {
      if (!is_multiple(it.strides[k][d], of)) return false;
    }
  }
  return true;
}

// Rows that both sides have without gaps are moved in units of up to 16 bytes.
vt_status move(const vt_iter &it, int size, vt_context *ctx) {
  StridedArgs a;
  int unit = size;
  memset(&a, 0, sizeof(a));
  if (it.strides[0][0] == size && it.strides[1][0] == size) {
    unit = 16;
    while (unit > size &&
           (!is_multiple(it.sizes[0] * size, unit) || !rows_are_multiples(it, unit))) {
      unit /= 2;
    }
  }
  const int units = unit / size;
  a.numel = uint32_t(it.numel / units);
  a.ndim = it.ndim;
  for (int d = 0; d < it.ndim; d++) {
    a.sizes[d] = vt::Divider::of(uint32_t(d == 0 ? it.sizes[0] / units : it.sizes[d]));
    for (int k = 0; k < 2; k++) {
      a.strides[k][d] = int32_t(it.strides[k][d] * (d == 0 ? units : 1));
    }
  }
  for (int k = 0; k < 2; k++) a.data[k] = it.data[k];
  constexpr uint32_t kPerBlock = vt::kMoveThreads * vt::kMoveUnits;
  return launch_packed(ctx, move_kernels[__builtin_ctz(unit)], {(a.numel - 1) / kPerBlock + 1},
                       {vt::kMoveThreads}, 0, &a, sizeof(a), &kPlanUse);
}

// The dimension along which the input has no gaps, if a transposition through tiles pays.
int transposed_dim(const vt_iter &it, int size) {
  constexpr int64_t kLeast = 8;
  if (it.strides[0][0] != size || it.strides[1][0] == size || it.strides[1][0] == 0) return 0;
  if (it.sizes[0] < kLeast || it.ndim - 2 > vt::kTransposeDims) return 0;
  for (int d = 1; d < it.ndim; d++) {
    if (it.strides[1][d] == size && it.sizes[d] >= kLeast) return d;
  }
  return 0;
}

// False: the numbers do not fit, and nothing was done.
bool transpose(const vt_iter &it, int size, int along, vt_context *ctx, vt_status *status) {
  TransposeArgs a;
  memset(&a, 0, sizeof(a));
  const int dims[] = {0, along};
  bool vectors = size < 16;
  int64_t blocks = 1;
  a.out = it.data[0];
  a.in = it.data[1];
  a.in0 = it.strides[1][0];
  a.out1 = it.strides[0][along];
  vectors = vectors && is_multiple(a.in0, 16) && is_multiple(a.out1, 16) &&
            is_multiple(it.sizes[0] * size, 16) && is_multiple(it.sizes[along] * size, 16) &&
            is_multiple(reinterpret_cast<intptr_t>(a.out), 16) &&
            is_multiple(reinterpret_cast<intptr_t>(a.in), 16);
  for (int d = 1; d < it.ndim; d++) {
    if (d == along) continue;
    if (it.sizes[d] > INT32_MAX) return false;
    a.sizes[a.ndim] = vt::Divider::of(uint32_t(it.sizes[d]));
    for (int k = 0; k < 2; k++) {
      a.strides[k][a.ndim] = it.strides[k][d];
      vectors = vectors && is_multiple(it.strides[k][d], 16);
    }
    blocks *= it.sizes[d];
    a.ndim++;
  }
  const int tile = vt::transpose_tile(size, vectors ? 16 : size);
  for (int n = 0; n < 2; n++) {
    const int64_t elements = it.sizes[dims[n]], tiles = (elements + tile - 1) / tile;
    if (elements > INT32_MAX) return false;
    a.size[n] = int32_t(elements);
    a.tiles[n] = vt::Divider::of(uint32_t(tiles));
    blocks *= tiles;
  }
  if (blocks > INT32_MAX) return false;
  const int slot = __builtin_ctz(size);
  Kernel &kernel = vectors || size == 16 ? transpose_kernels[slot] : transpose_one_kernels[slot];
  *status = launch_packed(ctx, kernel, {unsigned(blocks)}, {vt::kTransposeThreads}, 0, &a,
                          sizeof(a), &kPlanUse);
  return true;
}

vt_status copy_same(const vt_iter &it, vt_context *ctx) {
  const int size = dtype_size(it.dtype[0]);
  const bool one = it.numel == 1;
  if (it.data[0] == it.data[1]) {
    bool same = true;
    for (int d = 0; d < it.ndim; d++) same = same && it.strides[0][d] == it.strides[1][d];
    if (same) return VT_OK;
  }
  if (it.ndim == 1 && (one || (it.strides[0][0] == size && it.strides[1][0] == size))) {
    return copy_async(ctx, it.data[0], it.data[1], size_t(it.numel) * size);
  }
  if (const int along = transposed_dim(it, size)) {
    vt_status status;
    if (transpose(it, size, along, ctx, &status)) return status;
  }
  return for_parts(it, [&](const vt_iter &part) { return move(part, size, ctx); });
}

// ---- conversions ----

struct Cast {
  uint8_t from, to;
  Kernel kernel;
};
Cast casts[] = {{VT_F32, VT_BF16, {"copy", "vt_cast_f32_bf16"}},
                {VT_BF16, VT_F32, {"copy", "vt_cast_bf16_f32"}},
                {VT_F32, VT_F16, {"copy", "vt_cast_f32_f16"}},
                {VT_F16, VT_F32, {"copy", "vt_cast_f16_f32"}},
                {VT_F32, VT_F64, {"copy", "vt_cast_f32_f64"}},
                {VT_F64, VT_F32, {"copy", "vt_cast_f64_f32"}},
                {VT_BOOL, VT_F32, {"copy", "vt_cast_bool_f32"}},
                {VT_I64, VT_F32, {"copy", "vt_cast_i64_f32"}}};

Kernel cast_i64("copy", "vt_cast_any_i64"), cast_f32("copy", "vt_cast_any_f32"),
    cast_f64("copy", "vt_cast_any_f64"), cast_c64("copy", "vt_cast_any_c64"),
    cast_c128("copy", "vt_cast_any_c128");

Kernel &cast_any(int from) {
  switch (from) {
    case VT_F16:
    case VT_BF16:
    case VT_F32:
      return cast_f32;
    case VT_F64:
      return cast_f64;
    case VT_C64:
      return cast_c64;
    case VT_C128:
      return cast_c128;
    default:
      return cast_i64;
  }
}

vt_status convert(const vt_iter &it, vt_context *ctx) {
  for (Cast &c : casts) {
    if (c.from != it.dtype[1] || c.to != it.dtype[0]) continue;
    vt::VectorArgs a;
    int log2;
    if (vector_args(it, it.dtype[0], a, &log2)) return launch_vectors(c.kernel, a, log2, ctx);
  }
  return for_parts(it, [&](const vt_iter &part) {
    StridedArgs a;
    strided_args(part, &a);
    return launch_packed(ctx, cast_any(it.dtype[1]), {strided_blocks(part)},
                         {vt::kPointwiseThreads}, 0, &a, sizeof(a), &kPlanUse);
  });
}

}  // namespace

vt_status copy_array(const vt_array &from, const vt_array &to, vt_context *ctx) {
  vt_iter it;
  it.noperands = 2;
  it.ndim = 0;
  it.numel = to.numel;
  const vt_array *const arrays[] = {&to, &from};
  for (int k = 0; k < 2; k++) {
    it.data[k] = arrays[k]->data;
    it.dtype[k] = it.loop_dtype[k] = arrays[k]->dtype;
    it.host[k] = 0;
  }
  if (it.numel == 0) return VT_OK;
  // Upwards in the output, neighbours joined where both sides go on without a jump.
  int order[VT_MAX_DIMS], n = 0;
  for (int d = to.ndim - 1; d >= 0; d--) {
    if (to.sizes[d] == 1) continue;
    int at = n++;
    const auto stride = [&](int dim) { return magnitude(to.strides[dim]); };
    for (; at > 0 && stride(order[at - 1]) > stride(d); at--) order[at] = order[at - 1];
    order[at] = d;
  }
  for (int i = 0; i < n; i++) {
    const int last = it.ndim - 1;
    int64_t step[2];
    bool joined = last >= 0;
    for (int k = 0; k < 2; k++) {
      step[k] = arrays[k]->strides[order[i]] * dtype_size(arrays[k]->dtype);
      joined = joined && step[k] == it.strides[k][last] * it.sizes[last];
    }
    if (joined) {
      it.sizes[last] *= to.sizes[order[i]];
      continue;
    }
    it.sizes[it.ndim] = to.sizes[order[i]];
    for (int k = 0; k < 2; k++) it.strides[k][it.ndim] = step[k];
    it.ndim++;
  }
  if (it.ndim == 0) {
    it.ndim = 1;
    it.sizes[0] = 1;
    it.strides[0][0] = it.strides[1][0] = 0;
  }
  return vt_cuda_copy(&it, ctx);
}

}  // namespace vt_cuda

using namespace vt_cuda;

vt_status vt_cuda_copy(const vt_iter *it, vt_context *ctx) {
  if (it->numel == 0) return VT_OK;
  if (!it->host[1]) {
    return it->dtype[0] == it->dtype[1] ? copy_same(*it, ctx) : convert(*it, ctx);
  }
  // The element as the output holds it.
  vt_iter one = *it;
  one.loop_dtype[1] = it->dtype[0];
  const vt::Element e = host_element(one, 1);
  const int size = dtype_size(it->dtype[0]);
  if (it->ndim == 1 && (it->numel == 1 || it->strides[0][0] == size)) {
    return fill_elements(it->data[0], e.bytes, size, it->numel, ctx);
  }
  one.data[1] = const_cast<char *>(reinterpret_cast<const char *>(e.bytes));
  one.dtype[1] = it->dtype[0];
  return convert(one, ctx);
}
