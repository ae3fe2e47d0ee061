// Copies between any two layouts, in three forms: rows that both sides have without gaps, tiles
// where the sides run along different dimensions (a transposition), and single elements. Strides are
// in bytes here, so that short runs of elements can be moved as one wider element.
#include "vibetensor/cpu/kernels/copy.h"

#include "vibetensor/core/state.h"
#include "vibetensor/cpu/kernel_utils.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainBytes = 256 << 10;
constexpr int64_t kGrainElements = 32 << 10;

template <class T>
VT_INLINE T load_bytes(const char *from) {
  T x;
  memcpy(&x, from, sizeof(T));
  return x;
}
template <class T>
VT_INLINE void store_bytes(char *to, T x) {
  memcpy(to, &x, sizeof(T));
}

// Two innermost dimensions of a copy; the outer stride is that of dimension 1.
struct Plane {
  int64_t to0, from0, to1, from1;
};

// ---- transposition ----

template <int Size>
VT_INLINE __m128i interleave_low(__m128i a, __m128i b) {
  if constexpr (Size == 1) return _mm_unpacklo_epi8(a, b);
  if constexpr (Size == 2) return _mm_unpacklo_epi16(a, b);
  if constexpr (Size == 4) return _mm_unpacklo_epi32(a, b);
  return _mm_unpacklo_epi64(a, b);
}
template <int Size>
VT_INLINE __m128i interleave_high(__m128i a, __m128i b) {
  if constexpr (Size == 1) return _mm_unpackhi_epi8(a, b);
  if constexpr (Size == 2) return _mm_unpackhi_epi16(a, b);
  if constexpr (Size == 4) return _mm_unpackhi_epi32(a, b);
  return _mm_unpackhi_epi64(a, b);
}

// Transposes a square of 16 / sizeof(T) rows of 16 bytes. Interleaving the halves of the set of rows
// rotates the bits of (row, column) by one; done once per bit of a row number it swaps the two.
template <class T>
VT_INLINE void transpose_square(char *to, int64_t to_stride, const char *from,
                                int64_t from_stride) {
  constexpr int kRows = 16 / int(sizeof(T));
  __m128i rows[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) {
    rows[r] = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + r * from_stride));
  }
#pragma GCC unroll 4
  for (int step = 1; step < kRows; step *= 2) {
    __m128i mixed[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows / 2; r++) {
      mixed[2 * r] = interleave_low<sizeof(T)>(rows[r], rows[r + kRows / 2]);
      mixed[2 * r + 1] = interleave_high<sizeof(T)>(rows[r], rows[r + kRows / 2]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; r++) rows[r] = mixed[r];
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to + r * to_stride), rows[r]);
  }
}

template <class T>
constexpr int64_t kTile = sizeof(T) <= 4   ? 128
                          : sizeof(T) == 8 ? 64
                                           : 32;

// Fills buffer[j][i] = from[i][j] for i < n0, j < n1, where the elements of a row from[i] have no
// gaps.
template <class T>
void transpose_tile(T *buffer, const char *from, int64_t from0, int64_t n0, int64_t n1) {
  constexpr int64_t kSquare = 16 / sizeof(T), kRow = kTile<T> * sizeof(T);
  char *to = reinterpret_cast<char *>(buffer);
  int64_t i = 0;
  for (; i + kSquare <= n0; i += kSquare) {
    int64_t j = 0;
    for (; j + kSquare <= n1; j += kSquare) {
      transpose_square<T>(to + j * kRow + i * sizeof(T), kRow, from + i * from0 + j * sizeof(T),
                          from0);
    }
    for (; j < n1; j++) {
      for (int64_t k = i; k < i + kSquare; k++) {
        buffer[j * kTile<T> + k] = load_bytes<T>(from + k * from0 + j * sizeof(T));
      }
    }
  }
  for (; i < n0; i++) {
    for (int64_t j = 0; j < n1; j++) {
      buffer[j * kTile<T> + i] = load_bytes<T>(from + i * from0 + j * sizeof(T));
    }
  }
}

// Calls put(to, buffer, columns, rows) for tiles that went through a buffer transposed: reads and
// writes then both cover whole cache lines, whatever the strides are.
template <class T, class F>
VT_INLINE void for_tiles(char *to, const char *from, int64_t n0, int64_t n1, const Plane &s,
                         const F &put) {
  alignas(64) T buffer[kTile<T> * kTile<T>];
  for (int64_t j = 0; j < n1; j += kTile<T>) {
    const int64_t rows = min_of(kTile<T>, n1 - j);
    for (int64_t i = 0; i < n0; i += kTile<T>) {
      const int64_t columns = min_of(kTile<T>, n0 - i);
      transpose_tile<T>(buffer, from + i * s.from0 + j * s.from1, s.from0, columns, rows);
      put(to + i * s.to0 + j * s.to1, buffer, columns, rows);
    }
  }
}

