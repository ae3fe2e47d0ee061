// What attention adds to its scores, a mask or a bias and ALiBi's slopes, and what its dropout takes
// from its weights; for one panel against one block of keys (Note [Attention blocks]).
#ifndef VT_CPU_ATTENTION_BIAS_H
#define VT_CPU_ATTENTION_BIAS_H

#include "vibetensor/cpu/kernels/attention.h"

namespace VT_NS {

// `mask` is (batch, head, query, key), each of its size or 1: boolean (true: take part) or added.
// `slopes` is (batch or 1, head): the bias is -slope * |distance|.
class AttentionBias {
 public:
  AttentionBias(const vt_array &mask, const vt_array &slopes)
      : mask_(given(mask) ? &mask : nullptr), slopes_(given(slopes) ? &slopes : nullptr) {
    for (int d = 0; d < 4 && mask_; d++)
      mask_strides_[d] = mask.sizes[d] == 1 ? 0 : mask.strides[d];
  }
  explicit operator bool() const { return mask_ || slopes_; }

  // What is added to the scores, in units of log 2: n keys x kTileCols queries.
  template <class S, class T>
  void fill(T *to, const AttentionShape &s, int64_t b, int64_t h, int64_t query, int64_t lanes,
            int64_t key, int64_t n) const {
    if (!mask_) {
      memset(static_cast<void *>(to), 0, sizeof(T) * n * kTileCols<T>);
    } else {
      const int64_t *strides = mask_strides_;
      const int64_t first = b * strides[0] + h * strides[1] + query * strides[2] + key * strides[3];
      if (mask_->dtype == VT_BOOL) {
        fill_from(to, data_of<const uint8_t>(*mask_) + first, lanes, n,
                  [](uint8_t keep) { return keep ? T(0) : -T(INFINITY); });
      } else {
        fill_from(to, data_of<const S>(*mask_) + first, lanes, n,
                  [](S x) { return static_cast<T>(x) * T(kLog2e); });
      }
    }
    if (slopes_) add_slope(to, s, b + s.first_batch, h, query, key, n);
  }

 private:
  template <class M, class T, class F>
  void fill_from(T *to, const M *from, int64_t lanes, int64_t n, const F &score) const {
    constexpr int W = kTileCols<T>;
    const int64_t by_query = mask_strides_[2], by_key = mask_strides_[3];
    for (int64_t j = 0; j < n; j++) {
      T *row = to + j * W;
      const M *x = from + j * by_key;
      if (by_query == 0) {
        const T s = score(*x);
        for (int64_t i = 0; i < W; i++) row[i] = s;
      } else {
        for (int64_t i = 0; i < lanes; i++) row[i] = score(x[i * by_query]);
        for (int64_t i = lanes; i < W; i++) row[i] = T(0);
      }
    }
  }

  template <class T>
  void add_slope(T *to, const AttentionShape &s, int64_t b, int64_t h, int64_t query, int64_t key,
                 int64_t n) const {
    constexpr int W = kTileCols<T>;
    const int64_t row = slopes_->sizes[0] == 1 ? 0 : b * slopes_->strides[0];
    const T slope = T(data_of<const float>(*slopes_)[row + h * slopes_->strides[1]] * kLog2e);
    for (int64_t j = 0; j < n; j++) {
      const int64_t nearest = key + j - s.keys + s.queries - query; /* the lane at distance zero */
#pragma omp simd
      for (int i = 0; i < W; i++) {
        const T distance = T(nearest) - T(i);
        to[j * W + i] -= slope * (distance < T(0) ? -distance : distance);
      }
    }
  }

  const vt_array *mask_, *slopes_;
  int64_t mask_strides_[4] = {};
};

// See vt/attention_dropout.h.
class AttentionDropout {
 public:
  explicit AttentionDropout(const vt_value *values)
      : threshold_(attention_threshold(values[kDropoutP].re)),
        scale_(attention_keep_scale(threshold_)),
        seed_(uint64_t(values[kSeed].i)),
        offset_(uint64_t(values[kOffset].i)),
        active_(values[kDropoutP].re > 0) {}
  explicit operator bool() const { return active_; }

  // What the weights are multiplied by: n keys from `key` on, a multiple of the period, by kTileCols
  // queries.
  template <class T>
  void fill(T *to, const AttentionShape &s, int64_t b, int64_t h, int64_t query, int64_t key,
            int64_t n) const {
    constexpr int W = kTileCols<T>;
    static_assert(kKeyBlock == kDropoutPeriod, "a block of keys is one period");
    const uint64_t head = uint64_t((b + s.first_batch) * s.heads + h);
    const T scale = T(scale_);
    for (int64_t first = 0; first < min_of(int64_t(8), n); first++) {
      uint32_t words[4][W];
#pragma omp simd
      for (int i = 0; i < W; i++) {
        const PhiloxBlock bits =
            attention_bits(seed_, offset_, head, uint32_t(query + i), uint32_t(key + first));
        for (int w = 0; w < 4; w++) words[w][i] = bits.word[w];
      }
      for (int piece = 0; piece < kDropoutPieces && first + 8 * piece < n; piece++) {
        T *row = to + (first + 8 * piece) * W;
        const uint32_t *word = words[piece / 2];
        const int shift = 16 * (piece % 2);
#pragma omp simd
        for (int i = 0; i < W; i++) {
          row[i] = (word[i] >> shift & 0xffffu) < threshold_ ? scale : T(0);
        }
      }
    }
  }

 private:
  uint32_t threshold_;
  double scale_;
  uint64_t seed_, offset_;
  bool active_;
};

}  // namespace VT_NS

#endif
