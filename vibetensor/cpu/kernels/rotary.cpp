// Rotary position embedding: pairs of features turned by an angle per position.

#include "vibetensor/cpu/kernel_utils.h"

namespace VT_NS {

namespace {

struct Rotary {
  int64_t pairs, features;  // the first 2 * pairs features are turned, the others copied
  int64_t partner, step;    // from a pair's first feature to its second, and to the next pair
  bool inverse;
};

template <class S, class C>
void turn(const Rotary &r, const S *x, int64_t x_step, const C *cosine, int64_t cos_step,
          const C *sine, int64_t sin_step, S *to, int64_t to_step) {
  using A = acc_t<S>;
  for (int64_t i = 0; i < r.pairs; i++) {
    const int64_t first = i * r.step, second = first + r.partner;
    const A c = static_cast<A>(cosine[i * cos_step]);
    const A s =
        r.inverse ? -static_cast<A>(sine[i * sin_step]) : static_cast<A>(sine[i * sin_step]);
    const A a = static_cast<A>(x[first * x_step]), b = static_cast<A>(x[second * x_step]);
    to[first * to_step] = static_cast<S>(a * c - b * s);
    to[second * to_step] = static_cast<S>(b * c + a * s);
  }
  for (int64_t i = 2 * r.pairs; i < r.features; i++) to[i * to_step] = x[i * x_step];
}

}  // namespace

// x (B, T, H, D), cos (T, R), sin (T, R), out as x; values: interleaved, inverse.
vt_status rotary_cpu(const vt_array *arrays, const vt_value *values, vt_context *) {
  const vt_array &x = arrays[0], &cosine = arrays[1], &sine = arrays[2], &out = arrays[3];
  if (out.numel == 0) return VT_OK;
  const int64_t time = x.sizes[1], heads = x.sizes[2], pairs = cosine.sizes[1];
  const Rotary r = {pairs, x.sizes[3], values[0].i ? 1 : pairs, values[0].i ? 2 : 1,
                    values[1].i != 0};
  constexpr int64_t kGrainElements = 16 << 10;
  return dispatch<kFloating>(x.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    return dispatch<kFloating>(cosine.dtype, [&](auto angle_tag) {
      using C = typename decltype(angle_tag)::type;
      const S *from = data_of<const S>(x);
      const C *cosines = data_of<const C>(cosine), *sines = data_of<const C>(sine);
      S *to = data_of<S>(out);
      const int64_t rows = out.numel / r.features, grain = kGrainElements / r.features + 1;
      parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
          const int64_t h = row % heads, t = row / heads % time, b = row / heads / time;
          const auto at = [&](const vt_array &a) {
            return b * a.strides[0] + t * a.strides[1] + h * a.strides[2];
          };
          turn(r, from + at(x), x.strides[3], cosines + t * cosine.strides[0], cosine.strides[1],
               sines + t * sine.strides[0], sine.strides[1], to + at(out), out.strides[3]);
        }
      });
      return VT_OK;
    });
  });
}

}  // namespace VT_NS
