// Random distributions and dropout, the same to the bit as the CPU's (vibetensor/cpu/kernels/random.cpp):
// one thread draws one block of vt/philox.h, four words, and turns it into two or four values.
// Compiled with -fmad=false, see vt/random_math.h.
#include "vt/attention_dropout.h"
#include "vt/dropout.h"
#include "vt/dtype.h"
#include "vt/index_error.h"
#include "vt/philox.h"
#include "vt/philox_args.h"
#include "vt/random_math.h"

using namespace vt;

namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ int64_t block_number() {
  return int64_t(blockIdx.x) * kThreads + threadIdx.x;
}

// Some elements that are stored together where the address allows.
template <class T, int N>
struct alignas(sizeof(T) * N) Group {
  T x[N];
};

// Stores values [begin, begin + N) of an array of n elements.
template <int N, class T>
__device__ __forceinline__ void store(T *to, int64_t begin, int64_t n, const T (&x)[N]) {
  if (begin + N <= n && reinterpret_cast<uintptr_t>(to) % sizeof(Group<T, N>) == 0) {
    Group<T, N> group;
#pragma unroll
    for (int j = 0; j < N; j++) group.x[j] = x[j];
    *reinterpret_cast<Group<T, N> *>(to + begin) = group;
  } else {
#pragma unroll
    for (int j = 0; j < N; j++) {
      if (begin + j < n) to[begin + j] = x[j];
    }
  }
}
template <int N, class T>
__device__ __forceinline__ void load(const T *from, int64_t begin, int64_t n, T (&x)[N]) {
  if (begin + N <= n && reinterpret_cast<uintptr_t>(from) % sizeof(Group<T, N>) == 0) {
    const Group<T, N> group = *reinterpret_cast<const Group<T, N> *>(from + begin);
#pragma unroll
    for (int j = 0; j < N; j++) x[j] = group.x[j];
  } else {
#pragma unroll
    for (int j = 0; j < N; j++) x[j] = begin + j < n ? from[begin + j] : T{};
  }
}

// Draws the block of this thread and stores fill(words)'s kPerBlock values.
template <int kPerBlock, class T, class F>
__device__ __forceinline__ void draw(T *out, int64_t n, PhiloxArgs where, const F &fill) {
  const int64_t block = block_number(), begin = block * kPerBlock;
  if (begin >= n) return;
  where = where.resolved();
  const PhiloxBlock words = philox(where.seed, where.offset + static_cast<uint64_t>(block));
  T x[kPerBlock];
  fill(words.word, x);
  store<kPerBlock>(out, begin, n, x);
}

// Real values per block of words.
template <class R>
constexpr int kReals = sizeof(R) == 8 ? VT_DRAW_64 : VT_DRAW_32;

// ---- uniform ----

template <class T>
__device__ __forceinline__ void uniform(T *out, int64_t n, acc_t<T> lo, acc_t<T> range,
                                        acc_t<T> last, PhiloxArgs where) {
  using R = acc_t<T>;
  draw<kReals<R>>(out, n, where, [&](const uint32_t (&words)[4], T(&x)[kReals<R>]) {
#pragma unroll
    for (int j = 0; j < kReals<R>; j++) {
      R u;
      if constexpr (sizeof(R) == 8) {
        u = uniform53(words[2 * j], words[2 * j + 1]) * range + lo;
      } else {
        u = uniform24(words[j]) * range + lo;
      }
      x[j] = static_cast<T>(u < last ? u : last);
    }
  });
}

// ---- normal ----

__device__ __forceinline__ SinCos<float> pair_of(const uint32_t *words, float) {
  return normal_pair(words[0], words[1]);
}
__device__ __forceinline__ SinCos<double> pair_of(const uint32_t *words, double) {
  return normal_pair(words[0], words[1], words[2], words[3]);
}

// `complex`: pairs of reals, of which only the first gets the mean, after the standard deviation.
template <class T>
__device__ __forceinline__ void normal(T *out, int64_t n, acc_t<T> mean, acc_t<T> std, bool complex,
                                       PhiloxArgs where) {
  using R = acc_t<T>;
  const R added = complex ? R(0) : mean;
  draw<kReals<R>>(out, n, where, [&](const uint32_t (&words)[4], T(&x)[kReals<R>]) {
#pragma unroll
    for (int j = 0; j < kReals<R>; j += 2) {
      const SinCos<R> z = pair_of(words + j, R());
      R first = z.cos * std + added;
      if (complex) first += mean;
      x[j] = static_cast<T>(first);
      x[j + 1] = static_cast<T>(z.sin * std + added);
    }
  });
}

