// Random distributions and dropout. Compiled without contraction (see vt/random_math.h), so that a
// draw gives the same bits on every processor and device; vt/philox.h says what a draw is.
#include <math.h>

#include "vibetensor/cpu/kernels/random_words.h"

namespace VT_NS {

namespace {

struct Draw {
  uint64_t seed, offset;
};
VT_INLINE Draw draw_of(const vt_value *v) {
  return {static_cast<uint64_t>(v[0].i), static_cast<uint64_t>(v[1].i)};
}

// Uniform words as uniform reals.
VT_INLINE void fill_uniform(const uint32_t *words, int64_t n, float lo, float range, float last,
                            float *to) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const float x = uniform24(words[i]) * range + lo;
    to[i] = x < last ? x : last;
  }
}
VT_INLINE void fill_uniform(const uint32_t *words, int64_t n, double lo, double range, double last,
                            double *to) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const double x = uniform53(words[2 * i], words[2 * i + 1]) * range + lo;
    to[i] = x < last ? x : last;
  }
}

VT_INLINE void fill_normal(const uint32_t *words, int64_t n, float mean, float std, float *to) {
#pragma omp simd
  for (int64_t i = 0; i < n / 2; i++) {
    const SinCos<float> z = normal_pair(words[2 * i], words[2 * i + 1]);
    to[2 * i] = z.cos * std + mean;
    to[2 * i + 1] = z.sin * std + mean;
  }
}
VT_INLINE void fill_normal(const uint32_t *words, int64_t n, double mean, double std, double *to) {
#pragma omp simd
  for (int64_t i = 0; i < n / 2; i++) {
    const uint32_t *w = words + 4 * i;
    const SinCos<double> z = normal_pair(w[0], w[1], w[2], w[3]);
    to[2 * i] = z.cos * std + mean;
    to[2 * i + 1] = z.sin * std + mean;
  }
}

// Words as integers low + [0, range).
template <class A>
VT_INLINE void fill_integers(const uint32_t *words, int64_t n, uint64_t low, uint64_t range,
                             A *to) {
  if (range - 1 < 0xffffffffu) {
    const uint32_t range32 = static_cast<uint32_t>(range);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      const uint32_t x = uniform_below_32(words[2 * i], words[2 * i + 1], range32);
      to[i] = static_cast<A>(static_cast<int64_t>(low + x));
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      const uint64_t x = uniform_below(words[2 * i], words[2 * i + 1], range);
      to[i] = static_cast<A>(static_cast<int64_t>(low + x));
    }
  }
}

// Words up to `last` as `yes`, others as 0. A threshold of 2^32 has no word of its own, so one of 0
// is expressed by `yes` being 0.
template <class A>
VT_INLINE void fill_choice(const uint32_t *words, int64_t n, uint32_t last, A yes, A *to) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) to[i] = words[i] <= last ? yes : static_cast<A>(0);
}

// The largest value of T below x, which itself may be none.
template <class T>
acc_t<T> value_below(acc_t<T> x) {
  if constexpr (is_same<T, float>::value) {
    return nextafterf(x, -INFINITY);
  } else if constexpr (is_same<T, double>::value) {
    return nextafter(x, -INFINITY);
  } else {
    T rounded(x);
    if (static_cast<float>(rounded) < x) return rounded;
    const bool negative = rounded.bits & 0x8000u, zero = (rounded.bits & 0x7fffu) == 0;
    rounded.bits = zero ? 0x8001u : static_cast<uint16_t>(rounded.bits + (negative ? 1 : -1));
    return rounded;
  }
}

// Real values per block of random words.
template <class R>
constexpr int kRealsPerBlock = sizeof(R) == 8 ? VT_DRAW_64 : VT_DRAW_32;

