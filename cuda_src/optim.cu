// Optimizer steps, gradient norm, scaling and casts over lists of tensors: one pass over the memory of all of
// them. The order of operations is PyTorch's; half types are computed in float and rounded once.
#include "vt/dtype.h"
#include "vt/loss_scale.h"
#include "vt/optim_args.h"

using namespace vt;

namespace {

constexpr int kThreads = 256;

// ---- what all of them share ----

__device__ double number(const DeviceNumber &n) {
  if (n.data == nullptr) return n.value;
  switch (n.dtype) {
    case VT_F32:
      return *static_cast<const float *>(n.data);
    case VT_F64:
      return *static_cast<const double *>(n.data);
    case VT_I32:
      return *static_cast<const int32_t *>(n.data);
    default:
      return static_cast<double>(*static_cast<const int64_t *>(n.data));
  }
}

// The part of a tensor that a block works on.
struct Part {
  int tensor;
  int64_t begin;
  int64_t n;
};

template <class Table>
__device__ __forceinline__ Part part_of_block(const Table &table) {
  const int32_t block = static_cast<int32_t>(blockIdx.x);
  int lo = 0, hi = table.count;
  while (hi - lo > 1) {
    const int middle = (lo + hi) / 2;
    if (table.start[middle] <= block) {
      lo = middle;
    } else {
      hi = middle;
    }
  }
  const int64_t begin = int64_t(block - table.start[lo]) * table.chunk;
  const int64_t left = table.numel[lo] - begin;
  return {lo, begin, left < table.chunk ? left : table.chunk};
}

// 16 bytes of elements, in the type they are computed in.
template <class T>
struct Pack {
  static constexpr int size = 16 / sizeof(T);
  acc_t<T> x[size];

