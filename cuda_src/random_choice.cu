// Random permutations and weighted choices, the same as the CPU's to the bit: a permutation sorts random
// keys, and weights are summed as integers, so that the order of additions does not matter. Compiled
// with -fmad=false, see vt/random_math.h.
#include "vt/dtype.h"
#include "vt/index_error.h"
#include "vt/philox.h"
#include "vt/philox_args.h"
#include "vt/random_math.h"

using namespace vt;

namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 512, kRowWarps = kRowThreads / 32;

__device__ __forceinline__ int64_t thread_number() {
  return int64_t(blockIdx.x) * kThreads + threadIdx.x;
}

__device__ __forceinline__ uint64_t uniform_at(const PhiloxArgs &where, int64_t element,
                                               uint64_t range) {
  const PhiloxBlock block = philox(where.seed, where.offset + static_cast<uint64_t>(element / 2));
  const int word = 2 * static_cast<int>(element % 2);
  return uniform_below(word ? block.word[2] : block.word[0], word ? block.word[3] : block.word[1],
                       range);
}

// The number of bits of the numbers below n.
__device__ __forceinline__ int bits_below(int64_t n) { return n <= 1 ? 0 : 64 - __clzll(n - 1); }

// ---- over the threads of a block ----

template <class A>
__device__ __forceinline__ A largest_of_block(A x) {
  __shared__ A warps[kRowWarps];
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const A other = __shfl_xor_sync(~0u, x, d);
    x = other > x ? other : x;
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  x = warps[0];
  for (int w = 1; w < kRowWarps; w++) x = warps[w] > x ? warps[w] : x;
  return x;
}

// The sum of x up to and with this thread; the sum over all comes back in `total`.
__device__ __forceinline__ uint64_t sum_up_to(uint64_t x, uint64_t *total) {
  __shared__ uint64_t warps[kRowWarps];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  uint64_t sum = x;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const uint64_t other = __shfl_up_sync(~0u, sum, d);
    if (lane >= d) sum += other;
  }
  __syncthreads();  // of the call before, all have read
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  uint64_t before = 0, all = 0;
#pragma unroll
  for (int w = 0; w < kRowWarps; w++) {
    if (w == warp) before = all;
    all += warps[w];
  }
  *total = all;
  return before + sum;
}

// ---- weights ----

// Weights as integers whose sum stays below 2^63: the largest gets as many bits as that allows.
struct IntegerScale {
  double first, second;  // their product may be out of range

  __device__ __forceinline__ IntegerScale(double largest, int64_t n) {
    int exponent;
    frexp(largest, &exponent);
    const int shift = 63 - bits_below(n) - exponent;
    first = ldexp(1.0, shift / 2);
    second = ldexp(1.0, shift - shift / 2);
  }
  __device__ __forceinline__ uint64_t operator()(double x) const {
    return static_cast<uint64_t>(static_cast<int64_t>(x * first * second));
  }
};

// The largest weight of a row. False: the row is no distribution, which is reported.
template <class P>
__device__ __forceinline__ bool check_row(const P *weights, int64_t n, const vt_error_sink &sink,
                                          acc_t<P> *largest) {
  using A = acc_t<P>;
  A most = 0;
  int invalid = 0;
  for (int64_t i = threadIdx.x; i < n; i += kRowThreads) {
    const A x = static_cast<A>(weights[i]);
    invalid |= !(x >= A(0)) | !(x - x == A(0));  // negative or nan, inf
    most = x > most ? x : most;
  }
  invalid = __syncthreads_or(invalid);
  *largest = largest_of_block(most);
  if (!invalid && *largest != A(0)) return true;
  if (threadIdx.x == 0) {
    sink.raise(blockIdx.x, n, invalid ? VT_RAISED_WEIGHTS_INVALID : VT_RAISED_WEIGHTS_ZERO);
  }
  return false;
}

