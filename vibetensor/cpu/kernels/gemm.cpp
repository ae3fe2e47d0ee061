// Products of matrices: the choice between BLAS and our own tiles, the split over threads, and the
// kernels mm, bmm, addmm and linear.

#include "vibetensor/cpu/kernels/gemm.h"

#include <cblas.h>

#include "vibetensor/cpu/kernels/gemm_tiles.h"

namespace VT_NS {
namespace {

// ---- layouts ----

// The same product with rows and columns exchanged.
Product transposed(const Product &p) {
  Product t = p;
  t.m = p.n;
  t.n = p.m;
  t.a = {p.b.data, p.b.col, p.b.row};
  t.b = {p.a.data, p.a.col, p.a.row};
  t.c_row = p.c_col;
  t.c_col = p.c_row;
  t.init = {p.init.data, p.init.col, p.init.row};
  return t;
}

// Gives C unit column stride where a transposition can; a column becomes a row.
Product row_major(const Product &p) {
  if (p.n == 1 ? p.c_row == 1 : p.c_col != 1 && (p.c_row == 1 || p.m == 1)) return transposed(p);
  return p;
}

const char *at(const MatrixRef &x, int64_t row, int64_t col, int size) {
  return static_cast<const char *>(x.data) + (row * x.row + col * x.col) * size;
}

// Rows [i0, i1) and columns [j0, j1) of the result.
Product part_of(const Product &p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  const int size = dtype_size(p.dtype);
  Product q = p;
  q.m = i1 - i0;
  q.n = j1 - j0;
  q.a.data = at(p.a, i0, 0, size);
  q.b.data = at(p.b, 0, j0, size);
  q.c = static_cast<char *>(p.c) + (i0 * p.c_row + j0 * p.c_col) * size;
  if (p.init.data) q.init.data = at(p.init, i0, j0, size);
  return q;
}

// ---- BLAS ----

// Threads are ours: BLAS works within one tile.
bool blas_ready() {
  static const bool ready = [] {
    scipy_openblas_set_num_threads(1);
    return true;
  }();
  return ready;
}

void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha,
               const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc) {
  scipy_cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha,
               const double *a, int lda, const double *b, int ldb, double beta, double *c,
               int ldc) {
  scipy_cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, complex<float> alpha,
               const complex<float> *a, int lda, const complex<float> *b, int ldb,
               complex<float> beta, complex<float> *c, int ldc) {
  scipy_cblas_cgemm(CblasRowMajor, ta, tb, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc);
}
void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, complex<double> alpha,
               const complex<double> *a, int lda, const complex<double> *b, int ldb,
               complex<double> beta, complex<double> *c, int ldc) {
  scipy_cblas_zgemm(CblasRowMajor, ta, tb, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc);
}

// How BLAS can read a matrix in place, if it can.
struct BlasOperand {
  bool ok;
  CBLAS_TRANSPOSE transpose;
  int ld;
};

BlasOperand blas_operand(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride) {
  const auto fits = [](int64_t ld, int64_t length) { return ld >= length && ld <= INT32_MAX; };
  if (rows == 1) row_stride = max_of(cols, int64_t(1));
  if (cols == 1) col_stride = max_of(rows, int64_t(1));
  if ((col_stride == 1 || cols == 1) && fits(row_stride, cols)) {
    return {true, CblasNoTrans, static_cast<int>(row_stride)};
  }
  if ((row_stride == 1 || rows == 1) && fits(col_stride, rows)) {
    return {true, CblasTrans, static_cast<int>(col_stride)};
  }
  return {false, CblasNoTrans, 0};
}

// C = factor * init.
template <class S>
void fill_scaled(const GemmCall<S> &g, S factor) {
  for (int64_t i = 0; i < g.m; i++) {
    S *c = g.c + i * g.c_row;
    load_row(c, g.init + i * g.init_row, g.init_col, g.n);
    if (!(factor == S(1))) {
      for (int64_t j = 0; j < g.n; j++) c[j] = c[j] * factor;
    }
  }
}

