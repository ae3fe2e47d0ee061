// Our own product of matrices, for what a BLAS has no routine for or is slow at: half types
// (converted as they are packed), integers, small matrices, few rows, and strides that BLAS does
// not take.
#ifndef VT_CPU_GEMM_TILES_H
#define VT_CPU_GEMM_TILES_H

#include "vibetensor/cpu/kernels/microkernel.h"
#include "vibetensor/cpu/kernels/workspace.h"

namespace VT_NS {

// The type products of S are summed in. Unsigned integers, because they may wrap.
template <class S>
struct GemmSum {
  using type = std::conditional_t<sizeof(S) == 8, uint64_t, uint32_t>;
};
template <>
struct GemmSum<float> {
  using type = float;
};
template <>
struct GemmSum<double> {
  using type = double;
};
template <>
struct GemmSum<half> {
  using type = float;
};
template <>
struct GemmSum<bfloat16> {
  using type = float;
};

template <class R>
struct GemmSum<complex<R>> {
  using type = complex<R>;
};

// struct Product with its types; C has unit column stride.
template <class S>
struct GemmCall {
  using T = typename GemmSum<S>::type;
  int64_t m, n, k;
  const S *a;
  int64_t a_row, a_k;
  const S *b;
  int64_t b_k, b_col;
  S *c;
  int64_t c_row;
  const S *init;
  int64_t init_row, init_col;
  T alpha, beta;
};

// Writes w finished sums of row i from column j on: alpha x + beta init, rounded once.
template <class S, class T>
inline void write_sums(const GemmCall<S> &g, int64_t i, int64_t j, T *x, int64_t w) {
  if (g.alpha != T(1)) {
    for (int64_t q = 0; q < w; q++) x[q] *= g.alpha;
  }
  if (g.init) {
    const S *init = g.init + i * g.init_row + j * g.init_col;
    constexpr int64_t kRun = 64;
    T room[kRun];
    for (int64_t q0 = 0; q0 < w; q0 += kRun) {
      const int64_t run = min_of(kRun, w - q0);
      read_run(room, init + q0 * g.init_col, g.init_col, run);
#pragma omp simd
      for (int64_t q = 0; q < run; q++) x[q0 + q] += g.beta * room[q];
    }
  }
  write_run(g.c + i * g.c_row + j, 1, x, w);
}

// ---- packing ----

// Copies the k x w matrix at `b` (w <= kTileCols) into rows of kTileCols values, zeros behind.
template <class S, class T>
inline void pack_panel(T *to, const S *b, int64_t b_k, int64_t b_col, int64_t k, int64_t w) {
  constexpr int TC = kTileCols<T>;
  if (w < TC) memset(static_cast<void *>(to), 0, sizeof(T) * TC * k);
  if (b_k == 1 && b_col != 1) {
    if constexpr (std::is_same<S, T>::value) {
      transpose_copy(to, TC, b, b_col, w, k);
    } else {
      constexpr int64_t kRun = 128;
      T rows[TC * kRun];
      for (int64_t p = 0; p < k; p += kRun) {
        const int64_t run = min_of(kRun, k - p);
        for (int64_t j = 0; j < w; j++) read_run(rows + j * kRun, b + j * b_col + p, 1, run);
        transpose_copy(to + p * TC, TC, rows, kRun, w, run);
      }
    }
    return;
  }
  // A width known at compile time unrolls the copies.
  if (w == TC) {
    for (int64_t p = 0; p < k; p++) read_run(to + p * TC, b + p * b_k, b_col, TC);
    return;
  }
  for (int64_t p = 0; p < k; p++) read_run(to + p * TC, b + p * b_k, b_col, w);
}

// ---- one row or one column ----

template <class T>
VT_INLINE T dot_run(const T *x, const T *y, int64_t n) {
  constexpr int L = kLanes<T>;
  vec<T> s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    s0 += load(x + i) * load(y + i);
    s1 += load(x + i + L) * load(y + i + L);
    s2 += load(x + i + 2 * L) * load(y + i + 2 * L);
    s3 += load(x + i + 3 * L) * load(y + i + 3 * L);
  }
  for (; i + L <= n; i += L) s0 += load(x + i) * load(y + i);
  T sum = sum_lanes<T>((s0 + s1) + (s2 + s3));
  for (; i < n; i++) sum += x[i] * y[i];
  return sum;
}

