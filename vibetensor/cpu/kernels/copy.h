// Copying between arrays of one shape: the engine behind copy_, contiguous, clone, to and cat.
#ifndef VT_CPU_COPY_H
#define VT_CPU_COPY_H

#include <emmintrin.h>
#include <string.h>

#include "vibetensor/types.h"

namespace VT_NS {

// 16 bytes of one element repeated; `size` divides 16.
struct Pattern {
  __m128i bytes;
  Pattern(const void *element, int64_t size) {
    char repeated[16];
    for (int64_t i = 0; i < 16; i += size) memcpy(repeated + i, element, size);
    memcpy(&bytes, repeated, 16);
  }
};

// Repeats the pattern over `count` bytes at any address.
inline void fill_run(char *to, int64_t count, const Pattern &pattern) {
  const __m128i bytes = pattern.bytes;
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i), bytes);
  if (i < count) memcpy(to + i, &bytes, count - i);
}

// Any strides and dtypes; in parallel where it pays. The arrays must not overlap partly.
vt_status copy_array(const vt_array &from, const vt_array &to);

}  // namespace VT_NS
#endif
