// Attention composed of steps: scores by a batched product, the softmax in place, the product with
// the values; backward likewise from the log-sum-exp. Large scores are worked on in parts.
//
// Note [Attention units]
// The heads of queries that share a head of keys are one unit. Their rows lie one after the other,
// so a unit is one product whatever the number of heads in it, and the sums over a group that
// grouped queries need in the backward pass are part of the products. Units are batches of a
// product where their distance is constant; packed projections, (batch, time, heads, features) in
// memory, are copied first, all in one launch.

#include <optional>

#include "vibetensor/cuda/kernels/attention.h"
#include "vibetensor/cuda/kernels/gemm.h"
#include "vibetensor/cuda/kernels/strided_copy.h"
#include "vibetensor/cuda/launch.h"
#include "vt/attention_rows.h"

namespace vt_cuda {
namespace {

KernelSet softmax_128("attention_softmax", "vt_attention_softmax_128");
KernelSet softmax_256("attention_softmax", "vt_attention_softmax_256");
KernelSet softmax_512("attention_softmax", "vt_attention_softmax_512");
KernelSet softmax_1024("attention_softmax", "vt_attention_softmax_1024");
KernelSet softmax_loop("attention_softmax", "vt_attention_softmax_loop");
KernelSet grad_128("attention_softmax", "vt_attention_grad_128");
KernelSet grad_256("attention_softmax", "vt_attention_grad_256");
KernelSet grad_512("attention_softmax", "vt_attention_grad_512");
KernelSet grad_1024("attention_softmax", "vt_attention_grad_1024");
KernelSet grad_loop("attention_softmax", "vt_attention_grad_loop");

// Rows of a block of warps, and threads of a block that has one row.
constexpr int64_t kWarps = 4;
constexpr unsigned kLoopThreads = 256;
// Scores beyond this are made in parts.
constexpr int64_t kScoreBytes = int64_t(256) << 20;

struct Shape {
  int64_t batch, heads, kv_heads, group /* heads in a unit */, queries, keys, dim, value_dim;
  int dtype, score_dtype;
  double scale;
  int64_t high; /* query i sees keys 0 .. i + high */

  int64_t units() const { return batch * kv_heads; }
  int64_t unit_rows() const { return group * queries; }
  // Elements from one row of scores to the next: every row begins at a multiple of 16 bytes, of the
  // scores and of what is written over them.
  int64_t ld() const { return (keys + 7) & ~int64_t(7); }
  // Elements of the dtype in an element of the scores.
  int narrow() const { return dtype_bytes(score_dtype) / dtype_bytes(dtype); }
};

Shape shape_of(const vt_array &q, const vt_array &k, const vt_array &v, const vt_value *values) {
  Shape s;
  s.batch = q.sizes[0];
  s.heads = q.sizes[1];
  s.kv_heads = k.sizes[1];
  // Without heads there are no rows, but gradients of keys to be cleared.
  s.group = s.heads > 0 && s.kv_heads > 0 ? s.heads / s.kv_heads : 1;
  s.queries = s.heads > 0 ? q.sizes[2] : 0;
  s.keys = k.sizes[2];
  s.dim = q.sizes[3];
  s.value_dim = v.sizes[3];
  s.dtype = q.dtype;
  s.score_dtype = s.dtype == VT_F64 ? VT_F64 : VT_F32;
  s.scale = values[kScale].re;
  s.high = values[kHigh].i + s.keys - s.queries;
  return s;
}

// ---- heads ----

// An array (batch, heads, time, features), as matrices of one unit after the other.
struct Heads {
  const vt_array *array;
  int64_t group; /* heads in a unit */
  Matrices units;
  std::optional<Scratch> room; /* if it is not used in place */

  Heads(const vt_array &a, int64_t heads_in_unit) : array(&a), group(heads_in_unit) {}
  Heads(const Heads &) = delete;
  Heads &operator=(const Heads &) = delete;

  // Whether the units are matrices a constant distance apart.
  bool in_place() {
    const int64_t *n = array->sizes, *s = array->strides;
    int64_t row = s[2];
    if (group > 1) {
      if (n[2] == 1) {
        row = s[1];
      } else if (s[1] != n[2] * s[2]) {
        return false;
      }
    }
    const int64_t per_batch = n[1] / group, unit = s[1] * group;
    if (n[0] > 1 && per_batch > 1 && s[0] != per_batch * unit) return false;
    units = {array->data, row, s[3], per_batch > 1 ? unit : s[0]};
    return true;
  }