template <class P>
__device__ __forceinline__ void check_weights(const P *weights, int64_t n,
                                              const vt_error_sink &sink) {
  acc_t<P> largest;
  check_row(weights + int64_t(blockIdx.x) * n, n, sink, &largest);
}

// One choice per row: where the running sum of the weights passes a uniform integer below the total.
template <class P>
__device__ __forceinline__ void choose_one(const P *weights, int64_t n, int64_t *out,
                                           int64_t row_stride, PhiloxArgs where,
                                           const vt_error_sink &sink) {
  __shared__ uint64_t first_found;
  const int64_t row = blockIdx.x;
  weights += row * n;
  acc_t<P> largest;
  if (!check_row(weights, n, sink, &largest)) {
    if (threadIdx.x == 0) out[row * row_stride] = 0;
    return;
  }
  const IntegerScale scale(static_cast<double>(largest), n);
  uint64_t own = 0, total;
  for (int64_t i = threadIdx.x; i < n; i += kRowThreads) {
    own += scale(static_cast<double>(static_cast<acc_t<P>>(weights[i])));
  }
  sum_up_to(own, &total);
  const uint64_t target = uniform_at(where.resolved(), row, total);
  uint64_t before = 0;
  for (int64_t start = 0; start < n; start += kRowThreads) {
    const int64_t i = start + threadIdx.x;
    const uint64_t weight =
        i < n ? scale(static_cast<double>(static_cast<acc_t<P>>(weights[i]))) : 0;
    uint64_t all;
    const uint64_t sum = before + sum_up_to(weight, &all);
    // Exactly one element of the row is the first whose sum is above the target.
    if (sum > target && sum - weight <= target) first_found = static_cast<uint64_t>(i);
    before += all;
    if (before > target) break;  // for all threads alike
  }
  __syncthreads();
  if (threadIdx.x == 0) out[row * row_stride] = static_cast<int64_t>(first_found);
}

// The running sums of a row's weights; all zero where the row is no distribution.
template <class P>
__device__ __forceinline__ void sum_weights(const P *weights, int64_t n, uint64_t *sums,
                                            const vt_error_sink &sink) {
  weights += int64_t(blockIdx.x) * n;
  sums += int64_t(blockIdx.x) * n;
  acc_t<P> largest;
  if (!check_row(weights, n, sink, &largest)) {
    for (int64_t i = threadIdx.x; i < n; i += kRowThreads) sums[i] = 0;
    return;
  }
  const IntegerScale scale(static_cast<double>(largest), n);
  uint64_t before = 0;
  for (int64_t start = 0; start < n; start += kRowThreads) {
    const int64_t i = start + threadIdx.x;
    const uint64_t weight =
        i < n ? scale(static_cast<double>(static_cast<acc_t<P>>(weights[i]))) : 0;
    uint64_t all;
    const uint64_t sum = before + sum_up_to(weight, &all);
    if (i < n) sums[i] = sum;
    before += all;
  }
}

// When each of `count` processes with these rates arrives: an exponential number over the rate.
template <class P>
__device__ __forceinline__ void arrival_times(const P *weights, int64_t count, double *times,
                                              PhiloxArgs where) {
  const int64_t block = thread_number();
  if (2 * block >= count) return;
  where = where.resolved();
  const PhiloxBlock words = philox(where.seed, where.offset + static_cast<uint64_t>(block));
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const int64_t i = 2 * block + j;
    if (i >= count) break;
    const double weight = static_cast<double>(static_cast<acc_t<P>>(weights[i]));
    const double time = random_exponential(words.word[2 * j], words.word[2 * j + 1]) / weight;
    times[i] = weight > 0.0 ? time : static_cast<double>(INFINITY);
  }
}

}  // namespace

