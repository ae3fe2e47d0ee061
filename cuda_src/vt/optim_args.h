// What the multi-tensor kernels of optim.cu get: one structure per launch, with the addresses of all
// tensors inside, so that no table has to be copied to the device. Two sizes: most models fit the 4 KB
// of parameters that launch fastest, the large one fills the 32,764 bytes that CUDA 12.1 allows.
#ifndef VT_OPTIM_ARGS_H
#define VT_OPTIM_ARGS_H

#include "vt/config.h"

namespace VT_NS {

// N tensors of one dtype, each with an address per list. Block b works on `chunk` elements of the last
// tensor k with start[k] <= b.
template <int Lists, int N>
struct TensorTable {
  static constexpr int lists = Lists, capacity = N;
  void *data[Lists][N];
  int64_t numel[N];
  int32_t start[N];
  int32_t count;
  int64_t chunk;  // a multiple of 1024
};

// A number that may live on the device, so that a captured graph sees it change.
struct DeviceNumber {
  const void *data;  // NULL: `value` counts
  double value;
  int64_t dtype;  // vt_dtype: float, double, int32 or int64
};

struct AdamValues {
  DeviceNumber lr, step;
  const float *found_inf;  // not NULL: where it is not zero, nothing happens
  const float *skipped;    // not NULL: how many of the steps that was so in
  double beta1, beta2, eps, decay;
  int32_t maximize, decoupled;
};

// What of Adam depends on learning rate and step.
struct AdamFactors {
  double step_size;   // lr / (1 - beta1^step)
  double correction;  // 1 / sqrt(1 - beta2^step)
  double keep;        // 1 - lr * decay, where the decay is decoupled
};

namespace detail {
// Never contracted, so that host and device agree to the bit: a captured step equals an eager one.
VT_HD double product(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}
VT_HD double root(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}
// x^n by squaring: the same products everywhere, which a library's pow does not promise.
VT_HD double power(double x, int64_t n) {
  double r = 1;
  for (; n > 0; n >>= 1) {
    if (n & 1) r = product(r, x);
    x = product(x, x);
  }
  return r;
}
}  // namespace detail

VT_HD AdamFactors adam_factors(const AdamValues &v, double lr, double step) {
  const int64_t n = int64_t(step);
  const double shrunk = v.decoupled ? detail::product(lr, v.decay) : 0.0;
  return {lr / (1.0 - detail::power(v.beta1, n)),
          1.0 / detail::root(1.0 - detail::power(v.beta2, n)), 1.0 - shrunk};
}

template <int N>
struct AdamArgs {
  using Table = TensorTable<4, N>;  // parameters, gradients, means, means of squares
  Table table;
  AdamValues values;
  AdamFactors factors;  // for numbers that the host knows
};

template <int N>
struct SgdArgs {
  using Table = TensorTable<3, N>;  // parameters, gradients, momentum buffers
  Table table;
  DeviceNumber lr;
  const float *found_inf;  // as Adam's
  double momentum, dampening, decay;
  int32_t nesterov, maximize, first, has_momentum;
};

template <int N>
struct MuonArgs {
  using Table = TensorTable<3, N>;  // gradients, momentum buffers, updates
  Table table;
  double momentum;
  int64_t nesterov;
};

enum NormKind { kNormCount, kNormSum, kNormSquares, kNormLargest, kNormSmallest, kNormPower };

template <int N>
struct NormArgs {
  using Table = TensorTable<1, N>;
  Table table;
  double *partial;  // one number per block
  double p;
  int64_t kind;  // NormKind
};

template <int N>
struct ScaleArgs {
  using Table = TensorTable<1, N>;
  Table table;
  const void *scale;
  int64_t scale_dtype;
  float *found_inf;  // not NULL: becomes 1 where an element is not finite
};

template <int N>
struct CastArgs {
  using Table = TensorTable<2, N>;  // from, to
  Table table;
  int64_t to;  // vt_dtype
};

using AdamSmall = AdamArgs<84>;
using AdamLarge = AdamArgs<736>;
using SgdSmall = SgdArgs<104>;
using SgdLarge = SgdArgs<896>;
using MuonSmall = MuonArgs<104>;
using MuonLarge = MuonArgs<896>;
using NormSmall = NormArgs<192>;
using NormLarge = NormArgs<1600>;
using ScaleSmall = ScaleArgs<192>;
using ScaleLarge = ScaleArgs<1600>;
using CastSmall = CastArgs<144>;
using CastLarge = CastArgs<1152>;
static_assert(sizeof(AdamSmall) <= 4096 && sizeof(SgdSmall) <= 4096 && sizeof(MuonSmall) <= 4096 &&
                  sizeof(NormSmall) <= 4096 && sizeof(CastSmall) <= 4096,
              "the small tables are for launches of up to 4 KB of parameters");
static_assert(sizeof(AdamLarge) <= 32764 && sizeof(SgdLarge) <= 32764 &&
                  sizeof(MuonLarge) <= 32764 && sizeof(NormLarge) <= 32764 &&
                  sizeof(ScaleLarge) <= 32764 && sizeof(CastLarge) <= 32764,
              "more parameters than a kernel can have");

}  // namespace VT_NS
#endif
