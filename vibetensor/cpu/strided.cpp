#include "vibetensor/cpu/strided.h"

#include <string.h>

#include "vibetensor/core/iter.h"

namespace {

struct Wide {
  uint64_t part[2];
};

struct Shape {
  int64_t cols, rows;
};

int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

// Copies between a strided tile and a row-major buffer, walking the strided side in the order that
// stays within cache lines.
template <class T, bool GATHER>
void copy_tile(char *buffer, char *strided, int64_t s0, int64_t s1, Shape shape) {
  T *b = reinterpret_cast<T *>(buffer);
  auto move = [](T *to, char *from) {
    if (GATHER) {
      memcpy(to, from, sizeof(T));
    } else {
      memcpy(from, to, sizeof(T));
    }
  };
  if (shape.rows > 1 && magnitude(s1) < magnitude(s0)) {
    for (int64_t i = 0; i < shape.cols; i++) {
      for (int64_t j = 0; j < shape.rows; j++) {
        move(b + j * shape.cols + i, strided + i * s0 + j * s1);
      }
    }
    return;
  }
  for (int64_t j = 0; j < shape.rows; j++, b += shape.cols, strided += s1) {
    for (int64_t i = 0; i < shape.cols; i++) move(b + i, strided + i * s0);
  }
}

template <class T>
void copy_tile(bool gather, char *buffer, char *strided, int64_t s0, int64_t s1, Shape shape) {
  if (s0 == int64_t(sizeof(T))) {
    int64_t bytes = shape.cols * s0;
    for (int64_t j = 0; j < shape.rows; j++, buffer += bytes, strided += s1) {
      memcpy(gather ? buffer : strided, gather ? strided : buffer, bytes);
    }
  } else if (gather && s0 == 0) {
    for (int64_t j = 0; j < shape.rows; j++, strided += s1) {
      T value;
      memcpy(&value, strided, sizeof(T));
      T *b = reinterpret_cast<T *>(buffer) + j * shape.cols;
      for (int64_t i = 0; i < shape.cols; i++) b[i] = value;
    }
  } else if (gather) {
    copy_tile<T, true>(buffer, strided, s0, s1, shape);
  } else {
    copy_tile<T, false>(buffer, strided, s0, s1, shape);
  }
}

void copy_tile(int itemsize, bool gather, char *buffer, char *strided, int64_t s0, int64_t s1,
               Shape shape) {
  switch (itemsize) {
    case 1:
      return copy_tile<uint8_t>(gather, buffer, strided, s0, s1, shape);
    case 2:
      return copy_tile<uint16_t>(gather, buffer, strided, s0, s1, shape);
    case 4:
      return copy_tile<uint32_t>(gather, buffer, strided, s0, s1, shape);
    case 8:
      return copy_tile<uint64_t>(gather, buffer, strided, s0, s1, shape);
    default:
      return copy_tile<Wide>(gather, buffer, strided, s0, s1, shape);
  }
}

// Whole rows where they are short, square-ish where an operand runs across the rows.
Shape tile_shape(int nptrs, const int64_t *strides, int64_t n0, int64_t n1) {
  constexpr int64_t across = 32;
  bool transposed = false;
  if (n1 > 1) {
    for (int k = 0; k < nptrs; k++) {
      int64_t s0 = magnitude(strides[k]), s1 = magnitude(strides[nptrs + k]);
      transposed |= s1 != 0 && s1 < s0;
    }
  }
  int64_t cols = transposed ? across : int64_t(VT_TILE);
  cols = n0 < cols ? n0 : cols;
  int64_t rows = VT_TILE / cols;
  return {cols, n1 < rows ? n1 : rows};
}

}  // namespace

void vt_cpu_run_strided(vt_run run, int nptrs, const uint8_t *itemsizes, char *const *ptrs,
                        const int64_t *strides, int64_t n0, int64_t n1, const void *params) {
  if (n0 <= 0 || n1 <= 0) return;
  alignas(64) char buffers[VT_MAX_OPERANDS][VT_TILE * sizeof(Wide)];
  enum Access { IN_PLACE, CONSTANT, COPIED };
  Access access[VT_MAX_OPERANDS];
  char *args[VT_MAX_OPERANDS];
  const int64_t *outer = strides + nptrs;
  Shape tile = tile_shape(nptrs, strides, n0, n1);
  for (int k = 0; k < nptrs; k++) {
    int64_t s1 = n1 > 1 ? outer[k] : 0;
    bool joined = tile.rows == 1 || (tile.cols == n0 && s1 == n0 * itemsizes[k]);
    args[k] = buffers[k];
    if ((strides[k] == itemsizes[k] || (n0 == 1 && tile.rows == 1)) && joined) {
      access[k] = IN_PLACE;
    } else if (k > 0 && s1 == 0 && (strides[k] == 0 || tile.cols == n0)) {
      access[k] = CONSTANT;  // every tile sees the same values
      copy_tile(itemsizes[k], true, buffers[k], ptrs[k], strides[k], 0, tile);
    } else {
      access[k] = COPIED;
    }
  }
  for (int64_t j = 0; j < n1; j += tile.rows) {
    for (int64_t i = 0; i < n0; i += tile.cols) {
      Shape shape = {n0 - i < tile.cols ? n0 - i : tile.cols,
                     n1 - j < tile.rows ? n1 - j : tile.rows};
      for (int k = 0; k < nptrs; k++) {
        if (access[k] == CONSTANT) continue;
        int64_t s1 = n1 > 1 ? outer[k] : 0;
        char *at = ptrs[k] + i * strides[k] + j * s1;
        if (access[k] == IN_PLACE) {
          args[k] = at;
        } else if (k > 0) {
          copy_tile(itemsizes[k], true, buffers[k], at, strides[k], s1, shape);
        }
      }
      run(args, shape.cols * shape.rows, params);
      if (access[0] == COPIED) {
        char *at = ptrs[0] + i * strides[0] + j * (n1 > 1 ? outer[0] : 0);
        copy_tile(itemsizes[0], false, buffers[0], at, strides[0], n1 > 1 ? outer[0] : 0, shape);
      }
    }
  }
}