#define VT_WEIGHTS(SUFFIX, P)                                                                    \
  __global__ void __launch_bounds__(kRowThreads)                                                 \
      vt_weights_check_##SUFFIX(const P *weights, int64_t n, vt_error_sink sink) {               \
    check_weights(weights, n, sink);                                                             \
  }                                                                                              \
  __global__ void __launch_bounds__(kRowThreads)                                                 \
      vt_choose_one_##SUFFIX(const P *weights, int64_t n, int64_t *out, int64_t row_stride,      \
                             PhiloxArgs where, vt_error_sink sink) {                             \
    choose_one(weights, n, out, row_stride, where, sink);                                        \
  }                                                                                              \
  __global__ void __launch_bounds__(kRowThreads)                                                 \
      vt_weight_sums_##SUFFIX(const P *weights, int64_t n, uint64_t *sums, vt_error_sink sink) { \
    sum_weights(weights, n, sums, sink);                                                         \
  }                                                                                              \
  __global__ void __launch_bounds__(kThreads) vt_arrival_times_##SUFFIX(                         \
      const P *weights, int64_t count, double *times, PhiloxArgs where) {                        \
    arrival_times(weights, count, times, where);                                                 \
  }

extern "C" {

VT_WEIGHTS(f16, vt::half)
VT_WEIGHTS(bf16, bfloat16)
VT_WEIGHTS(f32, float)
VT_WEIGHTS(f64, double)

// k choices per row, with replacement, from running sums: the first sum above a uniform integer.
__global__ void __launch_bounds__(kThreads)
    vt_choose_from_sums(const uint64_t *sums, int64_t n, int64_t k, int64_t count, int64_t *out,
                        int64_t row_stride, int64_t stride, PhiloxArgs where) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const int64_t row = i / k, j = i - row * k;
  sums += row * n;
  const uint64_t total = sums[n - 1];
  int64_t lo = 0;
  if (total > 0) {
    const uint64_t target = uniform_at(where.resolved(), i, total);
    int64_t size = n;
    while (size > 0) {
      const int64_t middle = size / 2;
      const bool right = sums[lo + middle] <= target;
      lo = right ? lo + middle + 1 : lo;
      size = right ? size - middle - 1 : middle;
    }
  }
  out[row * row_stride + j * stride] = lo;
}

// Random keys for a permutation of 0 ... n - 1, two per thread.
__global__ void __launch_bounds__(kThreads)
    vt_randperm_keys(uint64_t *keys, uint32_t *places, int64_t n, PhiloxArgs where) {
  const int64_t block = thread_number();
  if (2 * block >= n) return;
  where = where.resolved();
  const PhiloxBlock words = philox(where.seed, where.offset + static_cast<uint64_t>(block));
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const int64_t i = 2 * block + j;
    if (i >= n) break;
    keys[i] = static_cast<uint64_t>(words.word[2 * j]) << 32 | words.word[2 * j + 1];
    places[i] = static_cast<uint32_t>(i);
  }
}

// The permutation in a real dtype.
__global__ void __launch_bounds__(kThreads)
    vt_randperm_write(const uint32_t *order, void *out, int64_t n, int64_t stride, int32_t dtype) {
  const int64_t i = thread_number();
  if (i >= n) return;
  const uint32_t x = order[i];
  const int64_t at = i * stride;
  switch (dtype) {
    case VT_BOOL:
      static_cast<bool *>(out)[at] = x != 0;
      break;
    case VT_U8:
    case VT_I8:
      static_cast<uint8_t *>(out)[at] = static_cast<uint8_t>(x);
      break;
    case VT_I16:
      static_cast<int16_t *>(out)[at] = static_cast<int16_t>(x);
      break;
    case VT_I32:
      static_cast<int32_t *>(out)[at] = static_cast<int32_t>(x);
      break;
    case VT_I64:
      static_cast<int64_t *>(out)[at] = x;
      break;
    case VT_F16:
      static_cast<vt::half *>(out)[at] = vt::half(static_cast<float>(x));
      break;
    case VT_BF16:
      static_cast<bfloat16 *>(out)[at] = bfloat16(static_cast<float>(x));
      break;
    case VT_F32:
      static_cast<float *>(out)[at] = static_cast<float>(x);
      break;
    default:
      static_cast<double *>(out)[at] = x;
  }
}

}  // extern "C"
