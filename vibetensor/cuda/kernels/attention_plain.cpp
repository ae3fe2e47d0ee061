// Attention by the plain Triton kernels (vibetensor/kernels/attention/plain_*.py): arguments,
// specialisation and launch. Strided inputs are read in place if their features are neighbours.

#include <optional>
#include <tuple>

#include "vibetensor/cuda/blas_api.h"
#include "vibetensor/cuda/kernels/attention.h"
#include "vibetensor/cuda/kernels/attention_choices.h"
#include "vibetensor/cuda/kernels/gemm.h"
#include "vibetensor/cuda/kernels/shapes.h"
#include "vibetensor/cuda/kernels/strided_copy.h"
#include "vibetensor/cuda/triton_kernel.h"
#include "vt/attention_dropout.h"

namespace vt_cuda {
namespace {

constexpr int64_t kUnbounded = int64_t(1) << 30;  // ops/attention.pyx

// ---- specialisations ----

struct Choice {
  uint8_t dtype : 4, bias /* 0 none, 1 boolean, 2 added */ : 2, precision : 2;
  uint8_t dim : 4, value_dim : 4;  // logarithms of the padded sizes
  uint8_t pad : 1, low : 1, high : 1, alibi : 1, dropout : 1, packed : 1, whole : 1, aligned : 1;
  uint8_t m : 4, n : 4;
  uint8_t warps : 4, stages : 4;
  uint8_t unused[3];
};

void pointers(const Choice &c, TritonSpec &spec, std::initializer_list<const char *> names) {
  for (const char *name : names) spec.pointer(name, c.dtype, c.aligned);
}
void statistic(TritonSpec &spec, const char *name) { spec.pointer(name, VT_F32, false); }
void extras(const Choice &c, TritonSpec &spec, bool packed = true) {
  spec.pointer("bias", c.bias == 1 ? int(VT_BOOL) : c.dtype, false);
  spec.pointer("slopes", VT_F32, false);
  if (packed) {
    spec.pointer("cu_queries", VT_I32, false).pointer("cu_keys", VT_I32, false);
  }
}
void strides(const Choice &c, TritonSpec &spec, std::initializer_list<const char *> names) {
  for (const char *name : names) {
    for (const char *dim : {"_batch", "_head", "_time"}) {
      spec.arg((std::string(name) + dim).c_str(), "i64", c.aligned);
    }
  }
}
void numbers(TritonSpec &spec, std::initializer_list<const char *> last) {
  for (const char *name : {"lse_batch", "lse_head", "bias_batch", "bias_head", "bias_query",
                           "bias_key", "slope_batch", "slope_head"}) {
    spec.arg(name, "i64");
  }
  for (const char *name :
       {"heads", "group", "queries", "keys", "dim", "value_dim", "low", "high"}) {
    spec.arg(name, "i32");
  }
  spec.arg("scale", "fp32").arg("seed", "i64").arg("offset", "i64").arg("threshold", "i32");
  spec.arg("keep_scale", "fp32");
  for (const char *name : last) spec.arg(name, "i32");
}
void constants(const Choice &c, TritonSpec &spec, bool packed = true) {
  static const char *const precisions[] = {"ieee", "tf32", "tf32x3"};
  spec.constant("BLOCK_M", 1 << c.m).constant("BLOCK_N", 1 << c.n);
  spec.constant("D", 1 << c.dim).constant("E", 1 << c.value_dim).constant("PAD", c.pad != 0);
  spec.constant("LOW", c.low != 0).constant("HIGH", c.high != 0).constant("BIAS", int(c.bias));
  spec.constant("ALIBI", c.alibi != 0).constant("DROPOUT", c.dropout != 0);
  if (packed) spec.constant("PACKED", c.packed != 0);
  spec.constant("PRECISION", precisions[c.precision]);
  spec.option("num_warps", c.warps).option("num_stages", c.stages);
}

void describe_forward(const Choice &c, TritonSpec &spec) {
  pointers(c, spec, {"q", "k", "v", "out"});
  statistic(spec, "lse");
  extras(c, spec);
  strides(c, spec, {"q", "k", "v", "out"});
  numbers(spec, {"blocks"});
  constants(c, spec);
  spec.constant("WHOLE", c.whole != 0);
}
void describe_short(const Choice &c, TritonSpec &spec) {
  pointers(c, spec, {"grad", "q", "k", "v", "out"});
  statistic(spec, "lse");
  pointers(c, spec, {"dq", "dk", "dv"});
  extras(c, spec);
  strides(c, spec, {"grad", "q", "k", "v", "out", "dq", "dk", "dv"});
  numbers(spec, {});
  constants(c, spec);
}
void describe_queries(const Choice &c, TritonSpec &spec) {
  pointers(c, spec, {"grad", "q", "k", "v", "out"});
  statistic(spec, "lse");
  pointers(c, spec, {"dq"});
  statistic(spec, "delta");
  extras(c, spec);
  strides(c, spec, {"grad", "q", "k", "v", "out", "dq"});
  numbers(spec, {"blocks"});
  constants(c, spec);
}
void describe_keys(const Choice &c, TritonSpec &spec) {
  pointers(c, spec, {"grad", "q", "k", "v"});
  statistic(spec, "lse");
  statistic(spec, "delta");
  pointers(c, spec, {"dk", "dv"});
  extras(c, spec);
  strides(c, spec, {"grad", "q", "k", "v", "dk", "dv"});
  numbers(spec, {"blocks"});
  constants(c, spec);
  spec.constant("SPLIT", true);
}
void describe_bias(const Choice &c, TritonSpec &spec) {
  pointers(c, spec, {"grad", "q", "k", "v", "out"});
  statistic(spec, "lse");
  statistic(spec, "dbias");
  extras(c, spec, false);
  strides(c, spec, {"grad", "q", "k", "v", "out"});
  numbers(spec, {"batch", "bias_batches", "bias_heads", "blocks", "key_blocks"});
  constants(c, spec, false);
}

TritonKernel<Choice> forward_kernel("attention/plain_forward.py:attention_forward",
                                    describe_forward);
TritonKernel<Choice> short_kernel("attention/plain_backward.py:attention_backward_short",
                                  describe_short);
TritonKernel<Choice> query_kernel("attention/plain_backward.py:attention_backward_queries",
                                  describe_queries);
TritonKernel<Choice> key_kernel("attention/plain_backward.py:attention_backward_keys",
                                describe_keys);
TritonKernel<Choice> bias_kernel("attention/plain_backward.py:attention_backward_bias",
                                 describe_bias);

// ---- arguments ----

uint8_t log2_of_padded(int64_t n) {
  uint8_t log = 4;  // a product takes at least 16
  while (int64_t(1) << log < n) log++;
  return log;
}

int64_t blocks_of(int64_t n, int log) { return (n + (int64_t(1) << log) - 1) >> log; }

// (batch, heads, time, features) with neighbouring features, copied if they are not.
class Operand {
 public:
  Operand() = default;
  Operand(const Operand &) = delete;
  Operand &operator=(const Operand &) = delete;

