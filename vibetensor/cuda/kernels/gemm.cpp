// From strided matrices to what cuBLASLt can read: transposed views are passed as transposes, other
// layouts are copied into scratch memory first. Products of a single block go past the library.

#include "vibetensor/cuda/kernels/gemm.h"

#include <optional>

#include "vibetensor/cuda/kernels/small_product.h"
#include "vibetensor/cuda/kernels/strided_copy.h"
#include "vibetensor/cuda/launch.h"

namespace vt_cuda {
namespace {

KernelSet matrix_scale("matrix", "vt_matrix_scale");

// Batches beyond this are split: kernels count them in a dimension of the grid.
constexpr int64_t kMaxBatch = 65535;

bool is_zero(const GemmFactor &f) { return f.re == 0 && f.im == 0; }

char *bytes_at(const void *data, int64_t elements, int dtype) {
  return static_cast<char *>(const_cast<void *>(data)) + elements * dtype_bytes(dtype);
}

// The same product with rows and columns exchanged. A bias is then one of the rows.
Product transposed(const Product &p) {
  Product t = p;
  t.m = p.n;
  t.n = p.m;
  t.a = {p.b.data, p.b.col, p.b.row, p.b.batch};
  t.b = {p.a.data, p.a.col, p.a.row, p.a.batch};
  t.init = {p.init.data, p.init.col, p.init.row, p.init.batch};
  t.c_row = p.c_col;
  t.c_col = p.c_row;
  if (p.bias) {
    t.init = {p.bias, p.bias_stride, 0, 0};
    t.beta = {1, 0};
    t.bias = nullptr;
  }
  return t;
}

// Whether matrices with these strides lie in rows that cuBLASLt can read or write.
bool in_rows(int64_t rows, int64_t cols, int64_t row, int64_t col) {
  return (col == 1 || cols == 1) && (rows == 1 || row >= (cols > 1 ? cols : 1));
}

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// The leading dimension of such rows. A single row has none: the step to the next matrix joins the
// rows of all, and otherwise a multiple of 16 bytes lets the library choose any of its kernels.
int64_t leading(int64_t rows, int64_t cols, int64_t row, int64_t batch, int64_t step) {
  if (rows > 1) return row;
  return batch > 1 && step >= cols ? step : round_up(cols, 8);
}

// An operand in place, if it can be read there.
bool operand_in_place(const Matrices &x, int64_t rows, int64_t cols, int64_t batch,
                      GemmOperand *operand) {
  if (batch > 1 && x.batch < 0) return false;
  if (in_rows(rows, cols, x.row, x.col)) {
    *operand = {x.data, leading(rows, cols, x.row, batch, x.batch), x.batch, false};
    return true;
  }
  if (in_rows(cols, rows, x.col, x.row)) {
    *operand = {x.data, leading(cols, rows, x.col, batch, x.batch), x.batch, true};
    return true;
  }
  return false;
}

// Copies matrices into rows of `room`.
vt_status copy_rows(const Matrices &x, int dtype, int64_t batch, int64_t rows, int64_t cols,
                    void *room, int64_t ld, int64_t room_batch, vt_context *ctx) {
  CopyJobs jobs(dtype);
  jobs.add(room, {0, room_batch, ld, 1}, x.data, {0, x.batch, x.row, x.col},
           {1, batch, rows, cols});
  return jobs.run(ctx);
}

// An operand, copied if need be into memory that `room` then holds.
vt_status make_operand(const Matrices &x, int dtype, int64_t rows, int64_t cols, int64_t batch,
                       std::optional<Scratch> &room, GemmOperand *operand, vt_context *ctx) {
  if (__builtin_expect(operand_in_place(x, rows, cols, batch, operand), 1)) return VT_OK;
  const int64_t copies = x.batch == 0 ? 1 : batch, ld = round_up(cols, 8);
  room.emplace(ctx, size_t(copies * rows * ld * dtype_bytes(dtype)));
  if (!room->ok()) return VT_ERROR_OUT_OF_MEMORY;
  *operand = {room->as<void>(), ld, copies == 1 ? 0 : rows * ld, false};
  return copy_rows(x, dtype, copies, rows, cols, room->as<void>(), ld, rows * ld, ctx);
}

// A bias as the epilogue reads it: packed, at a multiple of 16 bytes.
vt_status make_bias(const Product &p, std::optional<Scratch> &room, const void **bias,
                    vt_context *ctx) {
  *bias = p.bias;
  if ((p.bias_stride == 1 || p.n == 1) && reinterpret_cast<uintptr_t>(p.bias) % 16 == 0) {
    return VT_OK;
  }
  room.emplace(ctx, size_t(p.n * dtype_bytes(p.out_dtype)));
  if (!room->ok()) return VT_ERROR_OUT_OF_MEMORY;
  *bias = room->as<void>();
  return copy_rows({p.bias, 0, p.bias_stride, 0}, p.out_dtype, 1, 1, p.n, room->as<void>(), p.n, 0,
                   ctx);
}

// C = init, so that the product can be added to it.
vt_status put_init(const Product &p, const Matrices &init, vt_context *ctx) {
  CopyJobs jobs(p.out_dtype);
  jobs.add(p.c, {0, p.c_batch, p.c_row, p.c_col}, init.data, {0, init.batch, init.row, init.col},
           {1, p.batch, p.m, p.n});
  return jobs.run(ctx);
}

bool same_memory(const Matrices &x, const Product &p) {
  return x.data == p.c && (x.row == p.c_row || p.m == 1) && (x.col == p.c_col || p.n == 1) &&
         (x.batch == p.c_batch || p.batch == 1);
}

// With C in rows and at most kMaxBatch products.
vt_status gemm_rows(const Product &p, vt_context *ctx) {
  Gemm g;
  g.dtype = p.dtype;
  g.out_dtype = p.out_dtype;
  g.m = p.m;
  g.n = p.n;
  g.k = p.k;
  g.batch = p.batch;
  g.d = p.c;
  g.d_ld = leading(p.m, p.n, p.c_row, p.batch, p.c_batch);
  g.d_batch = p.c_batch;
  g.c = p.c;
  g.c_ld = g.d_ld;
  g.c_batch = g.d_batch;
  g.alpha = p.alpha;
  g.beta = {0, 0};
  g.epilogue = p.epilogue;
  g.bias = p.bias_grad;
  g.aux = p.aux;
  g.aux_ld = p.aux_ld;

  std::optional<Scratch> room_a, room_b, room_bias;
  vt_status status = make_operand(p.a, p.dtype, p.m, p.k, p.batch, room_a, &g.a, ctx);
  if (status == VT_OK) {
    status = make_operand(p.b, p.dtype, p.k, p.n, p.batch, room_b, &g.b, ctx);
  }
  if (status != VT_OK) return status;
  // A matrix for all products with the rows of all of them makes one larger product.
  if (g.batch > 1 && g.b.batch == 0 && !g.a.transposed && g.a.batch == g.m * g.a.ld &&
      g.d_batch == g.m * g.d_ld && !p.init.data) {
    g.m *= g.batch;
    g.batch = 1;
  }

  if (p.init.data) {
    g.beta = p.beta;
    if (!same_memory(p.init, p)) {
      if (in_rows(p.m, p.n, p.init.row, p.init.col) && (p.batch == 1 || p.init.batch > 0)) {
        g.c = p.init.data;
        g.c_ld = leading(p.m, p.n, p.init.row, p.batch, p.init.batch);
        g.c_batch = p.init.batch;
      } else if ((status = put_init(p, p.init, ctx)) != VT_OK) {
        return status;
      }
    }
  }
  if (p.bias) {
    g.epilogue =
        p.epilogue == kLtEpilogueNone ? uint32_t(kLtEpilogueBias) : p.epilogue | kLtEpilogueBias;
    if ((status = make_bias(p, room_bias, &g.bias, ctx)) != VT_OK) return status;
  }
  const GemmResult result = run_gemm(g, ctx, &status);
  if (result != GemmResult::kUnsupported || g.epilogue != kLtEpilogueBias || p.init.data) {
    return status;
  }
  // The dtype has no epilogue: the bias goes into C first.
  status = put_init(p, {p.bias, 0, p.bias_stride, 0}, ctx);
  if (status != VT_OK) return status;
  g.epilogue = kLtEpilogueNone;
  g.beta = {1, 0};
  g.m = p.m;
  g.batch = p.batch;
  run_gemm(g, ctx, &status);
  return status;
}

// C has neither unit row nor unit column stride: the result is made elsewhere and copied.
vt_status gemm_scattered(const Product &p, vt_context *ctx) {
  const int64_t ld = round_up(p.n, 8);
  Scratch room(ctx, size_t(p.batch * p.m * ld * dtype_bytes(p.out_dtype)));
  if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
  Product q = p;
  q.c = room.as<void>();
  q.c_row = ld;
  q.c_col = 1;
  q.c_batch = p.m * ld;
  const vt_status status = gemm(q, ctx);
  if (status != VT_OK) return status;
  CopyJobs jobs(p.out_dtype);
  jobs.add(p.c, {0, p.c_batch, p.c_row, p.c_col}, q.c, {0, q.c_batch, ld, 1},
           {1, p.batch, p.m, p.n});
  return jobs.run(ctx);
}

// Whether the results of a batch do not lie one after the other.
bool interleaved(const Product &p) {
  return p.batch > 1 && p.c_batch < (p.m - 1) * p.c_row + (p.n - 1) * p.c_col + 1;
}

// Nothing to sum over: C is what the product would be added to.
vt_status without_inner(const Product &p, vt_context *ctx) {
  if (p.epilogue != kLtEpilogueNone) {
    ctx->message = "a product with an activation needs an inner dimension";
    return VT_ERROR_VALUE;
  }
  Matrices x;
  GemmFactor factor = {1, 0};
  if (p.bias) {
    x = {p.bias, 0, p.bias_stride, 0};
  } else if (p.init.data) {
    x = p.init;
    factor = p.beta;
  }
  return scale_matrices(p.out_dtype, p.batch, p.m, p.n, p.c, p.c_row, p.c_col, p.c_batch, x, factor,
                        ctx);
}

}  // namespace

vt_status gemm(const Product &product, vt_context *ctx) {
  if (!is_blas_dtype(product.dtype)) return VT_ERROR_DTYPE;
  if (product.m <= 0 || product.n <= 0 || product.batch <= 0) return VT_OK;
  Product p = product;
  // A zero factor means that init is not read, so that its nan and inf do not count.
  if (p.init.data && is_zero(p.beta)) p.init = Matrices();
  if (p.batch == 1) p.a.batch = p.b.batch = p.init.batch = p.c_batch = 0;
  if (__builtin_expect(p.k <= 0, 0)) return without_inner(p, ctx);
  if (is_small_product(p)) return small_product(p, ctx);
  if (__builtin_expect(interleaved(p), 0)) return gemm_scattered(p, ctx);
  if (__builtin_expect(!in_rows(p.m, p.n, p.c_row, p.c_col), 0)) {
    if (p.epilogue != kLtEpilogueNone || !in_rows(p.n, p.m, p.c_col, p.c_row)) {
      return gemm_scattered(p, ctx);
    }
    p = transposed(p);
  }
  if (__builtin_expect(p.batch <= kMaxBatch, 1)) return gemm_rows(p, ctx);
  for (int64_t first = 0; first < p.batch; first += kMaxBatch) {
    Product part = p;
    part.batch = p.batch - first < kMaxBatch ? p.batch - first : kMaxBatch;
    part.a.data = bytes_at(p.a.data, first * p.a.batch, p.dtype);
    part.b.data = bytes_at(p.b.data, first * p.b.batch, p.dtype);
    if (p.init.data) part.init.data = bytes_at(p.init.data, first * p.init.batch, p.out_dtype);
    part.c = bytes_at(p.c, first * p.c_batch, p.out_dtype);
    const vt_status status = gemm(part, ctx);
    if (status != VT_OK) return status;
  }
  return VT_OK;
}

vt_status scale_matrices(int dtype, int64_t batch, int64_t m, int64_t n, void *c, int64_t c_row,
                         int64_t c_col, int64_t c_batch, const Matrices &x, GemmFactor factor,
                         vt_context *ctx) {
  const int64_t total = batch * m * n;
  if (total == 0) return VT_OK;
  constexpr unsigned kThreads = 256;
  const int64_t wanted = (total + kThreads - 1) / kThreads;
  const int64_t limit = int64_t(properties(ctx).sm_count) * 32;
  return launch(ctx, matrix_scale[dtype], {unsigned(wanted < limit ? wanted : limit)}, {kThreads},
                0, c, x.data, batch, m, n, c_batch, c_row, c_col, x.batch, x.row, x.col, factor.re,
                factor.im);
}

}  // namespace vt_cuda