// ---- planes of two dimensions ----

template <class T>
VT_INLINE void copy_strided(char *to, const char *from, int64_t n, int64_t to_step,
                            int64_t from_step) {
  for (int64_t i = 0; i < n; i++) {
    store_bytes(to + i * to_step, load_bytes<T>(from + i * from_step));
  }
}

template <class T>
struct SameType {
  static constexpr int64_t kSize = sizeof(T);

  void plane(char *to, const char *from, int64_t n0, int64_t n1, const Plane &s) const {
    if (s.to0 == kSize && s.from0 == kSize) {
      if (n0 * kSize >= 64) {
        for (int64_t j = 0; j < n1; j++) memcpy(to + j * s.to1, from + j * s.from1, n0 * kSize);
      } else {
        for (int64_t j = 0; j < n1; j++) {
          copy_strided<T>(to + j * s.to1, from + j * s.from1, n0, kSize, kSize);
        }
      }
    } else if (s.to0 == kSize && s.from0 != 0 && s.from1 == kSize && n0 >= 8 && n1 >= 8) {
      for_tiles<T>(to, from, n0, n1, s,
                   [&](char *tile, const T *buffer, int64_t columns, int64_t rows) {
                     for (int64_t j = 0; j < rows; j++) {
                       memcpy(tile + j * s.to1, buffer + j * kTile<T>, columns * kSize);
                     }
                   });
    } else if (s.to0 == kSize && s.from0 == 0) {
      for (int64_t j = 0; j < n1; j++) {
        fill_run(to + j * s.to1, n0 * kSize, Pattern(from + j * s.from1, kSize));
      }
    } else if (n0 < 8 && n1 > n0) {
      for (int64_t i = 0; i < n0; i++) {
        copy_strided<T>(to + i * s.to0, from + i * s.from0, n1, s.to1, s.from1);
      }
    } else {
      for (int64_t j = 0; j < n1; j++) {
        copy_strided<T>(to + j * s.to1, from + j * s.from1, n0, s.to0, s.from0);
      }
    }
  }
};

// T has the size of the source's elements.
template <class T>
struct Converting {
  vt_loop loop;
  int64_t to_size;

  void run(char *to, const char *from, int64_t n0, int64_t n1, const Plane &s) const {
    char *const ptrs[] = {to, const_cast<char *>(from)};
    const int64_t strides[] = {s.to0, s.from0, s.to1, s.from1};
    loop(ptrs, strides, n0, n1, nullptr);
  }

  void plane(char *to, const char *from, int64_t n0, int64_t n1, const Plane &s) const {
    constexpr int64_t kSize = sizeof(T);
    if (s.to0 == to_size && s.from1 == kSize && s.from0 != kSize && s.from0 != 0 && n0 >= 8 &&
        n1 >= 8) {
      for_tiles<T>(to, from, n0, n1, s,
                   [&](char *tile, const T *buffer, int64_t columns, int64_t rows) {
                     run(tile, reinterpret_cast<const char *>(buffer), columns, rows,
                         {to_size, kSize, s.to1, kTile<T> * kSize});
                   });
    } else if (s.to0 == to_size && s.from0 == kSize) {
      // Row by row: the loops know rows without gaps best.
      for (int64_t j = 0; j < n1; j++) run(to + j * s.to1, from + j * s.from1, n0, 1, s);
    } else {
      run(to, from, n0, n1, s);
    }
  }
};

// ---- any number of dimensions ----

// Cuts the copy into planes of the two innermost dimensions and shares them out. Operand 0 of the
// layout is the destination; strides are in bytes.
template <class Copy>
void copy_layout(const Layout<2> &l, char *to, const char *from, int64_t size, const Copy &copy) {
  const int64_t n0 = l.ndim > 0 ? l.sizes[0] : 1, to0 = inner_stride(l, 0);
  const int64_t from0 = inner_stride(l, 1);
  if (l.ndim <= 1) {
    const int64_t grain = to0 == size && from0 == size ? kGrainBytes / size : kGrainElements;
    parallel_for(n0, grain, [&](int64_t begin, int64_t end) {
      copy.plane(to + begin * to0, from + begin * from0, end - begin, 1, {to0, from0, 0, 0});
    });
    return;
  }
  // A layout of the dimensions from 1 on, to walk over by rows of dimension 0.
  Layout<2> rows;
  rows.ndim = l.ndim - 1;
  for (int d = 1; d < l.ndim; d++) {
    rows.sizes[d - 1] = l.sizes[d];
    for (int k = 0; k < 2; k++) rows.strides[k][d - 1] = l.strides[k][d];
  }
  const Plane plane = {to0, from0, l.strides[0][1], l.strides[1][1]};
  parallel_for(rows.numel(), div_up(kGrainElements, n0), [&](int64_t begin, int64_t end) {
    for_runs(rows, begin, end, [&](const int64_t *offset, int64_t count) {
      copy.plane(to + offset[0], from + offset[1], n0, count, plane);
    });
  });
}