// False where BLAS cannot read an operand in place.
template <class S>
bool gemm_blas(const GemmCall<S> &g) {
  const BlasOperand a = blas_operand(g.m, g.k, g.a_row, g.a_k);
  const BlasOperand b = blas_operand(g.k, g.n, g.b_k, g.b_col);
  const int64_t ldc = g.m == 1 ? g.n : g.c_row;
  if (!a.ok || !b.ok || ldc < g.n || max_of(max_of(g.m, g.n), max_of(g.k, ldc)) > INT32_MAX) {
    return false;
  }
  S beta = S(0);
  if (g.init) {
    if (g.init == g.c && g.init_row == g.c_row && g.init_col == 1) {
      beta = g.beta;
    } else {
      fill_scaled(g, S(g.beta));
      beta = S(1);
    }
  }
  blas_ready();
  blas_gemm(a.transpose, b.transpose, int(g.m), int(g.n), int(g.k), g.alpha, g.a, a.ld, g.b, b.ld,
            beta, g.c, int(ldc));
  return true;
}

// Complex numbers always go to BLAS, copied first where it cannot read them in place.
template <class S>
bool gemm_complex(const GemmCall<S> &g) {
  if (gemm_blas(g)) return true;
  Workspace frame;
  S *a = frame.take<S>(g.m * g.k), *b = frame.take<S>(g.k * g.n), *c = frame.take<S>(g.m * g.n);
  if (!a || !b || !c) return false;
  for (int64_t i = 0; i < g.m; i++) load_row(a + i * g.k, g.a + i * g.a_row, g.a_k, g.k);
  for (int64_t p = 0; p < g.k; p++) load_row(b + p * g.n, g.b + p * g.b_k, g.b_col, g.n);
  GemmCall<S> h = g;
  h.a = a;
  h.a_row = g.k;
  h.a_k = 1;
  h.b = b;
  h.b_k = g.n;
  h.b_col = 1;
  h.c = c;
  h.c_row = g.n;
  gemm_blas(h);
  for (int64_t i = 0; i < g.m; i++) memcpy(g.c + i * g.c_row, c + i * g.n, sizeof(S) * g.n);
  return true;
}

// ---- one thread ----

template <class S>
typename GemmSum<S>::type factor_as(const Factor &f) {
  using T = typename GemmSum<S>::type;
  if constexpr (is_complex<S>) {
    return T(static_cast<real_t<S>>(f.re), static_cast<real_t<S>>(f.im));
  } else {
    return is_integral<S> ? static_cast<T>(f.i) : static_cast<T>(f.re);
  }
}

// Whether BLAS is the faster one. By measurement with AVX2, our tiles are while A lies in rows and
// either k is one block, as it is in most layers, or the product is small: they need no time to
// start and pack B only. Other processors are left to the BLAS sooner, which has kernels for each.
template <class S>
bool prefers_blas(const GemmCall<S> &g) {
  constexpr int64_t kMinSide = 24;
  const int64_t work = g.m * g.n * g.k;
  if (work <= 1 << 20 || min_of(g.m, g.n) < kMinSide) return false;
  return kVectorBytes != 32 || g.a_k != 1 || (g.k > kBlockK && work > 1 << 24);
}

template <class S>
vt_status gemm_typed(const Product &p) {
  GemmCall<S> g;
  g.m = p.m;
  g.n = p.n;
  g.k = p.k;
  g.a = static_cast<const S *>(p.a.data);
  g.a_row = p.a.row;
  g.a_k = p.a.col;
  g.b = static_cast<const S *>(p.b.data);
  g.b_k = p.b.row;
  g.b_col = p.n == 1 ? 1 : p.b.col;
  g.c = static_cast<S *>(p.c);
  g.c_row = p.c_row;
  g.init = static_cast<const S *>(p.init.data);
  g.init_row = p.init.row;
  g.init_col = p.init.col;
  g.alpha = factor_as<S>(p.alpha);
  g.beta = factor_as<S>(p.beta);
  bool done = false;
  if constexpr (is_complex<S>) {
    done = gemm_complex(g);
  } else {
    if constexpr (std::is_same<S, float>::value || std::is_same<S, double>::value) {
      if (prefers_blas(g)) done = gemm_blas(g);
    }
    if (!done) done = gemm_own(g);
  }
  return done ? VT_OK : VT_ERROR_OUT_OF_MEMORY;
}

