// Rotary position embedding: the launch of vibetensor/kernels/rope.py.
#include "vibetensor/cuda/kernels/shapes.h"
#include "vibetensor/cuda/triton_kernel.h"

namespace vt_cuda {
namespace {

// Elements of a block: enough for the memory's latency, few enough for the registers.
constexpr int64_t kBlockElements = 4096;
constexpr int64_t kMaxPairs = 16384;  // one block has all of a head

struct RopeChoice {
  uint8_t dtype, angle_dtype;
  uint8_t block_time, block_heads;  // logarithms
  uint8_t rest;                     // logarithm of the block, plus one; 0: nothing is copied
  uint8_t interleaved : 1, unit : 1, divisible : 1, divisible_angles : 1, unused : 4;
  uint16_t pairs;
};

void describe(const RopeChoice &c, TritonSpec &spec) {
  const bool by_16 = c.divisible;
  spec.pointer("x", c.dtype, by_16).pointer("out", c.dtype, by_16);
  spec.pointer("cosine", c.angle_dtype, c.divisible_angles);
  spec.pointer("sine", c.angle_dtype, c.divisible_angles);
  spec.arg("time", "i32").arg("heads", "i32").arg("features", "i32");
  for (const char *name : {"x_batch", "x_time", "x_head"}) spec.arg(name, "i64", by_16);
  spec.arg("x_feature", "i64");
  for (const char *name : {"out_batch", "out_time", "out_head"}) spec.arg(name, "i64", by_16);
  spec.arg("out_feature", "i64");
  for (const char *name : {"cos_time", "sin_time"}) spec.arg(name, "i64", c.divisible_angles);
  spec.arg("sign", "fp32");
  spec.constant("PAIRS", int(c.pairs)).constant("BLOCK_TIME", 1 << c.block_time);
  spec.constant("BLOCK_HEADS", 1 << c.block_heads);
  spec.constant("BLOCK_PAIRS", power_of_two_from(c.pairs));
  spec.constant("BLOCK_REST", c.rest ? 1 << (c.rest - 1) : 0);
  spec.constant("INTERLEAVED", c.interleaved != 0).constant("UNIT", c.unit != 0);
  spec.option("num_warps", 4);
}

TritonKernel<RopeChoice> rope("rope.py:rope_kernel", describe);

uint8_t log2_from(int64_t n) {
  uint8_t log = 0;
  while (int64_t(1) << log < n) ++log;
  return log;
}

// The logarithm of the largest block of heads that leaves at most an eighth of its rows idle; the
// angles are read once per block.
uint8_t head_block(int64_t heads, int64_t rows) {
  uint8_t log = log2_from(heads);
  while (log > 0) {
    const int64_t block = int64_t(1) << log, padded = (heads + block - 1) / block * block;
    if (block <= rows && padded * 7 <= heads * 8) break;
    --log;
  }
  return log;
}

bool divisible(const vt_array &a, int dims) {
  bool result = is_aligned(a.data);
  for (int i = 0; i < dims; ++i) result &= a.strides[i] % 16 == 0;
  return result;
}

}  // namespace
}  // namespace vt_cuda

using namespace vt_cuda;

// x (B, T, H, D), cos (T, R), sin (T, R) with neighbouring columns, out as x; values: interleaved,
// inverse.
extern "C" vt_status rotary_cuda(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const vt_array &x = arrays[0], &cosine = arrays[1], &sine = arrays[2], &out = arrays[3];
  if (out.numel == 0) return VT_OK;
  const int64_t time = x.sizes[1], heads = x.sizes[2], features = x.sizes[3];
  const int64_t pairs = cosine.sizes[1], rest = features - 2 * pairs;
  if (pairs > kMaxPairs) {
    ctx->message = "rotary_embedding takes at most 16384 pairs on a device";
    return VT_ERROR_VALUE;
  }
  RopeChoice c = {};
  c.dtype = x.dtype;
  c.angle_dtype = cosine.dtype;
  c.pairs = static_cast<uint16_t>(pairs);
  const int64_t row = 2 * power_of_two_from(pairs), rows = clamp(kBlockElements / row, 1, 1024);
  c.block_heads = head_block(heads, rows);
  c.block_time = log2_from(clamp(rows >> c.block_heads, 1, time));
  if (int64_t(1) << (c.block_time + c.block_heads) > rows) --c.block_time;
  c.rest = rest > 0 ? static_cast<uint8_t>(log2_from(rest) + 1) : 0;
  c.interleaved = values[0].i != 0;
  c.unit = x.strides[3] == 1 && out.strides[3] == 1;
  c.divisible = divisible(x, 3) && divisible(out, 3);
  c.divisible_angles = divisible(cosine, 1) && divisible(sine, 1);
  const int64_t blocks = (((time - 1) >> c.block_time) + 1) * x.sizes[0];
  const Dim grid = {static_cast<unsigned>(blocks),
                    static_cast<unsigned>(((heads - 1) >> c.block_heads) + 1)};
  return rope.launch(ctx, c, grid, static_cast<const void *>(x.data), static_cast<void *>(out.data),
                     static_cast<const void *>(cosine.data), static_cast<const void *>(sine.data),
                     static_cast<int32_t>(time), static_cast<int32_t>(heads),
                     static_cast<int32_t>(features), x.strides[0], x.strides[1], x.strides[2],
                     x.strides[3], out.strides[0], out.strides[1], out.strides[2], out.strides[3],
                     cosine.strides[0], sine.strides[0], values[1].i ? -1.0f : 1.0f);
}
