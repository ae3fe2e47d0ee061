// The innermost product of matrices: a tile of the result held in registers.
//
// A is read one element at a time and spread over a vector, so any strides do; B is read in whole
// vectors along its rows. At six rows by two vectors the tile takes twelve registers, enough to
// keep two multiply-add units busy, and reads eight values per twelve multiply-adds.
#ifndef VT_CPU_MICROKERNEL_H
#define VT_CPU_MICROKERNEL_H

#include "vibetensor/cpu/kernels/simd.h"

namespace VT_NS {

constexpr int kTileRows = 6;
constexpr int kTileVecs = 2;
// Columns of a full tile.
template <class T>
constexpr int kTileCols = kTileVecs * kLanes<T>;

// Rows x Vecs vectors, each row of which is consecutive columns. Unrolled loops only: an index
// known at compile time is what keeps it in registers.
template <class T, int Rows, int Vecs>
struct Tile {
  static constexpr int rows = Rows, cols = Vecs * kLanes<T>;
  vec<T> v[Rows][Vecs];

  template <class F>
  VT_INLINE void each(const F &f) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
#pragma GCC unroll 16
      for (int j = 0; j < Vecs; j++) f(v[i][j], i, j);
    }
  }

  VT_INLINE void clear() {
    each([](vec<T> &x, int, int) { x = vec<T>{}; });
  }

  // Adds the product of A (Rows x k) and B (k x Vecs vectors).
  VT_INLINE void add_product(int64_t k, const T *a, int64_t a_row, int64_t a_k, const T *b,
                             int64_t b_k) {
#pragma GCC unroll 1
    for (; k > 0; k--) {
      vec<T> row[Vecs];
#pragma GCC unroll 16
      for (int j = 0; j < Vecs; j++) row[j] = load(b + j * kLanes<T>);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; i++) {
        const vec<T> x = splat(a[i * a_row]);
#pragma GCC unroll 16
        for (int j = 0; j < Vecs; j++) v[i][j] += x * row[j];
      }
      a += a_k;
      b += b_k;
    }
  }

  VT_INLINE void store_to(T *c, int64_t c_row) {
    each([&](vec<T> &x, int i, int j) { store(c + i * c_row + j * kLanes<T>, x); });
  }
};

template <int N>
using Int = std::integral_constant<int, N>;

// Calls f(Int<height>{}, first row) for tiles that cover m rows, all of nearly the same height: a
// tile of one row costs as many loads as one of six.
template <class F>
VT_INLINE void for_row_tiles(int64_t m, const F &f) {
  if (m <= 0) return;
  const int64_t tiles = div_up(m, kTileRows);
  const int64_t height = m / tiles;
  int64_t higher = m - tiles * height; /* tiles of one row more, which come first */
  int64_t i = 0;
  while (i < m) {
    const int64_t h = height + (higher-- > 0);
    switch (h) {
      case 6:
        f(Int<6>{}, i);
        break;
      case 5:
        f(Int<5>{}, i);
        break;
      case 4:
        f(Int<4>{}, i);
        break;
      case 3:
        f(Int<3>{}, i);
        break;
      case 2:
        f(Int<2>{}, i);
        break;
      default:
        f(Int<1>{}, i);
        break;
    }
    i += h;
  }
}

// Tiles over an m x n product whose B has n readable columns, n a multiple of the vector: calls
// f(tile, first row, first column) with each finished tile. `b_panel` is the distance from one
// group of kTileCols columns to the next: kTileCols when B is an ordinary matrix.
template <class T, class F>
VT_INLINE void multiply_tiles(int64_t m, int64_t n, int64_t k, const T *a, int64_t a_row,
                              int64_t a_k, const T *b, int64_t b_k, int64_t b_panel, const F &f) {
  int64_t j = 0;
  for (; j + kTileCols<T> <= n; j += kTileCols<T>, b += b_panel) {
    for_row_tiles(m, [&](auto rows, int64_t i) {
      Tile<T, decltype(rows)::value, kTileVecs> tile;
      tile.clear();
      tile.add_product(k, a + i * a_row, a_row, a_k, b, b_k);
      f(tile, i, j);
    });
  }
  if (j < n) {
    for_row_tiles(m, [&](auto rows, int64_t i) {
      Tile<T, decltype(rows)::value, 1> tile;
      tile.clear();
      tile.add_product(k, a + i * a_row, a_row, a_k, b, b_k);
      f(tile, i, j);
    });
  }
}

}  // namespace VT_NS

#endif
