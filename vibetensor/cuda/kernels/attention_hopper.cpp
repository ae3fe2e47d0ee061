// Attention by the Hopper kernels (vibetensor/kernels/attention/hopper_*.py): long sequences of half
// types, nothing but causality. What they do not take, the plain kernels do.

#include "vibetensor/cuda/attention_api.h"
#include "vibetensor/cuda/determinism.h"
#include "vibetensor/cuda/kernels/attention.h"
#include "vibetensor/cuda/kernels/attention_choices.h"
#include "vibetensor/cuda/kernels/gemm.h"
#include "vibetensor/cuda/kernels/shapes.h"
#include "vibetensor/cuda/triton_kernel.h"

namespace vt_cuda {
namespace {

constexpr int64_t kUnbounded = int64_t(1) << 30;  // ops/attention.pyx
constexpr float kLog2e = 1.4426950408889634f;
constexpr int kRows = 32;  // of a program of the light kernels

struct Choice {
  uint8_t dtype, row /* of the table */, dim /* the real one, over 8 */;
  uint8_t causal : 1, aligned : 1, grouped : 1, rest : 5;
  uint8_t unused[4];
};

void numbers(TritonSpec &spec, std::initializer_list<const char *> names) {
  for (const char *name : names) spec.arg(name, "i32");
}
void strides(TritonSpec &spec, std::initializer_list<const char *> names) {
  for (const char *name : names) {
    for (const char *dim : {"_batch", "_head", "_row"}) {
      spec.arg((std::string(name) + dim).c_str(), "i64");
    }
  }
}

void describe_forward(const Choice &c, TritonSpec &spec) {
  const HopperForward &t = kHopperForward[c.row];
  spec.descriptor("q_desc", c.dtype, {1, 1, t.m / t.warpgroups, t.dim});
  spec.descriptor("k_desc", c.dtype, {1, 1, t.n, t.dim});
  spec.descriptor("v_desc", c.dtype, {1, 1, t.n, t.dim});
  spec.descriptor("o_desc", c.dtype, {1, 1, t.m / t.warpgroups, t.dim});
  spec.pointer("lse_ptr", VT_F32, false).pointer("counter", VT_I32, false);
  numbers(spec, {"Tq", "Tk", "offset", "rows", "heads", "group", "together"});
  spec.arg("scale", "fp32");
  spec.constant("BM", t.m).constant("BN", t.n).constant("STAGES", t.stages);
  spec.constant("QUERY_STAGES", t.query_stages).constant("WARPGROUPS", t.warpgroups);
  spec.constant("CAUSAL", c.causal != 0).constant("ALIGNED", c.aligned != 0);
  spec.constant("REGISTERS", t.registers).option("num_warps", 4);
}

void describe_prepare(const Choice &c, TritonSpec &spec) {
  const HopperBackward &t = kHopperBackward[c.row];
  spec.pointer("o_ptr", c.dtype).pointer("do_ptr", c.dtype);
  for (const char *name : {"lse_ptr", "delta_ptr", "lse2_ptr", "dq_sum_ptr"}) {
    spec.pointer(name, VT_F32, false);
  }
  spec.pointer("stored_ptr", VT_I32, false);
  strides(spec, {"o", "do"});
  numbers(spec, {"heads", "Tq", "padded"});
  spec.constant("dim", 8 * c.dim).constant("D", t.dim).constant("ROWS", kRows);
  spec.constant("CLEAR", t.cleared).option("num_warps", 4);
}

void describe_backward(const Choice &c, TritonSpec &spec) {
  const HopperBackward &t = kHopperBackward[c.row];
  spec.descriptor("q_desc", c.dtype, {1, 1, t.m, t.dim});
  spec.descriptor("k_desc", c.dtype, {1, 1, t.n, t.dim});
  spec.descriptor("v_desc", c.dtype, {1, 1, t.n, t.dim});
  spec.descriptor("do_desc", c.dtype, {1, 1, t.m, t.dim});
  spec.descriptor("dk_desc", c.dtype, {1, 1, t.n, t.dim});
  spec.descriptor("dv_desc", c.dtype, {1, 1, t.n, t.dim});
  spec.descriptor("sum_desc", VT_F32, {t.m, t.dim});
  spec.descriptor("lse_desc", VT_F32, {t.m}).descriptor("delta_desc", VT_F32, {t.m});
  spec.pointer("stored_ptr", VT_I32, false);
  numbers(spec, {"Tk", "padded", "offset", "rows", "heads", "group", "together"});
  spec.arg("scale", "fp32").arg("scale2", "fp32");
  spec.constant("BM", t.m).constant("BN", t.n).constant("STAGES", t.stages);
  spec.constant("CAUSAL", c.causal != 0).constant("GROUPED", c.grouped != 0);
  spec.constant("CLEARED", t.cleared).constant("SUM_STAGES", t.sum_stages);
  spec.option("num_warps", 8);
}

void describe_finish(const Choice &c, TritonSpec &spec) {
  const HopperBackward &t = kHopperBackward[c.row];
  spec.pointer("dq_sum_ptr", VT_F32, false).pointer("dq_ptr", c.dtype);
  strides(spec, {"dq"});
  numbers(spec, {"heads", "Tq", "padded"});
  spec.arg("scale", "fp32");
  spec.constant("dim", 8 * c.dim).constant("D", t.dim).constant("ROWS", kRows);
  spec.option("num_warps", 4);
}

TritonKernel<Choice> forward_kernel("attention/hopper_forward.py:attention_forward",
                                    describe_forward);
TritonKernel<Choice> prepare_kernel("attention/hopper_backward_rows.py:attention_backward_prepare",
                                    describe_prepare);
TritonKernel<Choice> backward_kernel("attention/hopper_backward.py:attention_backward",
                                     describe_backward);
TritonKernel<Choice> finish_kernel("attention/hopper_backward_rows.py:attention_backward_finish",
                                   describe_finish);

// Whether the memory accelerator reaches it: neighbouring features, strides of 16 bytes.
bool reachable(const vt_array &a) {
  bool fits = given(a) && is_aligned(a.data) && a.strides[3] == 1;
  for (int d = 0; d < 3 && fits; d++) {
    fits = a.sizes[d] == 1 || (a.strides[d] > 0 && a.strides[d] % 8 == 0);
  }
  return fits;
}

// The stride of a dimension of one element means nothing, but is checked.
int64_t stride(const vt_array &a, int d) { return a.sizes[d] == 1 ? 8 : a.strides[d]; }

TensorDescriptor<void, 4> heads_of(const vt_array &a) {
  return {a.data,
          {a.sizes[0], a.sizes[1], a.sizes[2], a.sizes[3]},
          {stride(a, 0), stride(a, 1), stride(a, 2), 1}};
}
TensorDescriptor<const void, 4> read_heads_of(const vt_array &a) {
  const TensorDescriptor<void, 4> d = heads_of(a);
  return {d.data,
          {d.sizes[0], d.sizes[1], d.sizes[2], d.sizes[3]},
          {d.strides[0], d.strides[1], d.strides[2], 1}};
}

// The row of a table for a head size and a number of queries; -1: none.
template <int N, class Row, class Fits>
int row_for(const Row (&rows)[N], int64_t dim, int64_t queries, const Fits &fits) {
  const int padded = dim <= 64 ? 64 : 128;
  for (int i = 0; i < N; i++) {
    if (rows[i].dim == padded && queries <= rows[i].max_rows && fits(rows[i])) return i;
  }
  return -1;
}

// What both directions ask; `a` begins with q.
bool fits(const vt_array *a, const vt_value *values, const vt_context *ctx) {
  const vt_array &q = a[0], &k = a[1], &v = a[2];
  const int64_t least = int64_t(vt_attention_hopper_min_rows) * 64;
  return properties(ctx).major == 9 && (q.dtype == VT_F16 || q.dtype == VT_BF16) && !given(a[3]) &&
         !given(a[4]) && !given(a[5]) && values[kDropoutP].re == 0 &&
         values[kLow].i <= -kUnbounded && values[kScale].re > 0 &&
         q.sizes[2] * q.sizes[3] >= least && k.sizes[2] * q.sizes[3] >= least &&
         q.sizes[3] <= 128 && q.sizes[3] >= 32 && q.sizes[3] % 8 == 0 && q.sizes[3] == v.sizes[3] &&
         q.sizes[0] * q.sizes[1] > 0 && q.sizes[0] * q.sizes[1] < 65536 && reachable(q) &&
         reachable(k) && reachable(v);
}

Choice choice_of(const vt_array *a, const vt_value *values) {
  Choice c = {};
  c.dtype = a[0].dtype;
  c.dim = uint8_t(a[0].sizes[3] / 8);
  c.causal = values[kHigh].i < kUnbounded;
  c.grouped = a[0].sizes[1] != a[1].sizes[1];
  return c;
}

}  // namespace

bool attention_fits_hopper(const vt_array *arrays, const vt_value *values, const vt_context *ctx) {
  return fits(arrays, values, ctx) && reachable(arrays[7]);
}

vt_status attention_hopper(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const vt_array &q = arrays[0], &k = arrays[1], &v = arrays[2], &out = arrays[7], &lse = arrays[8];
  const int64_t rows = q.sizes[0] * q.sizes[1], queries = q.sizes[2], keys = k.sizes[2];
  Choice c = choice_of(arrays, values);
  c.row = uint8_t(row_for(kHopperForward, q.sizes[3], queries,
                          [&](const HopperForward &row) { return row.causal == bool(c.causal); }));
  const HopperForward &t = kHopperForward[c.row];
  const int64_t offset = c.causal ? values[kHigh].i + keys - queries : 0;
  c.aligned = offset % 64 == 0;
  const Scratch counter(ctx, sizeof(int32_t));
  if (!counter.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const vt_status status = memset_async(ctx, counter.as<void>(), 0, sizeof(int32_t));
  if (status != VT_OK) return status;
  const int64_t tiles = (queries + t.m - 1) / t.m * rows, most = properties(ctx).sm_count;
  return forward_kernel.launch(
      ctx, c, {unsigned(tiles < most ? tiles : most)}, read_heads_of(q), read_heads_of(k),
      read_heads_of(v), heads_of(out), reinterpret_cast<float *>(lse.data), counter.as<int32_t>(),
      int32_t(queries), int32_t(keys), int32_t(offset), int32_t(rows), int32_t(q.sizes[1]),
      int32_t(q.sizes[1] / k.sizes[1]), int32_t(t.together), float(values[kScale].re) * kLog2e);
}

bool attention_backward_fits_hopper(const vt_array *arrays, const vt_value *values,
                                    const vt_context *ctx) {
  bool result = fits(arrays + 1, values, ctx) && !(values[kOptions].i & kDeterministic) &&
                !vt_cuda_deterministic;
  for (int i : {0, 8, 10, 11, 12}) result = result && reachable(arrays[i]);
  return result && !given(arrays[13]);
}

vt_status attention_hopper_backward(const vt_array *arrays, const vt_value *values,
                                    vt_context *ctx) {
  const vt_array &grad = arrays[0], &q = arrays[1], &k = arrays[2], &v = arrays[3];
  const vt_array &out = arrays[8], &lse = arrays[9];
  const vt_array &dq = arrays[10], &dk = arrays[11], &dv = arrays[12];
  const int64_t rows = q.sizes[0] * q.sizes[1], key_rows = k.sizes[0] * k.sizes[1];
  const int64_t queries = q.sizes[2], keys = k.sizes[2];
  Choice c = choice_of(arrays + 1, values);
  c.row = uint8_t(
      row_for(kHopperBackward, q.sizes[3], queries,
              [&](const HopperBackward &row) { return !row.shared || (c.causal && c.grouped); }));
  const HopperBackward &t = kHopperBackward[c.row];
  const int64_t padded = (queries + t.m - 1) / t.m * t.m, dim = t.dim;
  const int64_t offset = c.causal ? values[kHigh].i + keys - queries : 0;
  const Scratch sum(ctx, size_t(rows * padded * dim) * sizeof(float));
  const Scratch delta(ctx, size_t(rows * padded) * sizeof(float));
  const Scratch lse2(ctx, size_t(rows * padded) * sizeof(float));
  const Scratch stored(ctx, size_t(rows) * sizeof(int32_t));
  if (!sum.ok() || !delta.ok() || !lse2.ok() || !stored.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const int32_t heads = int32_t(q.sizes[1]);
  const float scale = float(values[kScale].re);
  const Dim light = {unsigned(padded / kRows), unsigned(rows)};

  vt_status status = prepare_kernel.launch(
      ctx, c, light, static_cast<const void *>(out.data), static_cast<const void *>(grad.data),
      reinterpret_cast<const float *>(lse.data), delta.as<float>(), lse2.as<float>(),
      sum.as<float>(), stored.as<int32_t>(), out.strides[0], out.strides[1], out.strides[2],
      grad.strides[0], grad.strides[1], grad.strides[2], heads, int32_t(queries), int32_t(padded));
  if (status != VT_OK) return status;

  const int64_t blocks = (keys + t.n - 1) / t.n;
  // Few rows are walked at the same time, for their queries to stay in the cache. Programs of causal calls
  // differ in length: as many rows as fill the device, the longest programs first, even that out.
  const int64_t filling = properties(ctx).sm_count / blocks;
  const int64_t together = !c.causal ? 4 : filling > 2 ? filling : 2;
  status = backward_kernel.launch(
      ctx, c, {unsigned(blocks * key_rows)}, read_heads_of(q), read_heads_of(k), read_heads_of(v),
      read_heads_of(grad), heads_of(dk), heads_of(dv),
      TensorDescriptor<float, 2>{sum.as<float>(), {rows * padded, dim}, {dim, 1}},
      TensorDescriptor<const float, 1>{lse2.as<float>(), {rows * padded}, {1}},
      TensorDescriptor<const float, 1>{delta.as<float>(), {rows * padded}, {1}},
      stored.as<int32_t>(), int32_t(keys), int32_t(padded), int32_t(offset), int32_t(key_rows),
      heads, int32_t(q.sizes[1] / k.sizes[1]), int32_t(together), scale, scale * kLog2e);
  if (status != VT_OK) return status;

  return finish_kernel.launch(ctx, c, light, static_cast<const float *>(sum.as<float>()),
                              static_cast<void *>(dq.data), dq.strides[0], dq.strides[1],
                              dq.strides[2], heads, int32_t(queries), int32_t(padded), scale);
}

}  // namespace vt_cuda