  vt_status read(const vt_array &a, CopyJobs &jobs, vt_context *ctx) {
    const int64_t *n = a.sizes, *s = a.strides;
    if (s[3] == 1 || n[3] == 1) return use(a.data, s);
    room_.emplace(ctx, size_t(a.numel * dtype_bytes(a.dtype)));
    if (!room_->ok()) return VT_ERROR_OUT_OF_MEMORY;
    const int64_t row[] = {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1};
    jobs.add(room_->as<void>(), {row[0], row[1], row[2], 1}, a.data, {s[0], s[1], s[2], s[3]},
             {n[0], n[1], n[2], n[3]});
    return use(room_->as<void>(), row);
  }
  // An output; of one that nobody asked for, memory like that of `like`.
  vt_status write(const vt_array &a, const vt_array &like, vt_context *ctx) {
    if (given(a)) return use(a.data, a.strides);
    const int64_t *n = like.sizes;
    room_.emplace(ctx, size_t(n[0] * n[1] * n[2] * n[3] * dtype_bytes(like.dtype)));
    if (!room_->ok()) return VT_ERROR_OUT_OF_MEMORY;
    const int64_t row[] = {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1};
    return use(room_->as<void>(), row);
  }

  const void *in() const { return data_; }
  void *out() const { return data_; }
  bool aligned() const {
    return is_aligned(data_) && batch_ % 16 == 0 && head_ % 16 == 0 && time_ % 16 == 0;
  }
  // Packed sequences are rows of one batch.
  auto strides(bool packed) const { return std::make_tuple(packed ? 0 : batch_, head_, time_); }