// The product of a row of S with contiguous x.
template <class S, class T>
inline T dot(const S *row, const T *x, int64_t n) {
  if constexpr (std::is_same<S, T>::value) {
    return dot_run(row, x, n);
  } else {
    constexpr int64_t kRun = 256;
    T room[kRun];
    T sum = T(0);
    for (int64_t i = 0; i < n; i += kRun) {
      const int64_t run = min_of(kRun, n - i);
      read_run(room, row + i, 1, run);
      sum += dot_run(room, x + i, run);
    }
    return sum;
  }
}

// At most this many rows of A are multiplied row by row, where B lies in columns: packing B would
// cost as much as the product.
constexpr int64_t kDotRows = 3;

// A has few rows, contiguous along k as the columns of B are.
template <class S>
bool gemm_dots(const GemmCall<S> &g) {
  using T = typename GemmCall<S>::T;
  Workspace frame;
  const T *x;
  if constexpr (std::is_same<S, T>::value) {
    x = g.a;
  } else {
    T *rows = frame.take<T>(g.m * g.k);
    if (!rows) return false;
    for (int64_t i = 0; i < g.m; i++) read_run(rows + i * g.k, g.a + i * g.a_row, 1, g.k);
    x = rows;
  }
  const int64_t x_row = std::is_same<S, T>::value ? g.a_row : g.k;
  constexpr int64_t kCols = 16;
  T sums[kCols];
  for (int64_t j = 0; j < g.n; j += kCols) {
    const int64_t w = min_of(kCols, g.n - j);
    for (int64_t i = 0; i < g.m; i++) {
      for (int64_t q = 0; q < w; q++) {
        sums[q] = dot(g.b + (j + q) * g.b_col, x + i * x_row, g.k);
      }
      write_sums(g, i, j, sums, w);
    }
  }
  return true;
}

// A has one row and the rows of B are contiguous: B is read once, in order.
template <class S>
void gemm_one_row(const GemmCall<S> &g) {
  using T = typename GemmCall<S>::T;
  constexpr int64_t kRun = 512;
  T sums[kRun];
  T room[4][std::is_same<S, T>::value ? 1 : kRun];
  for (int64_t j = 0; j < g.n; j += kRun) {
    const int64_t w = min_of(kRun, g.n - j);
    for (int64_t q = 0; q < w; q++) sums[q] = T(0);
    for (int64_t p = 0; p < g.k; p += 4) {
      const int64_t rows = min_of(int64_t(4), g.k - p);
      const T *y[4];
      T x[4];
      for (int64_t r = 0; r < 4; r++) {
        const int64_t at = p + min_of(r, rows - 1);
        const S *row = g.b + at * g.b_k + j;
        if constexpr (std::is_same<S, T>::value) {
          y[r] = row;
        } else {
          if (r < rows) read_run(room[r], row, 1, w);
          y[r] = room[r < rows ? r : rows - 1];
        }
        x[r] = static_cast<T>(g.a[at * g.a_k]);
      }
      const T *y0 = y[0], *y1 = y[1], *y2 = y[2], *y3 = y[3];
      if (rows == 4) {
#pragma omp simd
        for (int64_t q = 0; q < w; q++) {
          sums[q] += (x[0] * y0[q] + x[1] * y1[q]) + (x[2] * y2[q] + x[3] * y3[q]);
        }
      } else {
        for (int64_t r = 0; r < rows; r++) {
          const T xr = x[r], *yr = y[r];
#pragma omp simd
          for (int64_t q = 0; q < w; q++) sums[q] += xr * yr[q];
        }
      }
    }
    write_sums(g, 0, j, sums, w);
  }
}

// ---- tiles ----

