// conv1d and its gradients: products of matrices over "columns", in which every position of the
// kernel has its row of the input, or direct kernels where there are many groups.

#include <optional>

#include "vibetensor/cuda/kernels/gemm.h"
#include "vibetensor/cuda/kernels/strided_copy.h"
#include "vibetensor/cuda/launch.h"
#include "vt/conv_shape.h"

namespace vt_cuda {
namespace {

Kernel columns_2("conv", "vt_conv_columns_2"), columns_4("conv", "vt_conv_columns_4"),
    columns_8("conv", "vt_conv_columns_8"), columns_16("conv", "vt_conv_columns_16");
KernelSet sum_columns("conv", "vt_conv_sum_columns");
KernelSet direct_forward("conv", "vt_conv_forward");
KernelSet direct_input("conv", "vt_conv_backward_input");
KernelSet direct_weight("conv", "vt_conv_backward_weight");

constexpr unsigned kThreads = 256;
// With more groups than this the products are direct: each group would be a launch.
constexpr int64_t kMaxProducts = 4;
// Columns beyond this are made for a few items at a time.
constexpr int64_t kColumnBytes = int64_t(256) << 20;

int64_t int_of(const vt_value &v) { return v.kind == VT_VALUE_INTS ? v.ints[0] : v.i; }

// x is the input or its gradient, and so on.
vt_conv_shape shape_of(const vt_array &x, const vt_array &w, const vt_array &y,
                       const vt_value *values) {
  vt_conv_shape s;
  s.batch = x.sizes[0];
  s.groups = int_of(values[3]);
  s.in_channels = w.sizes[1];
  s.out_channels = w.sizes[0] / s.groups;
  s.length = x.sizes[2];
  s.out_length = y.sizes[2];
  s.kernel = w.sizes[2];
  s.stride = int_of(values[0]);
  s.padding = int_of(values[1]);
  s.dilation = int_of(values[2]);
  for (int i = 0; i < 3; i++) {
    s.x_stride[i] = x.strides[i];
    s.y_stride[i] = y.strides[i];
    s.w_stride[i] = w.strides[i];
  }
  return s;
}

int64_t columns_of(const vt_conv_shape &s) { return s.in_channels * s.kernel; }

// Blocks for n elements, at least one.
Dim grid_for(int64_t n, vt_context *ctx) {
  const int64_t wanted = (n + kThreads - 1) / kThreads;
  const int64_t limit = int64_t(properties(ctx).sm_count) * 32;
  return {unsigned(wanted < 1 ? 1 : wanted < limit ? wanted : limit)};
}

char *offset(const void *data, int64_t elements, int size) {
  return static_cast<char *>(const_cast<void *>(data)) + elements * size;
}

vt_status make_columns(const vt_conv_shape &s, int dtype, const vt_array &x, const Scratch &room,
                       int64_t first, int64_t items, vt_context *ctx) {
  const int size = dtype_bytes(dtype);
  Kernel &kernel = size == 16  ? columns_16
                   : size == 8 ? columns_8
                   : size == 4 ? columns_4
                               : columns_2;
  const int64_t n = s.groups * columns_of(s) * items * s.out_length;
  return launch(ctx, kernel, grid_for(n, ctx), {kThreads}, 0, static_cast<const void *>(x.data),
                room.as<void>(), first, items, s);
}

// How many items' columns are made at a time.
int64_t items_at_once(const vt_conv_shape &s, int size) {
  const int64_t bytes = s.groups * columns_of(s) * s.out_length * size;
  const int64_t fitting = bytes ? kColumnBytes / bytes : s.batch;
  return fitting < 1 ? 1 : fitting < s.batch ? fitting : s.batch;
}

// The weight as a matrix (out channels of all groups) x (in channel, kernel position).
struct WeightMatrix {
  Matrices matrix;
  std::optional<Scratch> room;

  static bool is_matrix(const vt_array &w) {
    return w.sizes[1] == 1 || w.sizes[2] == 1 || w.strides[1] == w.sizes[2] * w.strides[2];
  }

