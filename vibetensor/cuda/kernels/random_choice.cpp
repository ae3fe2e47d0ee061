// Random permutations and weighted choices (cuda_src/random_choice.cu).
#include "vibetensor/cuda/kernels/contiguous.h"
#include "vibetensor/cuda/kernels/random.h"
#include "vibetensor/cuda/kernels/sort.h"
#include "vibetensor/cuda/kernels/sort_pairs.h"
#include "vt/index_error.h"

using namespace vt_cuda;

namespace {

constexpr int kThreads = 256, kRowThreads = 512;  // as in random_choice.cu

Kernel keys_kernel("random_choice", "vt_randperm_keys");
Kernel write_kernel("random_choice", "vt_randperm_write");
Kernel choose_kernel("random_choice", "vt_choose_from_sums");
KernelSet check_kernels("random_choice", "vt_weights_check");
KernelSet choose_one_kernels("random_choice", "vt_choose_one");
KernelSet sums_kernels("random_choice", "vt_weight_sums");
KernelSet times_kernels("random_choice", "vt_arrival_times");

// A multinomial draw: rows of n weights, k choices each.
struct Choice {
  vt_context *ctx;
  int dtype;
  const char *weights;  // contiguous
  int64_t rows, n, k;
  const vt_array &out;
  int64_t row_stride, stride;  // of out
  PhiloxArgs where;
  vt_error_sink sink;

  Dim row_blocks() const { return {static_cast<unsigned>(rows)}; }

  vt_status one() const {
    return launch(ctx, choose_one_kernels[dtype], row_blocks(), {kRowThreads}, 0, weights, n,
                  out.data, row_stride, where, sink);
  }

  vt_status with_replacement() const {
    Scratch sums(ctx, static_cast<size_t>(rows * n) * sizeof(uint64_t));
    if (!sums.ok()) return VT_ERROR_OUT_OF_MEMORY;
    const vt_status status = launch(ctx, sums_kernels[dtype], row_blocks(), {kRowThreads}, 0,
                                    weights, n, sums.as<char>(), sink);
    if (status != VT_OK) return status;
    return launch(ctx, choose_kernel, blocks_for(rows * k, kThreads), {kThreads}, 0,
                  static_cast<const char *>(sums.as<char>()), n, k, rows * k, out.data, row_stride,
                  stride, where);
  }

  // The k first to arrive of processes with these rates.
  vt_status without_replacement() const {
    Scratch room(ctx, static_cast<size_t>(rows * (n + k)) * sizeof(double));
    if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
    double *const times = room.as<double>(), *const first = times + rows * n;
    vt_status status =
        launch(ctx, check_kernels[dtype], row_blocks(), {kRowThreads}, 0, weights, n, sink);
    if (status != VT_OK) return status;
    status = launch(ctx, times_kernels[dtype], blocks_for(rows * n, 2 * kThreads), {kThreads}, 0,
                    weights, rows * n, times, where);
    if (status != VT_OK) return status;
    const int64_t time_sizes[2] = {rows, n}, time_strides[2] = {n, 1};
    const int64_t first_sizes[2] = {rows, k}, first_strides[2] = {k, 1};
    const int64_t out_strides[2] = {row_stride, stride};
    const vt_array in = array(times, time_sizes, time_strides, VT_F64);
    const vt_array values = array(first, first_sizes, first_strides, VT_F64);
    const vt_array indices = array(out.data, first_sizes, out_strides, VT_I64);
    return order_along(ctx, in, values, indices, 1, k, false);
  }

  vt_array array(void *data, const int64_t *sizes, const int64_t *strides, int type) const {
    vt_array a = {};
    a.data = static_cast<char *>(data);
    a.sizes = sizes;
    a.strides = strides;
    a.numel = sizes[0] * sizes[1];
    a.ndim = 2;
    a.dtype = static_cast<uint8_t>(type);
    a.device_type = VT_CUDA;
    a.device_index = out.device_index;
    return a;
  }
};

}  // namespace

extern "C" {

// out (n); seed, offset. Element i has the key (its random 64 bits, the lowest replaced by i); the
// permutation is the order of the keys. A stable sort by the other bits gives the same.
vt_status randperm_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &out = a[0];
  const int64_t n = out.numel;
  if (!in_set(kRealSet, out.dtype)) return VT_ERROR_DTYPE;
  if (n == 0) return VT_OK;
  if (n > UINT32_MAX) {
    ctx->message = "randperm(): at most 2**32 - 1 elements are supported on CUDA";
    return VT_ERROR_VALUE;
  }
  Scratch room(ctx, static_cast<size_t>(n) * 24);
  if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
  uint64_t *const keys = room.as<uint64_t>(), *const sorted = keys + n;
  uint32_t *const places = reinterpret_cast<uint32_t *>(sorted + n), *const order = places + n;
  vt_status status = launch(ctx, keys_kernel, blocks_for(n, 2 * kThreads), {kThreads}, 0, keys,
                            places, n, philox_args(v, ctx));
  if (status != VT_OK) return status;
  status = sort_pairs(ctx, static_cast<const uint64_t *>(keys), sorted,
                      static_cast<const uint32_t *>(places), order, n,
                      bits_below(static_cast<uint64_t>(n)), 64);
  if (status != VT_OK) return status;
  const int64_t stride = out.ndim > 0 ? out.strides[0] : 0;
  return launch(ctx, write_kernel, blocks_for(n, kThreads), {kThreads}, 0,
                static_cast<const uint32_t *>(order), out.data, n, stride,
                static_cast<int32_t>(out.dtype));
}

// probabilities (rows, n) or (n), out (rows, k) or (k), int64; replacement, seed, offset. A row that is
// no distribution is reported.
vt_status multinomial_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &probabilities = a[0], &out = a[1];
  if (!in_set(kFloatingSet, probabilities.dtype)) return VT_ERROR_DTYPE;
  const bool batched = probabilities.ndim == 2;
  const int64_t rows = batched ? probabilities.sizes[0] : 1;
  const int64_t n = probabilities.sizes[batched], k = out.sizes[batched];
  if (rows == 0 || k == 0 || n == 0) return VT_OK;
  const Contiguous weights(ctx, probabilities, Contiguous::kRead);
  if (weights.status() != VT_OK) return weights.status();
  const Choice choice = {ctx,
                         probabilities.dtype,
                         weights.data(),
                         rows,
                         n,
                         k,
                         out,
                         batched ? out.strides[0] : 0,
                         out.strides[batched],
                         philox_args(v + 1, ctx),
                         {index_error_slot(ctx), ctx->op, 0}};
  if (k == 1) return choice.one();
  return v[0].i != 0 ? choice.with_replacement() : choice.without_replacement();
}

}  // extern "C"