// C = A B, or C += A B, into memory with room for n rounded up to whole vectors. Not inlined, so
// that all types that are summed in T share it.
template <class T>
VT_NOINLINE void multiply_into(int64_t m, int64_t n, int64_t k, const T *a, int64_t a_row,
                               int64_t a_k, const T *b, int64_t b_k, int64_t b_panel, T *c,
                               int64_t c_row, bool add) {
  multiply_tiles<T>(m, n, k, a, a_row, a_k, b, b_k, b_panel, [&](auto &tile, int64_t i, int64_t j) {
    T *to = c + i * c_row + j;
    if (add) {
      tile.each([&](vec<T> &x, int r, int q) { x += load(to + r * c_row + q * kLanes<T>); });
    }
    tile.store_to(to, c_row);
  });
}

// Rows and columns of the result of g from (i0, j0) on, finished: n columns, of which B must hold
// whole vectors. A and B are the blocks that belong to them.
template <class T>
VT_NOINLINE void multiply_finish(const GemmCall<T> &g, int64_t i0, int64_t m, int64_t j0, int64_t n,
                                 const T *a, int64_t a_row, int64_t a_k, const T *b, int64_t b_k,
                                 int64_t b_panel) {
  constexpr int L = kLanes<T>;
  const bool plain = !g.init && g.alpha == T(1);
  const bool whole = plain || (g.init && g.init_col == 1);
  multiply_tiles<T>(m, div_up(n, L) * L, g.k, a, a_row, a_k, b, b_k, b_panel,
                    [&](auto &tile, int64_t i, int64_t j) {
                      const int64_t width = min_of(n - j, int64_t(tile.cols));
                      i += i0;
                      j += j0;
                      T *c = g.c + i * g.c_row + j;
                      if (VT_LIKELY(whole && width == tile.cols)) {
                        if (!plain) {
                          const T *init = g.init + i * g.init_row + j;
                          const vec<T> alpha = splat(g.alpha), beta = splat(g.beta);
                          tile.each([&](vec<T> &x, int r, int q) {
                            x = alpha * x + beta * load(init + r * g.init_row + q * L);
                          });
                        }
                        tile.store_to(c, g.c_row);
                        return;
                      }
                      T sums[tile.rows * tile.cols];
                      tile.store_to(sums, tile.cols);
                      for (int r = 0; r < tile.rows; r++) {
                        write_sums(g, i + r, j, sums + r * tile.cols, width);
                      }
                    });
}

// B is read where it lies: for small products, where packing would not pay.
template <class T>
bool gemm_direct(const GemmCall<T> &g) {
  const int64_t whole = g.n - g.n % kLanes<T>;
  multiply_finish(g, 0, g.m, 0, whole, g.a, g.a_row, g.a_k, g.b, g.b_k, kTileCols<T>);
  if (whole == g.n) return true;
  Workspace frame;
  T *panel = frame.take<T>(g.k * kTileCols<T>);
  if (!panel) return false;
  pack_panel(panel, g.b + whole, g.b_k, int64_t(1), g.k, g.n - whole);
  multiply_finish(g, 0, g.m, whole, g.n - whole, g.a, g.a_row, g.a_k, panel, kTileCols<T>, 0);
  return true;
}

// Block sizes, in elements: a panel of B of kBlockK rows stays in the first-level cache, a packed
// block of B in the second. B is packed again for every kBlockM rows, A for every kBlockN columns.
constexpr int64_t kBlockK = 256, kBlockN = 128, kBlockM = 384, kPackRows = 48;

// Copies or converts rows x k of A, along whichever stride is one, and says where its elements lie.
template <class S, class T>
void pack_rows(T *to, const S *a, int64_t a_row, int64_t a_k, int64_t rows, int64_t k,
               int64_t &to_row, int64_t &to_k) {
  if (a_row == 1 && a_k != 1) {
    to_row = 1;
    to_k = rows;
    for (int64_t p = 0; p < k; p++) read_run(to + p * rows, a + p * a_k, 1, rows);
  } else {
    to_row = k;
    to_k = 1;
    for (int64_t r = 0; r < rows; r++) read_run(to + r * k, a + r * a_row, a_k, k);
  }
}