  vt_status set(const vt_array &w, vt_context *ctx) {
    if (is_matrix(w)) {
      matrix = {w.data, w.strides[0], w.sizes[2] == 1 ? w.strides[1] : w.strides[2], 0};
      return VT_OK;
    }
    room.emplace(ctx, size_t(w.numel * dtype_bytes(w.dtype)));
    if (!room->ok()) return VT_ERROR_OUT_OF_MEMORY;
    const int64_t columns = w.sizes[1] * w.sizes[2];
    matrix = {room->as<void>(), columns, 1, 0};
    CopyJobs jobs(w.dtype);
    jobs.add(room->as<void>(), {0, columns, w.sizes[2], 1}, w.data,
             {0, w.strides[0], w.strides[1], w.strides[2]},
             {1, w.sizes[0], w.sizes[1], w.sizes[2]});
    return jobs.run(ctx);
  }
};

vt_status forward(const vt_conv_shape &s, const vt_array &x, const vt_array &w,
                  const vt_array &bias, const vt_array &y, vt_context *ctx) {
  const int size = dtype_bytes(y.dtype);
  WeightMatrix weight;
  vt_status status = weight.set(w, ctx);
  if (status != VT_OK) return status;
  const int64_t items = items_at_once(s, size), columns = columns_of(s);
  const Scratch room(ctx, size_t(s.groups * columns * items * s.out_length * size));
  if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
  for (int64_t first = 0; first < s.batch; first += items) {
    const int64_t now = s.batch - first < items ? s.batch - first : items;
    const int64_t width = now * s.out_length;
    status = make_columns(s, y.dtype, x, room, first, now, ctx);
    for (int64_t g = 0; g < s.groups && status == VT_OK; g++) {
      Product p;
      p.dtype = p.out_dtype = y.dtype;
      p.batch = now;
      p.m = s.out_channels;
      p.k = columns;
      p.n = s.out_length;
      p.a = weight.matrix;
      p.a.data = offset(p.a.data, g * s.out_channels * p.a.row, size);
      p.b = {offset(room.as<void>(), g * columns * width, size), width, 1, s.out_length};
      p.c = offset(y.data, first * s.y_stride[0] + g * s.out_channels * s.y_stride[1], size);
      p.c_row = s.y_stride[1];
      p.c_col = s.y_stride[2];
      p.c_batch = s.y_stride[0];
      if (given(bias)) {
        p.init = {offset(bias.data, g * s.out_channels * bias.strides[0], size), bias.strides[0], 0,
                  0};
      }
      status = gemm(p, ctx);
    }
    if (status != VT_OK) return status;
  }
  return VT_OK;
}

vt_status backward_input(const vt_conv_shape &s, const vt_array &y, const vt_array &w,
                         const vt_array &x, vt_context *ctx) {
  const int size = dtype_bytes(x.dtype);
  // Half types keep the columns as float, so that the sum over kernel positions rounds once.
  const int column_dtype = x.dtype == VT_F16 || x.dtype == VT_BF16 ? int(VT_F32) : int(x.dtype);
  const int column_size = dtype_bytes(column_dtype);
  WeightMatrix weight;
  vt_status status = weight.set(w, ctx);
  if (status != VT_OK) return status;
  const int64_t items = items_at_once(s, column_size), columns = columns_of(s);
  const Scratch room(ctx, size_t(s.groups * columns * items * s.out_length * column_size));
  if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
  for (int64_t first = 0; first < s.batch; first += items) {
    const int64_t now = s.batch - first < items ? s.batch - first : items;
    const int64_t width = now * s.out_length;
    for (int64_t g = 0; g < s.groups; g++) {
      Product p;
      p.dtype = x.dtype;
      p.out_dtype = column_dtype;
      p.batch = now;
      p.m = columns;
      p.k = s.out_channels;
      p.n = s.out_length;
      const Matrices &m = weight.matrix;
      p.a = {offset(m.data, g * s.out_channels * m.row, size), m.col, m.row, 0};
      p.b = {offset(y.data, first * s.y_stride[0] + g * s.out_channels * s.y_stride[1], size),
             s.y_stride[1], s.y_stride[2], s.y_stride[0]};
      p.c = offset(room.as<void>(), g * columns * width, column_size);
      p.c_row = width;
      p.c_col = 1;
      p.c_batch = s.out_length;
      if ((status = gemm(p, ctx)) != VT_OK) return status;
    }
    const int64_t n = now * s.groups * s.in_channels * s.length;
    status = launch(ctx, sum_columns[x.dtype], grid_for(n, ctx), {kThreads}, 0,
                    room.as<const void>(), static_cast<void *>(x.data), first, now, s);
    if (status != VT_OK) return status;
  }
  return VT_OK;
}

vt_status backward_weight(const vt_conv_shape &s, const vt_array &y, const vt_array &x,
                          const vt_array &w, vt_context *ctx) {
  const int size = dtype_bytes(w.dtype);
  const int64_t items = items_at_once(s, size), columns = columns_of(s);
  const int64_t out_channels = s.groups * s.out_channels;
  const Scratch room(ctx, size_t(s.groups * columns * items * s.out_length * size));
  const Scratch grads(ctx, size_t(out_channels * items * s.out_length * size));
  // The products are made as a matrix; a weight of another layout gets a copy of it.
  const bool in_place = WeightMatrix::is_matrix(w);
  const Scratch sums(ctx, in_place ? 0 : size_t(w.numel * size));
  if (!room.ok() || !grads.ok() || !sums.ok()) return VT_ERROR_OUT_OF_MEMORY;
  Matrices to = {sums.as<void>(), columns, 1, 0};
  if (in_place) {
    to = {w.data, w.strides[0], w.sizes[2] == 1 ? w.strides[1] : w.strides[2], 0};
  }
  vt_status status;
  for (int64_t first = 0; first < s.batch; first += items) {
    const int64_t now = s.batch - first < items ? s.batch - first : items;
    const int64_t width = now * s.out_length;
    status = make_columns(s, w.dtype, x, room, first, now, ctx);
    if (status != VT_OK) return status;
    // The gradient with all positions of a channel together, so that one product sums over them.
    CopyJobs jobs(w.dtype);
    jobs.add(
        grads.as<void>(), {0, width, s.out_length, 1}, offset(y.data, first * s.y_stride[0], size),
        {0, s.y_stride[1], s.y_stride[0], s.y_stride[2]}, {1, out_channels, now, s.out_length});
    if ((status = jobs.run(ctx)) != VT_OK) return status;
    for (int64_t g = 0; g < s.groups; g++) {
      Product p;
      p.dtype = p.out_dtype = w.dtype;
      p.m = s.out_channels;
      p.k = width;
      p.n = columns;
      p.a = {offset(grads.as<void>(), g * s.out_channels * width, size), width, 1, 0};
      p.b = {offset(room.as<void>(), g * columns * width, size), 1, width, 0};
      p.c = offset(to.data, g * s.out_channels * to.row, size);
      p.c_row = to.row;
      p.c_col = to.col;
      if (first > 0) p.init = {p.c, to.row, to.col, 0};
      if ((status = gemm(p, ctx)) != VT_OK) return status;
    }
  }
  if (in_place) return VT_OK;
  CopyJobs jobs(w.dtype);
  jobs.add(w.data, {0, w.strides[0], w.strides[1], w.strides[2]}, sums.as<void>(),
           {0, columns, w.sizes[2], 1}, {1, w.sizes[0], w.sizes[1], w.sizes[2]});
  return jobs.run(ctx);
}

}  // namespace
}  // namespace vt_cuda