// C has neither unit row nor unit column stride: rows are made elsewhere and copied.
vt_status gemm_scattered(const Product &p) {
  const int64_t rows = max_of(int64_t(1), 16384 / p.n);
  return dispatch<kIntegers | kFloating | kComplex>(p.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    Workspace frame;
    S *room = frame.take<S>(min_of(rows, p.m) * p.n);
    if (!room) return VT_ERROR_OUT_OF_MEMORY;
    for (int64_t i = 0; i < p.m; i += rows) {
      Product q = part_of(p, i, min_of(i + rows, p.m), 0, p.n);
      q.c = room;
      q.c_row = p.n;
      q.c_col = 1;
      const vt_status status = gemm_typed<S>(q);
      if (status != VT_OK) return status;
      S *c = static_cast<S *>(p.c) + i * p.c_row;
      for (int64_t r = 0; r < q.m; r++) store_row(c + r * p.c_row, p.c_col, room + r * p.n, p.n);
    }
    return VT_OK;
  });
}

// ---- threads ----

// Multiply-adds that are worth a thread of their own: some 20 us.
constexpr int64_t kGrainWork = 1 << 20;
// Values read that are, where a product has a single row and memory is what takes the time.
constexpr int64_t kGrainRead = 1 << 16;
// Ranges are cut at multiples of so many rows or columns.
constexpr int64_t kUnit = 16;
// Ranges larger than this are cut although there is a range for every thread: threads that start
// late or run slowly then hold up the others less. Smaller ones would pack B too often.
constexpr int64_t kMaxRows = 256;

// Runs f(part) over a partition of the result.
template <class F>
vt_status in_parts(const Product &p, const F &f) {
  const bool by_rows = p.m >= p.n;
  const int64_t length = by_rows ? p.m : p.n, units = div_up(length, kUnit);
  const int64_t unit_work = kUnit * (by_rows ? p.n : p.m) * max_of(p.k, int64_t(1));
  const int64_t grain_work = p.m <= kDotRows || p.n <= kDotRows ? kGrainRead : kGrainWork;
  int64_t grain = max_of(int64_t(1), div_up(grain_work, max_of(unit_work, int64_t(1))));
  if (grain >= units) return f(p);
  grain = max_of(grain, min_of(units / vt_get_num_threads(), kMaxRows / kUnit));
  vt_status status = VT_OK;
  parallel_for(units, grain, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * kUnit, to = min_of(end * kUnit, length);
    const vt_status s = f(by_rows ? part_of(p, from, to, 0, p.n) : part_of(p, 0, p.m, from, to));
    if (s != VT_OK) __atomic_store_n(&status, s, __ATOMIC_RELAXED);
  });
  return status;
}

vt_status gemm_canonical(const Product &p) {
  if (VT_UNLIKELY(p.c_col != 1 && p.n != 1)) return gemm_scattered(p);
  if (VT_LIKELY(p.dtype == VT_F32)) return gemm_typed<float>(p);
  return dispatch<kIntegers | kFloating | kComplex>(
      p.dtype, [&](auto tag) { return gemm_typed<typename decltype(tag)::type>(p); });
}

}  // namespace

vt_status gemm_serial(const Product &p) {
  if (p.m <= 0 || p.n <= 0) return VT_OK;
  return gemm_canonical(row_major(p));
}

vt_status gemm(const Product &p) {
  if (p.m <= 0 || p.n <= 0) return VT_OK;
  return in_parts(row_major(p), gemm_canonical);
}

// ---- kernels ----

