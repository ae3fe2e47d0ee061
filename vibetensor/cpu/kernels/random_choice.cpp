// Random permutations and weighted choices. Both are defined so that neither threads nor the order
// of additions matter: a permutation sorts random keys, and weights are summed as integers.
#include <math.h>

#include "vibetensor/cpu/kernels/random_words.h"

namespace VT_NS {

namespace {

constexpr int64_t kChunk = 2 * kChunkBlocks;  // elements of two words

// Calls f(begin, count, words) for elements [first, last) of a draw of two words per element.
template <class F>
VT_INLINE void for_drawn(uint64_t seed, uint64_t offset, int64_t first, int64_t last, const F &f) {
  alignas(64) uint32_t words[kChunkWords];
  for (int64_t block = first / 2; 2 * block < last; block += kChunkBlocks) {
    const int64_t begin = max_of(first, 2 * block);
    const int64_t end = min_of(last, 2 * block + kChunk);
    philox_words(seed, offset + static_cast<uint64_t>(block), div_up(end, 2) - block, words);
    f(begin, end - begin, words + 2 * (begin - 2 * block));
  }
}

VT_INLINE uint64_t word_pair(const uint32_t *words) {
  return static_cast<uint64_t>(words[0]) << 32 | words[1];
}

// The number of bits of the numbers below n.
VT_INLINE int bits_below(int64_t n) {
  return n <= 1 ? 0 : 64 - __builtin_clzll(static_cast<uint64_t>(n - 1));
}

void insertion_sort(uint64_t *x, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    const uint64_t moving = x[i];
    int64_t j = i;
    for (; j > 0 && x[j - 1] > moving; j--) x[j] = x[j - 1];
    x[j] = moving;
  }
}

constexpr int kSmallBits = 12;  // a bucket has 2^10 keys on average

// Sorts uniform keys that agree in their highest bits: one distribution by the bits below those all
// but sorts them.
void sort_bucket(uint64_t *keys, int64_t n, int common_bits) {
  if (n > 16 && n <= 1 << kSmallBits) {
    const int digit_bits = bits_below(n);
    const int64_t digits = int64_t(1) << digit_bits;
    uint32_t starts[1 << kSmallBits];
    uint64_t room[1 << kSmallBits];
    memset(starts, 0, digits * sizeof(uint32_t));
    const auto digit = [&](uint64_t key) { return (key << common_bits) >> (64 - digit_bits); };
    for (int64_t i = 0; i < n; i++) starts[digit(keys[i])]++;
    uint32_t start = 0;
    for (int64_t d = 0; d < digits; d++) {
      const uint32_t count = starts[d];
      starts[d] = start;
      start += count;
    }
    for (int64_t i = 0; i < n; i++) room[starts[digit(keys[i])]++] = keys[i];
    memcpy(keys, room, n * sizeof(uint64_t));
  }
  insertion_sort(keys, n);
}

// Element i has the key (its random 64 bits, the lowest replaced by i); the permutation is the order
// of the keys. They are computed twice, which costs less than fresh memory to keep them in.
bool sorted_keys(uint64_t seed, uint64_t offset, int64_t n, uint64_t *keys) {
  const int index_bits = bits_below(n);
  const uint64_t index_mask = (uint64_t(1) << index_bits) - 1;
  const int bucket_bits = max_of(index_bits - (kSmallBits - 2), 1);
  const int64_t buckets = int64_t(1) << bucket_bits;
  const int shift = 64 - bucket_bits;
  Scratch<int64_t> ends(buckets);
  if (!ends.ok()) return false;
  memset(ends.data(), 0, buckets * sizeof(int64_t));
  for_drawn(seed, offset, 0, n, [&](int64_t, int64_t count, const uint32_t *words) {
    for (int64_t i = 0; i < count; i++) ends[word_pair(words + 2 * i) >> shift]++;
  });
  int64_t start = 0;
  for (int64_t b = 0; b < buckets; b++) {
    const int64_t count = ends[b];
    ends[b] = start;
    start += count;
  }
  for_drawn(seed, offset, 0, n, [&](int64_t begin, int64_t count, const uint32_t *words) {
    for (int64_t i = 0; i < count; i++) {
      const uint64_t random = word_pair(words + 2 * i);
      keys[ends[random >> shift]++] = (random & ~index_mask) | static_cast<uint64_t>(begin + i);
    }
  });
  start = 0;
  for (int64_t b = 0; b < buckets; b++) {
    sort_bucket(keys + start, ends[b] - start, bucket_bits);
    start = ends[b];
  }
  for (int64_t i = 0; i < n; i++) keys[i] &= index_mask;
  return true;
}

}  // namespace