 private:
  vt_status use(void *data, const int64_t *s) {
    data_ = data;
    batch_ = s[0];
    head_ = s[1];
    time_ = s[2];
    return VT_OK;
  }

  void *data_ = nullptr;
  int64_t batch_ = 0, head_ = 0, time_ = 0;
  std::optional<Scratch> room_;
};

// What all kernels get, and what the tiles are chosen by.
struct Problem {
  const vt_array &q, &k, &v, &mask, &slopes, &cu_queries, &cu_keys;
  const vt_value *values;
  Choice choice = {};
  int64_t batch, heads, kv_heads, queries, keys, widest;
  uint32_t threshold;

  // `a` begins with q.
  Problem(const vt_array *a, const vt_value *v_)
      : q(a[0]),
        k(a[1]),
        v(a[2]),
        mask(a[3]),
        slopes(a[4]),
        cu_queries(a[5]),
        cu_keys(a[6]),
        values(v_) {
    const bool packed = given(cu_queries);
    batch = packed ? cu_queries.numel - 1 : q.sizes[0];
    heads = q.sizes[1];
    kv_heads = k.sizes[1];
    queries = packed ? values[kLengths].ints[0] : q.sizes[2];
    keys = packed ? values[kLengths].ints[1] : k.sizes[2];
    threshold = vt::attention_threshold(values[kDropoutP].re);
    Choice &c = choice;
    c.dtype = q.dtype;
    c.bias = !given(mask) ? 0 : mask.dtype == VT_BOOL ? 1 : 2;
    c.precision = precision();
    c.dim = log2_of_padded(q.sizes[3]);
    c.value_dim = log2_of_padded(v.sizes[3]);
    c.pad = int64_t(1) << c.dim != q.sizes[3] || int64_t(1) << c.value_dim != v.sizes[3];
    c.low = values[kLow].i > -kUnbounded;
    c.high = values[kHigh].i < kUnbounded;
    c.alibi = given(slopes);
    c.dropout = values[kDropoutP].re > 0;
    c.packed = packed;
    widest = int64_t(1) << (c.dim > c.value_dim ? c.dim : c.value_dim);
  }

  Precision precision() const {
    if (q.dtype != VT_F32) return kHalf;
    return __atomic_load_n(&vt_cuda_allow_tf32, __ATOMIC_RELAXED) ? kTf32 : kTf32x3;
  }

  template <int N>
  const Tile *tile(const Tile (&rows)[N]) const {
    return choose(rows, precision(), choice.high, widest, keys);
  }
  Choice with(const Tile &tile, bool aligned, bool whole = false) const {
    Choice c = choice;
    c.m = tile.m;
    c.n = tile.n;
    c.warps = tile.warps;
    c.stages = tile.stages;
    c.aligned = aligned;
    c.whole = whole;
    return c;
  }