  __device__ __forceinline__ void load(const T *from) {
    const uint4 raw = *reinterpret_cast<const uint4 *>(from);
    T elements[size];
    memcpy(elements, &raw, sizeof(raw));
#pragma unroll
    for (int j = 0; j < size; j++) x[j] = static_cast<acc_t<T>>(elements[j]);
  }
  __device__ __forceinline__ void store(T *to) const {
    T elements[size];
#pragma unroll
    for (int j = 0; j < size; j++) elements[j] = static_cast<T>(x[j]);
    uint4 raw;
    memcpy(&raw, elements, sizeof(raw));
    *reinterpret_cast<uint4 *>(to) = raw;
  }
};

// Updates the part of a block: f(x) changes x[k], element k of each list, in the compute type. The
// lists in `reads` are loaded, those in `writes` stored (bit masks).
template <class T, unsigned reads, unsigned writes, class Table, class F>
__device__ __forceinline__ void update(const Table &table, const F &f) {
  using A = acc_t<T>;
  constexpr int kLists = Table::lists, kPack = Pack<T>::size;
  const Part part = part_of_block(table);
  T *data[kLists];
  uintptr_t addresses = 0;
#pragma unroll
  for (int l = 0; l < kLists; l++) {
    if (!((reads | writes) >> l & 1u)) continue;
    data[l] = static_cast<T *>(table.data[l][part.tensor]) + part.begin;
    addresses |= reinterpret_cast<uintptr_t>(data[l]);
  }
  int64_t i = 0;
  if (addresses % 16 == 0) {
    const int64_t packed = part.n / kPack * kPack;
    for (i = int64_t(threadIdx.x) * kPack; i < packed; i += kThreads * kPack) {
      Pack<T> packs[kLists];
#pragma unroll
      for (int l = 0; l < kLists; l++) {
        if (reads >> l & 1u) packs[l].load(data[l] + i);
      }
#pragma unroll
      for (int j = 0; j < kPack; j++) {
        A x[kLists];
#pragma unroll
        for (int l = 0; l < kLists; l++) x[l] = reads >> l & 1u ? packs[l].x[j] : A(0);
        f(x);
#pragma unroll
        for (int l = 0; l < kLists; l++) packs[l].x[j] = x[l];
      }
#pragma unroll
      for (int l = 0; l < kLists; l++) {
        if (writes >> l & 1u) packs[l].store(data[l] + i);
      }
    }
    i = packed;
  }
  for (i += threadIdx.x; i < part.n; i += kThreads) {
    A x[kLists];
#pragma unroll
    for (int l = 0; l < kLists; l++) x[l] = reads >> l & 1u ? static_cast<A>(data[l][i]) : A(0);
    f(x);
#pragma unroll
    for (int l = 0; l < kLists; l++) {
      if (writes >> l & 1u) data[l][i] = static_cast<T>(x[l]);
    }
  }
}

__device__ __forceinline__ float square_root(float x) { return __fsqrt_rn(x); }
__device__ __forceinline__ double square_root(double x) { return __dsqrt_rn(x); }

// Whether a loss scaler found an infinite gradient: the step is left out then.
__device__ __forceinline__ bool left_out(const float *found_inf) {
  return found_inf != nullptr && *found_inf != 0.0f;
}

// ---- Adam ----

template <class A>
struct AdamSettings {
  A sign;      // of the gradient: -1 to maximize
  A l2, keep;  // weight decay: added to the gradient, or what is left of the parameter
  A beta2, rest2;
  A weight;  // of the way from the mean to the gradient
  bool far;  // which is more than half of it: the mean is then interpolated from the other end
  A step_size, correction, eps;
};

template <class A>
__device__ __forceinline__ AdamSettings<A> adam_settings(const AdamValues &v,
                                                         const AdamFactors &factors) {
  AdamSettings<A> s;
  s.sign = v.maximize ? A(-1) : A(1);
  s.l2 = v.decoupled ? A(0) : static_cast<A>(v.decay);
  s.keep = static_cast<A>(factors.keep);
  s.beta2 = static_cast<A>(v.beta2);
  s.rest2 = static_cast<A>(1.0 - v.beta2);
  const A rest1 = static_cast<A>(1.0 - v.beta1);
  s.far = !(rest1 < A(0.5));
  s.weight = s.far ? rest1 - A(1) : rest1;
  s.step_size = static_cast<A>(factors.step_size);
  s.correction = static_cast<A>(factors.correction);
  s.eps = static_cast<A>(v.eps);
  return s;
}

template <class T, class Args>
__device__ __forceinline__ void adam(const Args &args) {
  using A = acc_t<T>;
  const AdamValues &v = args.values;
  if (left_out(v.found_inf)) return;
  __shared__ AdamFactors shared;
  AdamFactors factors = args.factors;
  if (v.lr.data != nullptr || v.step.data != nullptr || v.skipped != nullptr) {
    if (threadIdx.x == 0) {
      const double skipped = v.skipped != nullptr ? static_cast<double>(*v.skipped) : 0.0;
      shared = adam_factors(v, number(v.lr), number(v.step) - skipped);
    }
    __syncthreads();
    factors = shared;
  }
  const AdamSettings<A> s = adam_settings<A>(v, factors);
  // 0: parameter, 1: gradient, 2: mean, 3: mean of squares
  update<T, 0b1111, 0b1101>(args.table, [&](A(&x)[4]) {
    // No product where there is no decay: 0 times an infinite parameter would be NaN.
    const A grad = s.l2 != A(0) ? x[1] * s.sign + x[0] * s.l2 : x[1] * s.sign;
    const A mean = (s.far ? grad : x[2]) + s.weight * (grad - x[2]);
    const A square = x[3] * s.beta2 + s.rest2 * grad * grad;
    x[2] = mean;
    x[3] = square;
    const A scale = square_root(square) * s.correction + s.eps;
    x[0] = x[0] * s.keep - s.step_size * mean / scale;
  });
}

// ---- SGD ----

template <class T, class Args>
__device__ __forceinline__ void sgd(const Args &args) {
  using A = acc_t<T>;
  if (left_out(args.found_inf)) return;
  const A lr = static_cast<A>(number(args.lr)), decay = static_cast<A>(args.decay);
  const A sign = args.maximize ? A(-1) : A(1);
  const auto gradient = [&](A g, A p) { return decay != A(0) ? g * sign + decay * p : g * sign; };
  // 0: parameter, 1: gradient, 2: buffer
  if (!args.has_momentum) {
    update<T, 0b011, 0b001>(args.table, [&](A(&x)[3]) { x[0] = x[0] - lr * gradient(x[1], x[0]); });
    return;
  }
  const A momentum = static_cast<A>(args.momentum);
  const A fresh = static_cast<A>(1.0 - args.dampening);
  // The direction is direct * gradient + through * buffer.
  const A direct = args.nesterov ? A(1) : A(0), through = args.nesterov ? momentum : A(1);
  if (args.first) {  // what the buffer holds is not looked at
    update<T, 0b011, 0b101>(args.table, [&](A(&x)[3]) {
      const A grad = gradient(x[1], x[0]);
      x[2] = grad;
      x[0] = x[0] - lr * (direct * grad + through * grad);
    });
  } else {
    update<T, 0b111, 0b101>(args.table, [&](A(&x)[3]) {
      const A grad = gradient(x[1], x[0]);
      const A moved = x[2] * momentum + grad * fresh;
      x[2] = moved;
      x[0] = x[0] - lr * (direct * grad + through * moved);
    });
  }
}

// ---- Muon's momentum ----

// On the way from a to b, from whichever end is nearer.
template <class A>
__device__ __forceinline__ A between(A a, A b, A weight) {
  return weight < A(0.5) ? a + weight * (b - a) : b - (b - a) * (A(1) - weight);
}

template <class T, class Args>
__device__ __forceinline__ void muon(const Args &args) {
  using A = acc_t<T>;
  const A momentum = static_cast<A>(args.momentum), fresh = static_cast<A>(1.0 - args.momentum);
  const bool nesterov = args.nesterov;
  // 0: gradient, 1: buffer, 2: update
  update<T, 0b011, 0b110>(args.table, [&](A(&x)[3]) {
    x[1] = static_cast<A>(static_cast<T>(between(x[1], x[0], fresh)));
    x[2] = nesterov ? between(x[0], x[1], momentum) : x[1];
  });
}

// ---- norm ----

__device__ __noinline__ double power_of(double x, double p) { return pow(x, p); }

struct Norm {
  int kind;
  double p;