// Calls f(tag, n) so that a complex output is drawn as twice as many reals.
template <class T, class F>
void draw_reals(const vt_array &out, Draw where, const F &fill) {
  using R = real_t<acc_t<T>>;
  constexpr int kReals = kRealsPerBlock<R>;
  constexpr int kPerBlock = is_complex<T> ? kReals / 2 : kReals;
  draw<kPerBlock, T>(out, where.seed, where.offset,
                     [&](const uint32_t *words, int64_t blocks, acc_t<T> *to) {
                       fill(words, blocks * kReals, reinterpret_cast<R *>(to));
                     });
}

}  // namespace

// out; lo, hi, seed, offset. In [lo, hi), also after rounding to a half type.
vt_status uniform_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return dispatch<kFloating | kComplex>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using R = real_t<acc_t<T>>;
    const R lo = static_cast<R>(v[0].re), hi = static_cast<R>(v[1].re);
    using Real = typename std::conditional<is_complex<T>, R, T>::type;
    const R last = lo < hi ? value_below<Real>(hi) : hi;
    draw_reals<T>(a[0], draw_of(v + 2), [&](const uint32_t *words, int64_t n, R *to) {
      fill_uniform(words, n, lo, hi - lo, last, to);
    });
  });
}

// out; mean, std, seed, offset. The variance of a complex number is shared by its two parts.
vt_status normal_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return dispatch<kFloating | kComplex>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using R = real_t<acc_t<T>>;
    const double share = is_complex<T> ? 0.70710678118654752440 : 1.0;
    const R mean = static_cast<R>(v[0].re), std = static_cast<R>(v[1].re * share);
    draw_reals<T>(a[0], draw_of(v + 2), [&](const uint32_t *words, int64_t n, R *to) {
      fill_normal(words, n, is_complex<T> ? R(0) : mean, std, to);
      if (is_complex<T>) {
        for (int64_t i = 0; i < n; i += 2) to[i] += mean;  // which is real
      }
    });
  });
}

// out; p, seed, offset.
vt_status bernoulli_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const uint64_t threshold = bernoulli_threshold(v[0].re);
  const uint32_t last = static_cast<uint32_t>(threshold - 1);
  const Draw where = draw_of(v + 1);
  return dispatch<kReal>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = acc_t<T>;
    draw<VT_DRAW_32, T>(a[0], where.seed, where.offset,
                        [&](const uint32_t *words, int64_t blocks, A *to) {
                          fill_choice(words, 4 * blocks, last, static_cast<A>(threshold > 0), to);
                        });
  });
}

namespace {

template <class P, class T>
bool bernoulli_tensor(const vt_array &p, const vt_array &out, Draw where) {
  using A = acc_t<P>;
  const Runs<P> probabilities(p);
  const Runs<T, uint8_t> runs(out);
  bool valid = true;
  parallel_for(div_up(out.numel, 4), 32 * kChunkBlocks, [&](int64_t first, int64_t last) {
    alignas(64) uint32_t words[kChunkWords];
    alignas(64) A room[kChunkWords];
    alignas(64) uint8_t drawn[kChunkWords];
    int bad = 0;
    for (int64_t block = first; block < last; block += kChunkBlocks) {
      const int64_t n = min_of(kChunkBlocks, last - block);
      const int64_t count = min_of(4 * n, out.numel - 4 * block);
      philox_words(where.seed, where.offset + static_cast<uint64_t>(block), n, words);
      const A *x = probabilities.read(4 * block, count, room);
      uint8_t *to = runs.target(4 * block, drawn);
      for (int64_t i = 0; i < count; i++) {
        bad |= !(x[i] >= A(0) && x[i] <= A(1));
        to[i] = static_cast<A>(uniform24(words[i])) < x[i];
      }
      runs.write(4 * block, count, to);
    }
    if (bad) __atomic_store_n(&valid, false, __ATOMIC_RELAXED);
  });
  return valid;
}

}  // namespace

