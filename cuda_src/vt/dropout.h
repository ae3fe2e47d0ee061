// Dropout inside of other kernels: no mask is stored, the numbers of random.cu's dropout are drawn again
// wherever they are needed.
#ifndef VT_DROPOUT_H
#define VT_DROPOUT_H

#include "vt/philox.h"
#include "vt/philox_args.h"
#include "vt/random_math.h"

namespace VT_NS {

// Element i of an array in row-major order is kept if word i of the draw is at most last_kept.
struct Dropout {
  PhiloxArgs where;
  double scale;        // of what is kept
  uint32_t last_kept;  // means nothing unless some are kept
  int32_t some_kept;
  int32_t active;  // 0: nothing is dropped

#ifdef __CUDACC__
  template <class V>
  __device__ __forceinline__ V factor(uint32_t word) const {
    return some_kept && word <= last_kept ? static_cast<V>(scale) : V(0);
  }

  // Multiplies elements [first, first + N) by what the draw says; `first` is a multiple of N, and N
  // a power of two.
  template <class V, int N>
  __device__ __forceinline__ void apply(V (&x)[N], int64_t first) const {
    const PhiloxArgs w = where.resolved();
#pragma unroll
    for (int b = 0; b < (N + 3) / 4; b++) {
      const PhiloxBlock block = philox(w.seed, w.offset + static_cast<uint64_t>(first / 4 + b));
      if constexpr (N >= 4) {
#pragma unroll
        for (int j = 0; j < 4; j++) x[4 * b + j] *= factor<V>(block.word[j]);
      } else {
        const bool upper = first & 2, odd = first & 1;
        if constexpr (N == 2) {
          x[0] *= factor<V>(upper ? block.word[2] : block.word[0]);
          x[1] *= factor<V>(upper ? block.word[3] : block.word[1]);
        } else {
          x[0] *= factor<V>(upper ? (odd ? block.word[3] : block.word[2])
                                  : (odd ? block.word[1] : block.word[0]));
        }
      }
    }
  }
#endif
};

// With probability p an element is dropped.
inline Dropout make_dropout(double p, const PhiloxArgs &where) {
  const double keep = 1.0 - p;
  const uint64_t threshold = bernoulli_threshold(keep);
  return {where, keep == 0.0 ? 0.0 : 1.0 / keep, static_cast<uint32_t>(threshold - 1),
          threshold > 0, p > 0.0};
}

}  // namespace VT_NS
#endif
