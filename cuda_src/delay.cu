// Keeps a stream busy, so that tests of order do not pass because everything happens to be done.
#include <stdint.h>

extern "C" __global__ void vt_delay(int64_t cycles) {
  const int64_t start = clock64();
  while (clock64() - start < cycles) {
  }
}