// out (n); seed, offset.
vt_status randperm_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const vt_array &out = a[0];
  const uint64_t seed = static_cast<uint64_t>(v[0].i), offset = static_cast<uint64_t>(v[1].i);
  if (out.numel == 0) return VT_OK;
  if (out.dtype == VT_I64 && is_contiguous(out)) {
    const bool ok = sorted_keys(seed, offset, out.numel, data_of<uint64_t>(out));
    return ok ? VT_OK : VT_ERROR_OUT_OF_MEMORY;
  }
  Scratch<uint64_t> keys(out.numel);
  if (!keys.ok() || !sorted_keys(seed, offset, out.numel, keys.data())) {
    return VT_ERROR_OUT_OF_MEMORY;
  }
  return dispatch<kReal>(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t stride = out.ndim > 0 ? out.strides[0] : 0;
    for (int64_t i = 0; i < out.numel; i++) {
      data_of<T>(out)[i * stride] = static_cast<T>(static_cast<acc_t<T>>(keys[i]));
    }
  });
}

namespace {

enum ChoiceStatus { kChosen = 0, kNoMemory = 1, kZeroSum = 2, kInvalid = 3 };

struct Candidate {
  double key;
  int64_t index;
};
VT_INLINE bool comes_after(const Candidate &a, const Candidate &b) {
  return a.key > b.key || (a.key == b.key && a.index > b.index);
}

// Restores a heap, its last candidate on top, after the one at the root was replaced.
void sift_down(Candidate *heap, int64_t n) {
  const Candidate moving = heap[0];
  int64_t i = 0;
  for (int64_t child = 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && comes_after(heap[child + 1], heap[child])) child++;
    if (!comes_after(heap[child], moving)) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = moving;
}

void sift_up(Candidate *heap, int64_t i) {
  const Candidate moving = heap[i];
  while (i > 0 && comes_after(moving, heap[(i - 1) / 2])) {
    heap[i] = heap[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  heap[i] = moving;
}

// One row of probabilities, read in chunks as the compute type.
template <class P>
struct Weights {
  using A = acc_t<P>;
  const Runs<P> &runs;
  int64_t begin, n;

  template <class F>
  VT_INLINE void for_chunks(const F &f) const {
    alignas(64) A room[kChunk];
    for (int64_t i = 0; i < n; i += kChunk) {
      const int64_t count = min_of(kChunk, n - i);
      f(i, count, runs.read(begin + i, count, room));
    }
  }

  ChoiceStatus largest(A *result) const {
    A most = 0;
    int invalid = 0;
    for_chunks([&](int64_t, int64_t count, const A *x) {
#pragma omp simd reduction(max : most) reduction(| : invalid)
      for (int64_t i = 0; i < count; i++) {
        invalid |= !(x[i] >= A(0)) | !(x[i] - x[i] == A(0));  // negative or nan, inf
        most = x[i] > most ? x[i] : most;
      }
    });
    *result = most;
    return invalid ? kInvalid : most == A(0) ? kZeroSum : kChosen;
  }
};

// Weights as integers whose sum stays below 2^63: the largest gets as many bits as that allows.
struct IntegerScale {
  double first, second;  // their product may be out of range
  IntegerScale(double largest, int64_t n) {
    int exponent;
    frexp(largest, &exponent);
    const int shift = 63 - bits_below(n) - exponent;
    first = ldexp(1.0, shift / 2);
    second = ldexp(1.0, shift - shift / 2);
  }
  VT_INLINE uint64_t operator()(double x) const {
    return static_cast<uint64_t>(static_cast<int64_t>(x * first * second));
  }
};

VT_INLINE uint64_t uniform_at(uint64_t seed, uint64_t offset, int64_t element, uint64_t range) {
  const PhiloxBlock block = philox(seed, offset + static_cast<uint64_t>(element / 2));
  const uint32_t *words = block.word + 2 * (element % 2);
  return uniform_below(words[0], words[1], range);
}

// The index where the running sum of the weights passes a uniform integer below the total.
template <class P>
ChoiceStatus choose_one(const Weights<P> &weights, uint64_t seed, uint64_t offset, int64_t element,
                        int64_t *out) {
  using A = acc_t<P>;
  A largest;
  const ChoiceStatus status = weights.largest(&largest);
  if (status != kChosen) return status;
  const IntegerScale scale(largest, weights.n);
  uint64_t total = 0;
  weights.for_chunks([&](int64_t, int64_t count, const A *x) {
    for (int64_t i = 0; i < count; i++) total += scale(x[i]);
  });
  uint64_t left = uniform_at(seed, offset, element, total);
  int64_t chosen = -1;
  weights.for_chunks([&](int64_t begin, int64_t count, const A *x) {
    for (int64_t i = 0; i < count && chosen < 0; i++) {
      const uint64_t weight = scale(x[i]);
      if (left < weight) chosen = begin + i;
      left -= weight;
    }
  });
  *out = chosen;
  return kChosen;
}

template <class P>
ChoiceStatus choose_with_replacement(const Weights<P> &weights, uint64_t seed, uint64_t offset,
                                     int64_t element, int64_t k, int64_t *out, int64_t stride) {
  using A = acc_t<P>;
  A largest;
  const ChoiceStatus status = weights.largest(&largest);
  if (status != kChosen) return status;
  const IntegerScale scale(largest, weights.n);
  Scratch<uint64_t> sums(weights.n);
  if (!sums.ok()) return kNoMemory;
  uint64_t total = 0;
  weights.for_chunks([&](int64_t begin, int64_t count, const A *x) {
    for (int64_t i = 0; i < count; i++) {
      total += scale(x[i]);
      sums[begin + i] = total;
    }
  });
  for (int64_t j = 0; j < k; j++) {
    const uint64_t target = uniform_at(seed, offset, element + j, total);
    int64_t lo = 0, size = weights.n;
    while (size > 0) {
      const int64_t middle = size / 2;
      const bool right = sums[lo + middle] <= target;
      lo = right ? lo + middle + 1 : lo;
      size = right ? size - middle - 1 : middle;
    }
    out[j * stride] = lo;
  }
  return kChosen;
}

// The k first to arrive of processes with these rates: an exponential number over each.
template <class P>
ChoiceStatus choose_without_replacement(const Weights<P> &weights, uint64_t seed, uint64_t offset,
                                        int64_t element, int64_t k, int64_t *out, int64_t stride) {
  using A = acc_t<P>;
  A largest;
  const ChoiceStatus status = weights.largest(&largest);
  if (status != kChosen) return status;
  Scratch<Candidate, 64> heap(k);
  if (!heap.ok()) return kNoMemory;
  int64_t held = 0;
  alignas(64) A room[kChunk];
  alignas(64) double keys[kChunk];
  for_drawn(seed, offset, element, element + weights.n,
            [&](int64_t begin, int64_t count, const uint32_t *words) {
              const A *x = weights.runs.read(begin, count, room);
#pragma omp simd
              for (int64_t i = 0; i < count; i++) {
                const double weight = static_cast<double>(x[i]);
                const double time = random_exponential(words[2 * i], words[2 * i + 1]) / weight;
                keys[i] = weight > 0.0 ? time : static_cast<double>(INFINITY);
              }
              for (int64_t i = 0; i < count; i++) {
                const Candidate candidate = {keys[i], begin + i - element};
                if (held < k) {
                  heap[held] = candidate;
                  sift_up(heap.data(), held++);
                } else if (comes_after(heap[0], candidate)) {
                  heap[0] = candidate;
                  sift_down(heap.data(), k);
                }
              }
            });
  for (int64_t j = k - 1; j >= 0; j--) {
    out[j * stride] = heap[0].index;
    heap[0] = heap[j];
    sift_down(heap.data(), j);
  }
  return kChosen;
}

}  // namespace

// probabilities (rows, n) or (n), out (rows, k) or (k), int64; replacement, seed, offset.
vt_status multinomial_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const vt_array &probabilities = a[0], &out = a[1];
  const bool replacement = v[0].i != 0;
  const uint64_t seed = static_cast<uint64_t>(v[1].i), offset = static_cast<uint64_t>(v[2].i);
  const bool batched = probabilities.ndim == 2;
  const int64_t rows = batched ? probabilities.sizes[0] : 1;
  const int64_t n = probabilities.sizes[batched], k = out.sizes[batched];
  const int64_t stride = out.strides[batched], row_stride = batched ? out.strides[0] : 0;
  if (k == 0) return VT_OK;
  int worst = kChosen;
  const vt_status status = dispatch<kFloating>(probabilities.dtype, [&](auto tag) {
    using P = typename decltype(tag)::type;
    const Runs<P> runs(probabilities);
    parallel_for(rows, div_up(20000, n + 1), [&](int64_t first, int64_t last) {
      int error = kChosen;
      for (int64_t row = first; row < last; row++) {
        const Weights<P> weights = {runs, row * n, n};
        int64_t *to = data_of<int64_t>(out) + row * row_stride;
        const ChoiceStatus s =
            k == 1 ? choose_one(weights, seed, offset, row, to)
            : replacement
                ? choose_with_replacement(weights, seed, offset, row * k, k, to, stride)
                : choose_without_replacement(weights, seed, offset, row * n, k, to, stride);
        error = max_of(error, static_cast<int>(s));
      }
      int seen = __atomic_load_n(&worst, __ATOMIC_RELAXED);
      while (seen < error && !__atomic_compare_exchange_n(&worst, &seen, error, true,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      }
    });
  });
  if (status != VT_OK) return status;
  switch (worst) {
    case kChosen:
      return VT_OK;
    case kNoMemory:
      return VT_ERROR_OUT_OF_MEMORY;
    case kZeroSum:
      context->message = "invalid multinomial distribution (sum of probabilities <= 0)";
      return VT_ERROR_VALUE;
    default:
      context->message = "probability tensor contains either `inf`, `nan` or element < 0";
      return VT_ERROR_VALUE;
  }
}

}  // namespace VT_NS