namespace {

// The last two dimensions.
MatrixRef matrix_of(const vt_array &x) {
  const int64_t *s = x.strides + x.ndim - 2;
  return {x.data, s[0], s[1]};
}

Product product_of(const vt_array &a, const vt_array &b, const vt_array &out) {
  const int d = out.ndim - 2;
  Product p;
  p.dtype = out.dtype;
  p.m = a.sizes[d];
  p.k = a.sizes[d + 1];
  p.n = b.sizes[d + 1];
  p.a = matrix_of(a);
  p.b = matrix_of(b);
  p.c = out.data;
  p.c_row = out.strides[d];
  p.c_col = out.strides[d + 1];
  return p;
}

// Runs the product item(i) for all i below `batch`; `first` is one of them.
template <class F>
vt_status gemm_batch(const Product &first, int64_t batch, const F &item) {
  const int64_t work = max_of(int64_t(1), first.m * first.n * max_of(first.k, int64_t(1)));
  vt_status status = VT_OK;
  // A few large products are each spread over the threads; many are shared out whole.
  if (batch < vt_get_num_threads() && work > kGrainWork) {
    for (int64_t i = 0; i < batch && status == VT_OK; i++) status = gemm(item(i));
    return status;
  }
  parallel_for(batch, max_of(int64_t(1), kGrainWork / work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const vt_status s = gemm_serial(item(i));
      if (s != VT_OK) {
        __atomic_store_n(&status, s, __ATOMIC_RELAXED);
        return;
      }
    }
  });
  return status;
}

}  // namespace

// arrays: a (m, k), b (k, n), out (m, n).
vt_status mm_cpu(const vt_array *arrays, const vt_value *, vt_context *) {
  return gemm(product_of(arrays[0], arrays[1], arrays[2]));
}

// arrays: input (m, n), a (m, k), b (k, n), out (m, n), or batches of them; values: beta, alpha. out may be
// input.
vt_status addmm_cpu(const vt_array *arrays, const vt_value *values, vt_context *) {
  const vt_array &input = arrays[0], &a = arrays[1], &b = arrays[2], &out = arrays[3];
  Product p = product_of(a, b, out);
  p.beta = factor_of(values[0]);
  p.alpha = factor_of(values[1]);
  // A zero factor means that input is not read, so that its nan and inf do not count.
  if (p.beta.re != 0 || p.beta.im != 0) p.init = matrix_of(input);
  if (out.ndim == 2) return gemm(p);
  const int size = dtype_size(out.dtype);
  return gemm_batch(p, out.sizes[0], [&](int64_t i) {
    Product q = p;
    q.a.data = a.data + i * a.strides[0] * size;
    q.b.data = b.data + i * b.strides[0] * size;
    q.c = out.data + i * out.strides[0] * size;
    if (p.init.data) q.init.data = input.data + i * input.strides[0] * size;
    return q;
  });
}

// arrays: out (m, n), a (m, k), b (k, n); values: beta, alpha. out = beta out + alpha a b.
vt_status addmm_into_cpu(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const vt_array with_out[] = {arrays[0], arrays[1], arrays[2], arrays[0]};
  return addmm_cpu(with_out, values, ctx);
}

// arrays: input (rows, in), weight (out, in), bias (out) or none, out (rows, out).
vt_status linear_cpu(const vt_array *arrays, const vt_value *, vt_context *) {
  const vt_array &input = arrays[0], &weight = arrays[1], &bias = arrays[2], &out = arrays[3];
  Product p;
  p.dtype = out.dtype;
  p.m = input.sizes[0];
  p.k = input.sizes[1];
  p.n = weight.sizes[0];
  p.a = matrix_of(input);
  p.b = {weight.data, weight.strides[1], weight.strides[0]};
  p.c = out.data;
  p.c_row = out.strides[0];
  p.c_col = out.strides[1];
  if (given(bias)) p.init = {bias.data, 0, bias.strides[0]};
  return gemm(p);
}

// arrays: a (batch, m, k), b (batch, k, n), out (batch, m, n).
vt_status bmm_cpu(const vt_array *arrays, const vt_value *, vt_context *) {
  const vt_array &a = arrays[0], &b = arrays[1], &out = arrays[2];
  const Product first = product_of(a, b, out);
  const int size = dtype_size(out.dtype);
  return gemm_batch(first, out.sizes[0], [&](int64_t i) {
    Product p = first;
    p.a.data = a.data + i * a.strides[0] * size;
    p.b.data = b.data + i * b.strides[0] * size;
    p.c = out.data + i * out.strides[0] * size;
    return p;
  });
}

}  // namespace VT_NS