void swap_dims(Layout<2> &l, int a, int b) {
  const int64_t size = l.sizes[a];
  l.sizes[a] = l.sizes[b];
  l.sizes[b] = size;
  for (int k = 0; k < 2; k++) {
    const int64_t stride = l.strides[k][a];
    l.strides[k][a] = l.strides[k][b];
    l.strides[k][b] = stride;
  }
}

// Drops an innermost run of elements that is as wide as a larger element.
bool widen(Layout<2> &l, int64_t *size) {
  if (l.ndim == 0 || l.strides[0][0] != *size || l.strides[1][0] != *size) return false;
  const int64_t wide = l.sizes[0] * *size;
  if (wide > 16 || (wide & (wide - 1)) != 0) return false;
  for (int d = 1; d < l.ndim; d++) {
    l.sizes[d - 1] = l.sizes[d];
    for (int k = 0; k < 2; k++) l.strides[k][d - 1] = l.strides[k][d];
  }
  l.ndim--;
  *size = wide;
  l.coalesce();
  return true;
}

}  // namespace

vt_status copy_array(const vt_array &from, const vt_array &to) {
  if (to.numel == 0) return VT_OK;
  const int64_t to_size = dtype_size(to.dtype), from_size = dtype_size(from.dtype);
  const bool same = to.dtype == from.dtype;
  if (same && from.contiguous && to.contiguous) {
    if (to.data == from.data) return VT_OK;
    parallel_for(to.numel * to_size, kGrainBytes, [&](int64_t begin, int64_t end) {
      memcpy(to.data + begin, from.data + begin, end - begin);
    });
    return VT_OK;
  }

  // Walk every dimension upwards in the destination, the smallest step innermost.
  char *to_data = to.data;
  const char *from_data = from.data;
  Layout<2> l;
  for (int d = to.ndim - 1; d >= 0; d--) {
    int64_t to_step = to.strides[d] * to_size, from_step = from.strides[d] * from_size;
    if (to_step < 0 || (to_step == 0 && from_step < 0)) {
      to_data += (to.sizes[d] - 1) * to_step;
      from_data += (to.sizes[d] - 1) * from_step;
      to_step = -to_step;
      from_step = -from_step;
    }
    l.push(to.sizes[d], to_step, from_step);
  }
  l.sort();
  l.coalesce();
  int64_t size = from_size;
  if (same && to_data == from_data) {
    bool identical = true;
    for (int d = 0; d < l.ndim; d++) identical &= l.strides[0][d] == l.strides[1][d];
    if (identical) return VT_OK;
  }
  if (same) widen(l, &size);
  // The dimension along which the source is densest comes next.
  int densest = 0;
  for (int d = 1; d < l.ndim; d++) {
    const int64_t step = llabs(l.strides[1][d]), best = llabs(l.strides[1][densest]);
    if (step > 0 && (step < best || best == 0)) densest = d;
  }
  if (densest > 1 && l.strides[1][0] != 0) swap_dims(l, 1, densest);

  if (same) {
    switch (size) {
      case 1:
        copy_layout(l, to_data, from_data, size, SameType<uint8_t>());
        break;
      case 2:
        copy_layout(l, to_data, from_data, size, SameType<uint16_t>());
        break;
      case 4:
        copy_layout(l, to_data, from_data, size, SameType<uint32_t>());
        break;
      case 8:
        copy_layout(l, to_data, from_data, size, SameType<uint64_t>());
        break;
      default:
        copy_layout(l, to_data, from_data, size, SameType<Bytes16>());
        break;
    }
    return VT_OK;
  }
  const vt_loop loop = vt_cpu_casts[to.dtype][from.dtype];
  if (loop == nullptr) return VT_ERROR_DTYPE;
  return dispatch_size(from.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    copy_layout(l, to_data, from_data, size, Converting<T>{loop, to_size});
  });
}

// from, to (same shape).
vt_status copy_cpu(const vt_array *a, const vt_value *, vt_context *) {
  return copy_array(a[0], a[1]);
}

}  // namespace VT_NS