template <class S>
bool gemm_packed(const GemmCall<S> &g) {
  using T = typename GemmCall<S>::T;
  constexpr int TC = kTileCols<T>;
  constexpr bool kSame = std::is_same<S, T>::value;
  // Sums that are not in their final type or not over all of k wait in memory of their own.
  const bool split = g.k > kBlockK, partial = split || !kSame;
  // Rows of unit stride are read where they lie. Columns are not: they lie too far apart.
  const bool pack_a = !kSame || g.a_k != 1;
  const int64_t block_k = min_of(kBlockK, g.k);
  const int64_t block_n = min_of(kBlockN, div_up(g.n, TC) * TC);
  const int64_t block_m = min_of(kBlockM, g.m);
  const int64_t rows_at_once = pack_a ? min_of(kPackRows, block_m) : block_m;
  Workspace frame;
  T *packed_b = frame.take<T>(block_k * block_n);
  T *packed_a = pack_a ? frame.take<T>(rows_at_once * block_k) : nullptr;
  T *sums = partial ? frame.take<T>(block_m * block_n) : nullptr;
  if (!packed_b || (pack_a && !packed_a) || (partial && !sums)) return false;

  for (int64_t j0 = 0; j0 < g.n; j0 += kBlockN) {
    const int64_t n = min_of(kBlockN, g.n - j0), n_padded = div_up(n, kLanes<T>) * kLanes<T>;
    for (int64_t i0 = 0; i0 < g.m; i0 += kBlockM) {
      const int64_t m = min_of(kBlockM, g.m - i0);
      int64_t p0 = 0;
      do {
        const int64_t k = min_of(kBlockK, g.k - p0);
        const S *b = g.b + p0 * g.b_k + j0 * g.b_col;
        for (int64_t j = 0; j < n; j += TC) {
          pack_panel(packed_b + j * k, b + j * g.b_col, g.b_k, g.b_col, k,
                     min_of(int64_t(TC), n - j));
        }
        for (int64_t i = 0; i < m; i += rows_at_once) {
          const int64_t rows = min_of(rows_at_once, m - i);
          const S *block = g.a + (i0 + i) * g.a_row + p0 * g.a_k;
          const T *a = packed_a;
          int64_t a_row = g.a_row, a_k = g.a_k;
          if (pack_a) pack_rows(packed_a, block, g.a_row, g.a_k, rows, k, a_row, a_k);
          if constexpr (kSame) {
            if (!pack_a) a = block;
            if (!partial) {
              multiply_finish(g, i0 + i, rows, j0, n, a, a_row, a_k, packed_b, TC, TC * k);
              continue;
            }
          }
          multiply_into(rows, n_padded, k, a, a_row, a_k, packed_b, TC, TC * k, sums + i * block_n,
                        block_n, p0 > 0);
        }
        p0 += k;
      } while (p0 < g.k);
      if (partial) {
        for (int64_t i = 0; i < m; i++) write_sums(g, i0 + i, j0, sums + i * block_n, n);
      }
    }
  }
  return true;
}

// Elements of B up to which reading it where it lies is fast.
constexpr int64_t kDirectSize = 16384;

// B is packed unless it is small, or few rows would use what was packed.
template <class S>
bool gemm_own(const GemmCall<S> &g) {
  using T = typename GemmCall<S>::T;
  if (g.m <= kDotRows && g.a_k == 1 && g.b_k == 1 && g.b_col != 1) return gemm_dots(g);
  if (g.m == 1 && g.b_col == 1 && g.n * g.k > 256) {
    gemm_one_row(g);
    return true;
  }
  if constexpr (std::is_same<S, T>::value) {
    const bool columns_of_a = g.a_k != 1 && g.k > kPackRows;
    if (g.b_col == 1 && (g.m <= kPackRows || (g.n * g.k <= kDirectSize && !columns_of_a))) {
      return gemm_direct(g);
    }
  }
  return gemm_packed(g);
}

}  // namespace VT_NS

#endif
