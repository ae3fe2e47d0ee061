// Fills a contiguous array with one value. A value is a bit pattern here, so the kernels differ by
// element size only: vt_fill_N serves every dtype of N bytes.
#include <stdint.h>

#include "vt/grid.h"

namespace {

// The pattern arrives as a kernel parameter, the low bytes first.
struct alignas(16) Bytes16 {
  uint64_t lo, hi;
};

template <class T>
__device__ void fill(T* out, T value, int64_t n) {
  vt::for_each_element(n, [=](int64_t i) { out[i] = value; });
}

}  // namespace

extern "C" {
__global__ void vt_fill_1(uint8_t* out, uint8_t value, int64_t n) { fill(out, value, n); }
__global__ void vt_fill_2(uint16_t* out, uint16_t value, int64_t n) { fill(out, value, n); }
__global__ void vt_fill_4(uint32_t* out, uint32_t value, int64_t n) { fill(out, value, n); }
__global__ void vt_fill_8(uint64_t* out, uint64_t value, int64_t n) { fill(out, value, n); }
__global__ void vt_fill_16(Bytes16* out, Bytes16 value, int64_t n) { fill(out, value, n); }
}