  vt_status reserve(vt_context *ctx) {
    const int64_t *n = array->sizes;
    room.emplace(ctx, size_t(array->numel * dtype_bytes(array->dtype)));
    if (!room->ok()) return VT_ERROR_OUT_OF_MEMORY;
    units = {room->as<void>(), n[3], 1, group * n[2] * n[3]};
    return VT_OK;
  }

  // An input: adds a copy to `jobs` if it needs one.
  vt_status read(CopyJobs &jobs, vt_context *ctx) {
    if (in_place()) return VT_OK;
    const vt_status status = reserve(ctx);
    if (status != VT_OK) return status;
    const int64_t *n = array->sizes, *s = array->strides;
    jobs.add(room->as<void>(), {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1}, array->data,
             {s[0], s[1], s[2], s[3]}, {n[0], n[1], n[2], n[3]});
    return VT_OK;
  }

  // An output: memory to write to, and the copy that follows.
  vt_status write(vt_context *ctx) { return in_place() ? VT_OK : reserve(ctx); }
  void finish(CopyJobs &jobs) {
    if (!room) return;
    const int64_t *n = array->sizes, *s = array->strides;
    jobs.add(array->data, {s[0], s[1], s[2], s[3]}, room->as<void>(),
             {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1}, {n[0], n[1], n[2], n[3]});
  }