  std::tuple<const void *, const float *, const int32_t *, const int32_t *> extras() const {
    return {data(mask), reinterpret_cast<const float *>(data(slopes)),
            reinterpret_cast<const int32_t *>(data(cu_queries)),
            reinterpret_cast<const int32_t *>(data(cu_keys))};
  }
  auto numbers(const vt_array &lse) const {
    int64_t bias[4] = {}, slope[2] = {};
    for (int d = 0; d < 4 && given(mask); d++) bias[d] = mask.sizes[d] == 1 ? 0 : mask.strides[d];
    if (given(slopes)) {
      slope[0] = slopes.sizes[0] == 1 ? 0 : slopes.strides[0];
      slope[1] = slopes.strides[1];
    }
    return std::make_tuple(
        choice.packed ? int64_t(0) : lse.strides[0], lse.strides[1], bias[0], bias[1], bias[2],
        bias[3], slope[0], slope[1], int32_t(heads), int32_t(heads / kv_heads), int32_t(queries),
        int32_t(keys), int32_t(q.sizes[3]), int32_t(v.sizes[3]), int32_t(values[kLow].i),
        int32_t(values[kHigh].i), float(values[kScale].re), values[kSeed].i, values[kOffset].i,
        int32_t(threshold), float(vt::attention_keep_scale(threshold)));
  }