// ---- bernoulli, integers ----

// Words up to `last` become `yes`; where no word may, `yes` is 0.
template <class T>
__device__ __forceinline__ void bernoulli(T *out, int64_t n, uint32_t last, int32_t yes,
                                          PhiloxArgs where) {
  using A = acc_t<T>;
  draw<VT_DRAW_32>(out, n, where, [&](const uint32_t (&words)[4], T(&x)[4]) {
#pragma unroll
    for (int j = 0; j < 4; j++) x[j] = static_cast<T>(static_cast<A>(words[j] <= last ? yes : 0));
  });
}

template <class T>
__device__ __forceinline__ void randint(T *out, int64_t n, uint64_t low, uint64_t range,
                                        PhiloxArgs where) {
  using A = acc_t<T>;
  draw<VT_DRAW_64>(out, n, where, [&](const uint32_t (&words)[4], T(&x)[2]) {
#pragma unroll
    for (int j = 0; j < 2; j++) {
      const uint64_t u = uniform_below(words[2 * j], words[2 * j + 1], range);
      x[j] = static_cast<T>(static_cast<A>(static_cast<int64_t>(low + u)));
    }
  });
}

// An element of a real dtype from 0 or 1, stored by a number of the dtype: the outcome of a draw is a
// byte, so that this does not need a kernel per pair of dtypes.
__device__ __forceinline__ void store_bit(void *out, int64_t i, int32_t dtype, bool bit) {
  switch (dtype) {
    case VT_BOOL:
    case VT_U8:
    case VT_I8:
      static_cast<uint8_t *>(out)[i] = bit;
      break;
    case VT_I16:
      static_cast<int16_t *>(out)[i] = bit;
      break;
    case VT_I32:
      static_cast<int32_t *>(out)[i] = bit;
      break;
    case VT_I64:
      static_cast<int64_t *>(out)[i] = bit;
      break;
    case VT_F16:
      static_cast<uint16_t *>(out)[i] = bit ? 0x3c00u : 0u;
      break;
    case VT_BF16:
      static_cast<uint16_t *>(out)[i] = bit ? 0x3f80u : 0u;
      break;
    case VT_F32:
      static_cast<float *>(out)[i] = bit ? 1.0f : 0.0f;
      break;
    default:
      static_cast<double *>(out)[i] = bit ? 1.0 : 0.0;
  }
}

template <class P>
__device__ __forceinline__ void bernoulli_tensor(const P *p, void *out, int64_t n, int32_t dtype,
                                                 PhiloxArgs where, const vt_error_sink &sink) {
  using A = acc_t<P>;
  const int64_t block = block_number(), begin = 4 * block;
  if (begin >= n) return;
  where = where.resolved();
  const PhiloxBlock words = philox(where.seed, where.offset + static_cast<uint64_t>(block));
  P probabilities[4];
  load(p, begin, n, probabilities);
#pragma unroll
  for (int j = 0; j < 4; j++) {
    if (begin + j >= n) break;
    const A x = static_cast<A>(probabilities[j]);
    if (!(x >= A(0) && x <= A(1))) sink.raise(begin + j, n, VT_RAISED_PROBABILITY);
    store_bit(out, begin + j, dtype, static_cast<A>(uniform24(words.word[j])) < x);
  }
}

// ---- dropout ----

// out = residual + input * mask * scale: a product, as in the composite form, so that a dropped NaN stays one.
// Without a residual (NULL) nothing is added. R, the type of residual and output, may be wider than T.
template <class T, class R>
__device__ __forceinline__ void dropout(const T *input, const R *residual, R *out, int64_t n,
                                        const Dropout &d) {
  using A = acc_t<R>;
  const int64_t begin = 4 * block_number();
  if (begin >= n) return;
  T x[4];
  R r[4];
  A y[4];
  load(input, begin, n, x);
  if (residual) load(residual, begin, n, r);
#pragma unroll
  for (int j = 0; j < 4; j++) y[j] = static_cast<A>(static_cast<acc_t<T>>(x[j]));
  if (d.active) d.apply<A, 4>(y, begin);
#pragma unroll
  for (int j = 0; j < 4; j++) {
    r[j] = static_cast<R>(residual ? static_cast<A>(r[j]) + y[j] : y[j]);
  }
  store(out, begin, n, r);
}