  // The matrices from a unit and row on.
  Matrices at(int64_t unit, int64_t row = 0) const {
    Matrices m = units;
    m.data = static_cast<char *>(const_cast<void *>(m.data)) +
             (unit * m.batch + row * m.row) * dtype_bytes(array->dtype);
    return m;
  }
};

// ---- parts ----

// Units [unit, unit + units), and of each the rows [row, row + rows).
struct Part {
  int64_t unit, units, row, rows;
};

// Calls f(part) until all rows of all units are done; a part has at most `limit` bytes of scores, if
// a row has no more.
template <class F>
vt_status in_parts(const Shape &s, int64_t limit, F f) {
  const int64_t row_bytes = s.ld() * dtype_bytes(s.score_dtype);
  const int64_t total = s.unit_rows();
  const int64_t fitting = row_bytes ? limit / row_bytes : total * s.units();
  int64_t rows = total, units = total ? fitting / total : s.units();
  if (units == 0) {
    units = 1;
    rows = fitting < 1 ? 1 : fitting;
  }
  if (units > s.units()) units = s.units();
  for (int64_t unit = 0; unit < s.units(); unit += units) {
    const int64_t now = s.units() - unit < units ? s.units() - unit : units;
    int64_t row = 0;
    do {
      const int64_t n = total - row < rows ? total - row : rows;
      const vt_status status = f(Part{unit, now, row, n});
      if (status != VT_OK) return status;
      row += n;
    } while (row < total);
  }
  return VT_OK;
}

// Bytes of scores of the largest part.
size_t score_bytes(const Shape &s, int64_t limit) {
  const int64_t row = s.ld() * dtype_bytes(s.score_dtype), all = s.units() * s.unit_rows() * row;
  return size_t(all < limit ? all : limit > row ? limit : row);
}

// ---- steps ----

// to = factor * A B (+ to) for the units of a part; to and B may be of other dtypes than A.
struct Step {
  Matrices a, b, to;
  int64_t m, n, k;
  double factor;
  bool add;
};

vt_status multiply(const Shape &s, const Part &part, int out_dtype, const Step &step,
                   vt_context *ctx) {
  Product p;
  p.dtype = s.dtype;
  p.out_dtype = out_dtype;
  p.batch = part.units;
  p.m = step.m;
  p.n = step.n;
  p.k = step.k;
  p.a = step.a;
  p.b = step.b;
  p.c = const_cast<void *>(step.to.data);
  p.c_row = step.to.row;
  p.c_col = step.to.col;
  p.c_batch = step.to.batch;
  p.alpha = {step.factor, 0};
  if (step.add) p.init = step.to;
  return gemm(p, ctx);
}

Matrices transposed(const Matrices &x) { return {x.data, x.col, x.row, x.batch}; }

// Rows of scores, and what is written over them.
Matrices scores_at(const Shape &s, const Part &part, const Scratch &room) {
  return {room.as<void>(), s.ld(), 1, part.rows * s.ld()};
}
Matrices weights_at(const Shape &s, const Part &part, const Scratch &room) {
  const int64_t ld = s.ld() * s.narrow();
  return {room.as<void>(), ld, 1, part.rows * ld};
}

vt_attention_rows rows_of(const Shape &s, const Part &part, const vt_array &mask,
                          const vt_array &lse) {
  vt_attention_rows r = {};
  r.ld = s.ld();
  r.rows = uint32_t(part.units * part.rows);
  r.unit_rows = uint32_t(part.rows);
  r.first_row = uint32_t(part.row);
  r.first_unit = uint32_t(part.unit);
  r.queries = uint32_t(s.queries);
  r.keys = uint32_t(s.keys);
  r.kv_heads = uint32_t(s.kv_heads);
  r.group = uint32_t(s.group);
  if (given(mask)) {
    r.mask_kind = mask.dtype == VT_BOOL ? 1 : 2;
    for (int i = 0; i < 4; i++) r.mask_stride[i] = mask.sizes[i] == 1 ? 0 : mask.strides[i];
  }
  for (int i = 0; i < 3; i++) r.lse_stride[i] = lse.strides[i];
  // Beyond every key is beyond every key, and a number of 32 bits.
  r.high = int32_t(s.high > s.keys ? s.keys : s.high < -s.queries ? -s.queries : s.high);
  return r;
}

// The kernel for a number of keys, and its launch.
struct RowLaunch {
  Kernel &kernel;
  Dim grid, block;
};
RowLaunch by_keys(const Shape &s, uint32_t rows, KernelSet &k128, KernelSet &k256, KernelSet &k512,
                  KernelSet &k1024, KernelSet &loop) {
  // Doubles take twice the registers.
  if (s.keys > (s.dtype == VT_F64 ? 512 : 1024)) return {loop[s.dtype], {rows}, {kLoopThreads}};
  KernelSet &set = s.keys <= 128 ? k128 : s.keys <= 256 ? k256 : s.keys <= 512 ? k512 : k1024;
  const unsigned blocks = unsigned((rows + kWarps - 1) / kWarps);
  return {set[s.dtype], {blocks}, {unsigned(kWarps * 32)}};
}

bool is_floating(int dtype) {
  return dtype == VT_F16 || dtype == VT_BF16 || dtype == VT_F32 || dtype == VT_F64;
}

vt_status make_scores(const Shape &s, const Part &part, const Heads &q, const Heads &k,
                      const Scratch &room, vt_context *ctx) {
  return multiply(s, part, s.score_dtype,
                  {q.at(part.unit, part.row), transposed(k.at(part.unit)), scores_at(s, part, room),
                   part.rows, s.keys, s.dim, s.scale, false},
                  ctx);
}

const void *data_of(const vt_array &a) { return given(a) ? a.data : nullptr; }

}  // namespace

vt_status attention_composed(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const Shape s = shape_of(arrays[0], arrays[1], arrays[2], values);
  const vt_array &mask = arrays[3], &lse = arrays[8];
  if (!is_floating(s.dtype)) return VT_ERROR_DTYPE;
  if (s.units() == 0 || s.unit_rows() == 0) return VT_OK;
  Heads q(arrays[0], s.group), k(arrays[1], 1), v(arrays[2], 1), out(arrays[7], s.group);
  CopyJobs before(s.dtype);
  vt_status status;
  if ((status = q.read(before, ctx)) || (status = k.read(before, ctx)) ||
      (status = v.read(before, ctx)) || (status = out.write(ctx)) || (status = before.run(ctx))) {
    return status;
  }
  {
    const Scratch room(ctx, score_bytes(s, kScoreBytes));
    if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
    status = in_parts(s, kScoreBytes, [&](const Part &part) {
      vt_status step = make_scores(s, part, q, k, room, ctx);
      if (step != VT_OK) return step;
      const vt_attention_rows rows = rows_of(s, part, mask, lse);
      const RowLaunch how =
          by_keys(s, rows.rows, softmax_128, softmax_256, softmax_512, softmax_1024, softmax_loop);
      step = launch(ctx, how.kernel, how.grid, how.block, 0, room.as<void>(), data_of(mask),
                    static_cast<void *>(lse.data), rows);
      if (step != VT_OK) return step;
      return multiply(s, part, s.dtype,
                      {weights_at(s, part, room), v.at(part.unit), out.at(part.unit, part.row),
                       part.rows, s.value_dim, s.keys, 1.0, false},
                      ctx);
    });
  }
  if (status != VT_OK) return status;
  CopyJobs after(s.dtype);
  out.finish(after);
  return after.run(ctx);
}

// With P = softmax(scale q k^T + mask): dv = P^T grad, dS = P * (grad v^T - sum(P * grad v^T)),
// dq = scale dS k, dk = scale dS^T q. `out` is not needed: the sum is that of grad * out.
vt_status attention_composed_backward(const vt_array *arrays, const vt_value *values,
                                      vt_context *ctx) {
  const Shape s = shape_of(arrays[1], arrays[2], arrays[3], values);
  const vt_array &mask = arrays[4], &lse = arrays[9];
  const vt_array &to_q = arrays[10], &to_k = arrays[11], &to_v = arrays[12], &to_mask = arrays[13];
  if (!is_floating(s.dtype)) return VT_ERROR_DTYPE;
  if (s.units() == 0) return VT_OK;
  const bool wants_scores = given(to_q) || given(to_k) || given(to_mask);
  Heads grad(arrays[0], s.group), q(arrays[1], s.group), k(arrays[2], 1), v(arrays[3], 1);
  Heads grad_q(to_q, s.group), grad_k(to_k, 1), grad_v(to_v, 1);
  CopyJobs before(s.dtype);
  vt_status status;
  if ((status = grad.read(before, ctx)) || (status = q.read(before, ctx)) ||
      (status = k.read(before, ctx)) || (status = v.read(before, ctx)) ||
      (status = before.run(ctx))) {
    return status;
  }
  if ((given(to_q) && (status = grad_q.write(ctx))) ||
      (given(to_k) && (status = grad_k.write(ctx))) ||
      (given(to_v) && (status = grad_v.write(ctx)))) {
    return status;
  }
  // Two matrices of scores share the limit.
  constexpr int64_t kLimit = kScoreBytes / 2;
  {
    const size_t bytes = score_bytes(s, kLimit);
    const Scratch room(ctx, bytes), grad_room(ctx, wants_scores ? bytes : 0);
    if (!room.ok() || !grad_room.ok()) return VT_ERROR_OUT_OF_MEMORY;
    vt_attention_grad_mask grad_mask = {};
    if (given(to_mask)) {
      grad_mask.data = to_mask.data;
      for (int i = 0; i < 4; i++) grad_mask.stride[i] = to_mask.strides[i];
    }
    status = in_parts(s, kLimit, [&](const Part &part) {
      const bool add = part.row > 0;  // to what other rows of the unit gave
      const Matrices grad_rows = grad.at(part.unit, part.row);
      const Matrices weights = weights_at(s, part, room);
      const Matrices grad_scores = weights_at(s, part, grad_room);
      vt_status step = make_scores(s, part, q, k, room, ctx);
      if (step != VT_OK) return step;
      if (wants_scores) {
        step = multiply(s, part, s.score_dtype,
                        {grad_rows, transposed(v.at(part.unit)), scores_at(s, part, grad_room),
                         part.rows, s.keys, s.value_dim, 1.0, false},
                        ctx);
        if (step != VT_OK) return step;
      }
      const vt_attention_rows rows = rows_of(s, part, mask, lse);
      if (rows.rows > 0) {
        const RowLaunch how =
            by_keys(s, rows.rows, grad_128, grad_256, grad_512, grad_1024, grad_loop);
        step = launch(ctx, how.kernel, how.grid, how.block, 0, room.as<void>(),
                      wants_scores ? grad_room.as<void>() : nullptr, data_of(mask),
                      static_cast<const void *>(lse.data), rows, grad_mask);
        if (step != VT_OK) return step;
      }
      if (given(to_v)) {
        step = multiply(s, part, s.dtype,
                        {transposed(weights), grad_rows, grad_v.at(part.unit), s.keys, s.value_dim,
                         part.rows, 1.0, add},
                        ctx);
      }
      if (step == VT_OK && given(to_q)) {
        step = multiply(s, part, s.dtype,
                        {grad_scores, k.at(part.unit), grad_q.at(part.unit, part.row), part.rows,
                         s.dim, s.keys, s.scale, false},
                        ctx);
      }
      if (step == VT_OK && given(to_k)) {
        step = multiply(s, part, s.dtype,
                        {transposed(grad_scores), q.at(part.unit, part.row), grad_k.at(part.unit),
                         s.keys, s.dim, part.rows, s.scale, add},
                        ctx);
      }
      return step;
    });
  }
  if (status != VT_OK) return status;
  CopyJobs after(s.dtype);
  if (given(to_q)) grad_q.finish(after);
  if (given(to_k)) grad_k.finish(after);
  if (given(to_v)) grad_v.finish(after);
  return after.run(ctx);
}

}  // namespace vt_cuda