// p (any floating dtype), out (same shape); seed, offset.
vt_status bernoulli_tensor_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const Draw where = draw_of(v);
  return dispatch<kFloating>(a[0].dtype, [&](auto p_tag) {
    using P = typename decltype(p_tag)::type;
    return dispatch<kReal>(a[1].dtype, [&](auto tag) -> vt_status {
      if (bernoulli_tensor<P, typename decltype(tag)::type>(a[0], a[1], where)) return VT_OK;
      context->message = "Expected p_in >= 0 && p_in <= 1 to be true, but got false.";
      return VT_ERROR_VALUE;
    });
  });
}

// out; low, high (not included), seed, offset. low == high stands for all 64 bits.
vt_status randint_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const uint64_t low = static_cast<uint64_t>(v[0].i);
  const uint64_t range = static_cast<uint64_t>(v[1].i) - low;
  const Draw where = draw_of(v + 2);
  return dispatch<kReal>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    draw<VT_DRAW_64, T>(a[0], where.seed, where.offset,
                        [&](const uint32_t *words, int64_t blocks, acc_t<T> *to) {
                          fill_integers(words, 2 * blocks, low, range, to);
                        });
  });
}

namespace {

// y = x, scaled where a word is at most last_kept and times 0 elsewhere: a dropped NaN stays one.
template <class A, class X>
VT_INLINE void drop(const uint32_t *words, int64_t n, uint32_t last_kept, A scale, const X *x,
                    A *y) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = A(x[i]) * (words[i] <= last_kept ? scale : A(0));
}

// T is the type of the input, R that of residual and output.
template <class T, class R>
void dropout(const vt_array *a, double p, Draw where) {
  using A = acc_t<R>;
  using X = acc_t<T>;
  const double keep = 1.0 - p;
  const uint64_t threshold = bernoulli_threshold(keep);
  const uint32_t last_kept = static_cast<uint32_t>(threshold - 1);
  const A scale = threshold == 0 ? A(0) : static_cast<A>(1.0 / keep);
  const bool adds = given(a[1]);
  const Runs<T> input(a[0]);
  const Runs<R> residual(adds ? a[1] : a[2]), out(a[2]);
  parallel_for(div_up(a[2].numel, 4), 32 * kChunkBlocks, [&](int64_t first, int64_t last) {
    alignas(64) uint32_t words[kChunkWords];
    alignas(64) X input_room[kChunkWords];
    alignas(64) A residual_room[kChunkWords], out_room[kChunkWords];
    for (int64_t block = first; block < last; block += kChunkBlocks) {
      const int64_t n = min_of(kChunkBlocks, last - block), begin = 4 * block;
      const int64_t count = min_of(4 * n, a[2].numel - begin);
      philox_words(where.seed, where.offset + static_cast<uint64_t>(block), n, words);
      const X *x = input.read(begin, count, input_room);
      A *y = out.target(begin, out_room);
      drop(words, count, last_kept, scale, x, y);
      if (adds) {
        const A *r = residual.read(begin, count, residual_room);
#pragma omp simd
        for (int64_t i = 0; i < count; i++) y[i] = r[i] + y[i];
      }
      out.write(begin, count, y);
    }
  });
}

}  // namespace

// input, residual?, out; p, seed, offset. out = residual + input * mask / (1 - p), the mask drawn and not
// kept. The input may be of a half type where the others are float32.
vt_status dropout_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const double p = v[0].re;
  const Draw where = draw_of(v + 1);
  const int dtype = a[2].dtype;
  if (given(a[1]) && a[1].dtype != dtype) return VT_ERROR_DTYPE;
  if (a[0].dtype == dtype) {
    return dispatch<kFloating>(dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      dropout<T, T>(a, p, where);
    });
  }
  if (dtype != VT_F32) return VT_ERROR_DTYPE;
  return dispatch<kHalves>(
      a[0].dtype, [&](auto tag) { dropout<typename decltype(tag)::type, float>(a, p, where); });
}

}  // namespace VT_NS