// ---- the dropout of attention ----

// out (rows = heads * queries, keys): what it multiplies the weights by. A thread writes the keys that
// share a block of bits.
template <class T>
__device__ __forceinline__ void attention_dropout(T *out, int64_t rows, int64_t queries,
                                                  int64_t keys, uint32_t threshold, T scale,
                                                  PhiloxArgs where) {
  const int64_t groups = (keys + kDropoutPeriod - 1) / kDropoutPeriod * 8, thread = block_number();
  const int64_t row = thread / groups, group = thread % groups;
  if (row >= rows) return;
  where = where.resolved();
  const int64_t first = group / 8 * kDropoutPeriod + group % 8;
  const PhiloxBlock bits = attention_bits(where.seed, where.offset, uint64_t(row / queries),
                                          uint32_t(row % queries), uint32_t(first));
  for (int piece = 0; piece < kDropoutPieces; piece++) {
    const int64_t key = first + 8 * piece;
    if (key < keys) out[row * keys + key] = attention_piece(bits, piece) < threshold ? scale : T(0);
  }
}

}  // namespace

#define VT_KERNEL __global__ void __launch_bounds__(kThreads)

#define VT_DROPOUT(SUFFIX, T, R)                                                      \
  VT_KERNEL vt_dropout_##SUFFIX(const T *input, const R *residual, R *out, int64_t n, \
                                const __grid_constant__ Dropout d) {                  \
    dropout<T, R>(input, residual, out, n, d);                                        \
  }

#define VT_FLOATING(SUFFIX, T, A)                                                             \
  VT_KERNEL vt_uniform_##SUFFIX(T *out, int64_t n, A lo, A range, A last, PhiloxArgs where) { \
    uniform<T>(out, n, lo, range, last, where);                                               \
  }                                                                                           \
  VT_KERNEL vt_normal_##SUFFIX(T *out, int64_t n, A mean, A std, int32_t complex,             \
                               PhiloxArgs where) {                                            \
    normal<T>(out, n, mean, std, complex != 0, where);                                        \
  }                                                                                           \
  VT_KERNEL vt_bernoulli_tensor_##SUFFIX(const T *p, void *out, int64_t n, int32_t dtype,     \
                                         PhiloxArgs where, vt_error_sink sink) {              \
    bernoulli_tensor<T>(p, out, n, dtype, where, sink);                                       \
  }                                                                                           \
  VT_DROPOUT(SUFFIX, T, T)

#define VT_REAL(SUFFIX, T)                                                       \
  VT_KERNEL vt_bernoulli_##SUFFIX(T *out, int64_t n, uint32_t last, int32_t yes, \
                                  PhiloxArgs where) {                            \
    bernoulli<T>(out, n, last, yes, where);                                      \
  }                                                                              \
  VT_KERNEL vt_randint_##SUFFIX(T *out, int64_t n, uint64_t low, uint64_t range, \
                                PhiloxArgs where) {                              \
    randint<T>(out, n, low, range, where);                                       \
  }

extern "C" {

VT_FLOATING(f16, vt::half, float)
VT_FLOATING(bf16, bfloat16, float)
VT_FLOATING(f32, float, float)
VT_FLOATING(f64, double, double)
VT_DROPOUT(f16_f32, vt::half, float)
VT_DROPOUT(bf16_f32, bfloat16, float)

VT_KERNEL vt_attention_dropout_f32(float *out, int64_t rows, int64_t queries, int64_t keys,
                                   uint32_t threshold, float scale, PhiloxArgs where) {
  attention_dropout(out, rows, queries, keys, threshold, scale, where);
}
VT_KERNEL vt_attention_dropout_f64(double *out, int64_t rows, int64_t queries, int64_t keys,
                                   uint32_t threshold, double scale, PhiloxArgs where) {
  attention_dropout(out, rows, queries, keys, threshold, scale, where);
}

VT_REAL(bool, bool)
VT_REAL(u8, uint8_t)
VT_REAL(i8, int8_t)
VT_REAL(i16, int16_t)
VT_REAL(i32, int32_t)
VT_REAL(i64, int64_t)
VT_REAL(f16, vt::half)
VT_REAL(bf16, bfloat16)
VT_REAL(f32, float)
VT_REAL(f64, double)

}  // extern "C"