using namespace vt_cuda;

// arrays: input (N, Cin, L), weight (Cout, Cin / groups, K), bias (Cout) or none,
// out (N, Cout, L'); values: stride, padding, dilation (each an int or a list of one), groups.
extern "C" vt_status conv1d_cuda(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const vt_array &x = arrays[0], &w = arrays[1], &bias = arrays[2], &y = arrays[3];
  if (!is_blas_dtype(y.dtype)) return VT_ERROR_DTYPE;
  if (y.numel == 0) return VT_OK;
  const vt_conv_shape s = shape_of(x, w, y, values);
  if (s.groups <= kMaxProducts) return forward(s, x, w, bias, y, ctx);
  return launch(ctx, direct_forward[y.dtype], grid_for(y.numel, ctx), {kThreads}, 0,
                static_cast<const void *>(x.data), static_cast<const void *>(w.data),
                static_cast<const void *>(given(bias) ? bias.data : nullptr),
                given(bias) ? bias.strides[0] : int64_t(0), static_cast<void *>(y.data), s);
}

// arrays: grad (N, Cout, L'), weight (Cout, Cin / groups, K), grad_input (N, Cin, L); values as in
// conv1d_cuda.
extern "C" vt_status conv1d_backward_input_cuda(const vt_array *arrays, const vt_value *values,
                                                vt_context *ctx) {
  const vt_array &y = arrays[0], &w = arrays[1], &x = arrays[2];
  if (!is_blas_dtype(x.dtype)) return VT_ERROR_DTYPE;
  if (x.numel == 0) return VT_OK;
  const vt_conv_shape s = shape_of(x, w, y, values);
  if (s.groups <= kMaxProducts && w.numel > 0 && y.numel > 0) {
    return backward_input(s, y, w, x, ctx);
  }
  return launch(ctx, direct_input[x.dtype], grid_for(x.numel, ctx), {kThreads}, 0,
                static_cast<const void *>(y.data), static_cast<const void *>(w.data),
                static_cast<void *>(x.data), s);
}

// arrays: grad (N, Cout, L'), input (N, Cin, L), grad_weight (Cout, Cin / groups, K); values as in
// conv1d_cuda.
extern "C" vt_status conv1d_backward_weight_cuda(const vt_array *arrays, const vt_value *values,
                                                 vt_context *ctx) {
  const vt_array &y = arrays[0], &x = arrays[1], &w = arrays[2];
  if (!is_blas_dtype(w.dtype)) return VT_ERROR_DTYPE;
  if (w.numel == 0) return VT_OK;
  const vt_conv_shape s = shape_of(x, w, y, values);
  if (s.groups <= kMaxProducts && x.numel > 0 && y.numel > 0) {
    return backward_weight(s, y, x, w, ctx);
  }
  const int64_t limit = int64_t(properties(ctx).sm_count) * 32;
  return launch(ctx, direct_weight[w.dtype], {unsigned(w.numel < limit ? w.numel : limit)},
                {kThreads}, 0, static_cast<const void *>(y.data), static_cast<const void *>(x.data),
                static_cast<void *>(w.data), s);
}