 private:
  static const char *data(const vt_array &a) { return given(a) ? a.data : nullptr; }
};

template <class Arguments>
vt_status launch(vt_context *ctx, TritonKernel<Choice> &kernel, const Choice &choice,
                 int64_t blocks, const Arguments &arguments) {
  const Dim grid = {unsigned(blocks)};
  return std::apply([&](const auto &...a) { return kernel.launch(ctx, choice, grid, a...); },
                    arguments);
}

template <class... A>
std::tuple<A...> pack(const A &...a) {
  return {a...};
}

float *floats(const vt_array &a) { return reinterpret_cast<float *>(a.data); }

vt_status no_tile(vt_context *ctx) {
  ctx->message = "scaled_dot_product_attention: no fused kernel for this dtype and head size";
  return VT_ERROR_VALUE;
}

}  // namespace

vt_status attention_plain(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const Problem p(arrays, values);
  const vt_array &lse = arrays[8];
  if (p.batch * p.heads * p.queries == 0) return VT_OK;
  Operand q, k, v, out;
  CopyJobs jobs(p.q.dtype);
  vt_status status;
  if ((status = q.read(p.q, jobs, ctx)) || (status = k.read(p.k, jobs, ctx)) ||
      (status = v.read(p.v, jobs, ctx)) || (status = out.write(arrays[7], p.q, ctx)) ||
      (status = jobs.run(ctx))) {
    return status;
  }
  const Tile *tile = p.tile(kWholeTiles);
  const bool whole = tile != nullptr, packed = p.choice.packed;
  if (!whole) tile = p.tile(kForwardTiles);
  if (!tile) return no_tile(ctx);
  const Choice c = p.with(*tile, q.aligned() && k.aligned() && v.aligned() && out.aligned(), whole);
  const int64_t blocks = blocks_of(p.queries, tile->m);
  return launch(ctx, forward_kernel, c, blocks * p.heads * p.batch,
                std::tuple_cat(pack(q.in(), k.in(), v.in(), out.out(), floats(lse)), p.extras(),
                               q.strides(packed), k.strides(packed), v.strides(packed),
                               out.strides(packed), p.numbers(lse), pack(int32_t(blocks))));
}

vt_status attention_plain_backward(const vt_array *arrays, const vt_value *values,
                                   vt_context *ctx) {
  const Problem p(arrays + 1, values);
  const vt_array &lse = arrays[9], &to_bias = arrays[13];
  const bool packed = p.choice.packed;
  if (p.batch * p.kv_heads == 0 || p.heads == 0) return VT_OK;
  Operand grad, q, k, v, out, dq, dk, dv;
  CopyJobs jobs(p.q.dtype);
  vt_status status;
  if ((status = grad.read(arrays[0], jobs, ctx)) || (status = q.read(p.q, jobs, ctx)) ||
      (status = k.read(p.k, jobs, ctx)) || (status = v.read(p.v, jobs, ctx)) ||
      (status = out.read(arrays[8], jobs, ctx)) || (status = jobs.run(ctx))) {
    return status;
  }
  const bool wants_heads = given(arrays[10]) || given(arrays[11]) || given(arrays[12]);
  const bool inputs_aligned =
      grad.aligned() && q.aligned() && k.aligned() && v.aligned() && out.aligned();
  const auto inputs =
      std::tuple_cat(grad.strides(packed), q.strides(packed), k.strides(packed), v.strides(packed));
  const auto numbers = p.numbers(lse);
  const float *const sums = floats(lse);
  if (wants_heads) {
    if ((status = dq.write(arrays[10], p.q, ctx)) || (status = dk.write(arrays[11], p.k, ctx)) ||
        (status = dv.write(arrays[12], p.v, ctx))) {
      return status;
    }
    const bool aligned = inputs_aligned && dq.aligned() && dk.aligned() && dv.aligned();
    if (const Tile *tile = p.tile(kShortTiles)) {
      status = launch(ctx, short_kernel, p.with(*tile, aligned), p.kv_heads * p.batch,
                      std::tuple_cat(pack(grad.in(), q.in(), k.in(), v.in(), out.in(), sums,
                                          dq.out(), dk.out(), dv.out()),
                                     p.extras(), inputs, out.strides(packed), dq.strides(packed),
                                     dk.strides(packed), dv.strides(packed), numbers));
    } else {
      const Tile *query_tile = p.tile(kQueryTiles), *key_tile = p.tile(kKeyTiles);
      if (!query_tile || !key_tile) return no_tile(ctx);
      const Scratch delta(ctx, size_t(lse.numel) * sizeof(float));
      if (!delta.ok()) return VT_ERROR_OUT_OF_MEMORY;
      int64_t blocks = blocks_of(p.queries, query_tile->m);
      status = launch(ctx, query_kernel, p.with(*query_tile, aligned), blocks * p.heads * p.batch,
                      std::tuple_cat(pack(grad.in(), q.in(), k.in(), v.in(), out.in(), sums,
                                          dq.out(), delta.as<float>()),
                                     p.extras(), inputs, out.strides(packed), dq.strides(packed),
                                     numbers, pack(int32_t(blocks))));
      if (status != VT_OK) return status;
      blocks = blocks_of(p.keys, key_tile->n);
      status = launch(
          ctx, key_kernel, p.with(*key_tile, aligned), blocks * p.kv_heads * p.batch,
          std::tuple_cat(pack(grad.in(), q.in(), k.in(), v.in(), sums,
                              static_cast<const float *>(delta.as<float>()), dk.out(), dv.out()),
                         p.extras(), inputs, dk.strides(packed), dv.strides(packed), numbers,
                         pack(int32_t(blocks))));
    }
    if (status != VT_OK) return status;
  }
  if (!given(to_bias)) return VT_OK;
  const Tile *tile = p.tile(kBiasTiles);
  if (!tile) return no_tile(ctx);
  const int64_t blocks = blocks_of(p.queries, tile->m), key_blocks = blocks_of(p.keys, tile->n);
  const auto [bias, slopes, cu_queries, cu_keys] = p.extras();
  return launch(
      ctx, bias_kernel, p.with(*tile, inputs_aligned),
      blocks * key_blocks * p.mask.sizes[0] * p.mask.sizes[1],
      std::tuple_cat(
          pack(grad.in(), q.in(), k.in(), v.in(), out.in(), sums, floats(to_bias), bias, slopes),
          inputs, out.strides(false), numbers,
          pack(int32_t(p.batch), int32_t(p.mask.sizes[0]), int32_t(p.mask.sizes[1]),
               int32_t(blocks), int32_t(key_blocks))));
}

}  // namespace vt_cuda