  __device__ __forceinline__ double start() const {
    return kind == kNormSmallest ? static_cast<double>(INFINITY) : 0.0;
  }
  __device__ __forceinline__ double combine(double a, double b) const {
    switch (kind) {
      case kNormLargest:
        return a > b || a != a ? a : b;
      case kNormSmallest:
        return a < b || a != a ? a : b;
      default:
        return a + b;
    }
  }
  // In double: squares of large gradients overflow a float.
  __device__ __forceinline__ double add(double sum, double x) const {
    switch (kind) {
      case kNormSquares:
        return sum + x * x;
      case kNormSum:
        return sum + fabs(x);
      case kNormCount:
        return sum + (x != 0 ? 1 : 0);
      case kNormPower:
        return sum + power_of(fabs(x), p);
      default:
        return combine(fabs(x), sum);
    }
  }
  __device__ double finish(double x) const {
    return kind == kNormSquares ? sqrt(x) : kind == kNormPower ? power_of(x, 1.0 / p) : x;
  }

  // Over all threads of the block, in a fixed order; the result is thread 0's.
  template <int Threads>
  __device__ __forceinline__ double over_block(double sum) const {
    __shared__ double warps[Threads / 32];
#pragma unroll
    for (int d = 16; d > 0; d /= 2) sum = combine(__shfl_down_sync(~0u, sum, d), sum);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int w = 1; w < Threads / 32; w++) sum = combine(warps[w], sum);
    }
    return sum;
  }
};

template <class T, class Args>
__device__ __forceinline__ void norm_partial(const Args &args) {
  const Norm norm = {static_cast<int>(args.kind), args.p};
  double sum = norm.start();
  update<T, 0b1, 0>(args.table,
                    [&](acc_t<T>(&x)[1]) { sum = norm.add(sum, static_cast<double>(x[0])); });
  sum = norm.over_block<kThreads>(sum);
  if (threadIdx.x == 0) args.partial[blockIdx.x] = sum;
}

// ---- scaling ----

__device__ double element(const void *x, int64_t dtype) {
  switch (dtype) {
    case VT_F16:
      return static_cast<double>(static_cast<float>(*static_cast<const vt::half *>(x)));
    case VT_BF16:
      return static_cast<double>(static_cast<float>(*static_cast<const bfloat16 *>(x)));
    case VT_F32:
      return *static_cast<const float *>(x);
    default:
      return *static_cast<const double *>(x);
  }
}

template <class T, class Args>
__device__ __forceinline__ void scale(const Args &args) {
  const double factor = element(args.scale, args.scale_dtype);
  if (factor == 1.0) return;
  const acc_t<T> f = static_cast<acc_t<T>>(factor);
  update<T, 0b1, 0b1>(args.table, [&](acc_t<T>(&x)[1]) { x[0] *= f; });
}

template <class T, class Args>
__device__ __forceinline__ void unscale(const Args &args) {
  using A = acc_t<T>;
  const A factor = static_cast<A>(*static_cast<const float *>(args.scale));
  bool finite = true;
  update<T, 0b1, 0b1>(args.table, [&](A(&x)[1]) {
    finite = finite && fabs(x[0]) < static_cast<A>(INFINITY);
    x[0] *= factor;
  });
  if (!finite) *args.found_inf = 1.0f;
}

// ---- casts ----

template <class To, class From, class Args>
__device__ __forceinline__ void cast_to(const Args &args) {
  constexpr int kPack = Pack<To>::size, kHalf = Pack<From>::size;
  const Part part = part_of_block(args.table);
  const From *from = static_cast<const From *>(args.table.data[0][part.tensor]) + part.begin;
  To *to = static_cast<To *>(args.table.data[1][part.tensor]) + part.begin;
  int64_t i = 0;
  if ((reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) % 16 == 0) {
    const int64_t packed = part.n / kPack * kPack;
    for (i = int64_t(threadIdx.x) * kPack; i < packed; i += kThreads * kPack) {
      Pack<From> halves[kPack / kHalf];
      Pack<To> pack;
#pragma unroll
      for (int h = 0; h < kPack / kHalf; h++) halves[h].load(from + i + h * kHalf);
#pragma unroll
      for (int j = 0; j < kPack; j++) pack.x[j] = halves[j / kHalf].x[j % kHalf];
      pack.store(to + i);
    }
    i = packed;
  }
  for (i += threadIdx.x; i < part.n; i += kThreads) to[i] = static_cast<To>(from[i]);
}

template <class T, class Args>
__device__ __forceinline__ void cast(const Args &args) {
  if (args.to == VT_BF16) {
    cast_to<bfloat16, T>(args);
  } else {
    cast_to<vt::half, T>(args);
  }
}

constexpr int kFinishThreads = 1024;

}  // namespace

#define VT_OPTIM(NAME, F, SIZE, ARGS, SUFFIX, T)                    \
  __global__ void __launch_bounds__(kThreads)                       \
      NAME##_##SIZE##_##SUFFIX(const __grid_constant__ ARGS args) { \
    F<T>(args);                                                     \
  }
#define VT_OPTIM_SIZES(NAME, F, ARGS, SUFFIX, T)   \
  VT_OPTIM(NAME, F, small, ARGS##Small, SUFFIX, T) \
  VT_OPTIM(NAME, F, large, ARGS##Large, SUFFIX, T)
#define VT_OPTIM_DTYPES(NAME, F, ARGS)          \
  VT_OPTIM_SIZES(NAME, F, ARGS, f16, vt::half)  \
  VT_OPTIM_SIZES(NAME, F, ARGS, bf16, bfloat16) \
  VT_OPTIM_SIZES(NAME, F, ARGS, f32, float)     \
  VT_OPTIM_SIZES(NAME, F, ARGS, f64, double)

extern "C" {

VT_OPTIM_DTYPES(vt_adam, adam, Adam)
VT_OPTIM_DTYPES(vt_sgd, sgd, Sgd)
VT_OPTIM_DTYPES(vt_muon, muon, Muon)
VT_OPTIM_DTYPES(vt_norm, norm_partial, Norm)
VT_OPTIM_DTYPES(vt_scale, scale, Scale)
VT_OPTIM_DTYPES(vt_unscale, unscale, Scale)
VT_OPTIM_SIZES(vt_cast_list, cast, Cast, f32, float)

// One thread: halves the scale of a loss after a step that was left out, or doubles it after many in a
// row that were not; by the factors given.
__global__ void vt_update_scale(float *scale, int32_t *tracker, const float *found_inf,
                                double growth, double backoff, int64_t interval) {
  update_scale(scale, tracker, *found_inf, growth, backoff, interval);
}

// The norm from the parts, by one block of 1024 threads. `out` is float or double.
__global__ void __launch_bounds__(kFinishThreads)
    vt_norm_finish(void *out, int32_t out_double, const double *partial, int64_t n, int32_t kind,
                   double p) {
  const Norm norm = {kind, p};
  double sum = norm.start();
  for (int64_t i = threadIdx.x; i < n; i += kFinishThreads) sum = norm.combine(partial[i], sum);
  sum = norm.over_block<kFinishThreads>(sum);
  if (threadIdx.x != 0) return;
  const double result = n > 0 ? norm.finish(sum) : 0.0;
  if (out_double) {
    *static_cast<double *>(out) = result;
  } else {
    *static_cast<float *>(out) = static_cast<float>(result);
  }
}

}  // extern "C"
