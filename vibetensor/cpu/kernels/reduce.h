// The driver of reductions over any subset of dimensions of any strided array, and the block kernel
// that serves every reduction which folds elements one by one.
//
// The result of a reduction depends on shapes and strides only, never on the number of threads:
// work is cut into fixed pieces whose partial states are merged in order.
#ifndef VT_CPU_KERNELS_REDUCE_H
#define VT_CPU_KERNELS_REDUCE_H

#include "vibetensor/cpu/kernels/lanes.h"

namespace VT_NS {

// What a reduction needs to turn a state into a result.
struct ReduceInfo {
  int64_t count;      // elements folded into each output
  double correction;  // var: what is taken from the count
};

// One reduction for one dtype. The driver holds an array of states, one per output, without knowing
// what they are; `tile` of them fit into kReduceStateBytes.
struct Reducer {
  int64_t state_size;
  int64_t tile;
  void (*init)(char *states, int64_t n);
  // Folds inner elements, `inner_stride` apart, into each of `outer` states, whose elements lie
  // `outer_stride` apart. Strides in elements.
  void (*block)(const char *x, int64_t outer_stride, int64_t inner_stride, int64_t outer,
                int64_t inner, char *states);
  void (*merge)(char *states, const char *others, int64_t n);
  void (*finish)(const char *states, int64_t n, char *out, int64_t out_stride,
                 const ReduceInfo &info);
};

constexpr int64_t kReduceStateBytes = 16384;

// Reduces `in` to `out`, which has the same rank and size 1 in the reduced dimensions.
vt_status run_reduction(const Reducer &r, const vt_array &in, const vt_array &out,
                        double correction = 0);

// ---- folds ----
//
// A fold has two levels: elements go into lanes (vectorised, short runs), lanes into a state
// (precise, long runs). The lane level is a Core, shared by all element types that are loaded as
// one Value:
//   Value, Lane; identity(), load(Value) -> Lane, combine(Lane, Lane) -> Lane
//   kVector: Value is Lane, and load and combine take vectors too
// An Op says the rest:
//   In (as stored), Core, State, Out; start(), fold(State&, Lane), merge(State&, const State&),
//   done(const State&) -> bool, result(const State&, const ReduceInfo&) -> Out
// Lanes are folded into the state after at most kFoldRows elements each: that bounds the rounding
// of float lanes and the range of narrow integer ones.
constexpr int64_t kFoldRows = 512;

// Both classes below serve rows of Source:
//   row(x, n): the lane of a contiguous row of at most kSegment elements
//   add_rows(lanes, x, stride, rows, cols): lanes[c] folds x[r * stride + c] over the rows r. Eight
//     rows at a time: one pass over the lanes then does eight rows of work, and partial sums form a
//     tree.

template <class Core, class S>
struct VectorLanes {
  using Source = S;
  using Value = typename Core::Value;
  using Lane = Value;
  using Vec = vec<Value>;
  static constexpr int64_t K = kLanes<Value>;
  static constexpr int64_t kSegment = 8 * K * kFoldRows;
  static constexpr int64_t kWidth = K;

  static VT_INLINE Vec at(const Source *p) { return Core::load(load_lanes(p)); }
  static VT_INLINE Lane one(const Source *p) { return Core::load(static_cast<Value>(*p)); }

  static VT_INLINE Lane row(const Source *x, int64_t n) {
    if (n < K) {
      Lane lane = Core::identity();
      for (int64_t i = 0; i < n; i++) lane = Core::combine(lane, one(x + i));
      return lane;
    }
    Vec v = n < 8 * K ? at(x) : long_row(x, n);
    int64_t i = n < 8 * K ? K : n & -(8 * K);
    for (; i + K <= n; i += K) v = Core::combine(v, at(x + i));
    if (i < n) {
      const Vec none = splat(Core::identity()), end = at(x + n - K);
      v = Core::combine(v, last_lanes<Value>(n - i) ? end : none);
    }
    return fold_lanes<Value>(v, [](auto a, auto b) { return Core::combine(a, b); });
  }

  static VT_NOINLINE Vec long_row(const Source *x, int64_t n) {
    Vec a = at(x), b = at(x + K), c = at(x + 2 * K), d = at(x + 3 * K);
    Vec e = at(x + 4 * K), f = at(x + 5 * K), g = at(x + 6 * K), h = at(x + 7 * K);
    for (int64_t i = 8 * K; i + 8 * K <= n; i += 8 * K) {
      const Source *p = x + i;
      a = Core::combine(a, at(p));
      b = Core::combine(b, at(p + K));
      c = Core::combine(c, at(p + 2 * K));
      d = Core::combine(d, at(p + 3 * K));
      e = Core::combine(e, at(p + 4 * K));
      f = Core::combine(f, at(p + 5 * K));
      g = Core::combine(g, at(p + 6 * K));
      h = Core::combine(h, at(p + 7 * K));
    }
    return Core::combine(Core::combine(Core::combine(a, b), Core::combine(c, d)),
                         Core::combine(Core::combine(e, f), Core::combine(g, h)));
  }

  static VT_NOINLINE void add_rows(Lane *lanes, const Source *x, int64_t stride, int64_t rows,
                                   int64_t cols) {
    const int64_t whole = cols & -K;
    int64_t r = 0;
    for (; r + 8 <= rows; r += 8, x += 8 * stride) {
      for (int64_t c = 0; c < whole; c += K) {
        const Source *p = x + c, *q = p + 4 * stride;
        const Vec a = Core::combine(at(p), at(p + stride));
        const Vec b = Core::combine(at(p + 2 * stride), at(p + 3 * stride));
        const Vec d = Core::combine(at(q), at(q + stride));
        const Vec e = Core::combine(at(q + 2 * stride), at(q + 3 * stride));
        const Vec all = Core::combine(Core::combine(a, b), Core::combine(d, e));
        store(lanes + c, Core::combine(load(lanes + c), all));
      }
    }
    x -= r * stride;
    for (int64_t k = r; k < rows; k++) {
      const Source *p = x + k * stride;
      for (int64_t c = 0; c < whole; c += K) {
        store(lanes + c, Core::combine(load(lanes + c), at(p + c)));
      }
    }
    for (int64_t k = 0; k < (whole < cols ? rows : 0); k++) {
      const Source *p = x + k * stride;
      for (int64_t c = whole; c < cols; c++) lanes[c] = Core::combine(lanes[c], one(p + c));
    }
  }
};

template <class Core, class S>
struct ScalarLanes {
  using Source = S;
  using Lane = typename Core::Lane;
  static constexpr int64_t kWidth = sizeof(Lane) > 8 ? 16 : sizeof(Lane) == 8 ? 32 : 64;
  static constexpr int64_t kSegment = kWidth * kFoldRows;

  static VT_NOINLINE Lane row(const Source *x, int64_t n) {
    alignas(64) Lane lanes[kWidth];
    for (int64_t c = 0; c < kWidth; c++) lanes[c] = Core::identity();
    add_rows(lanes, x, kWidth, n / kWidth, kWidth);
    const int64_t tail = n % kWidth;
    x += n - tail;
    for (int64_t c = 0; c < tail; c++) lanes[c] = Core::combine(lanes[c], Core::load(x[c]));
    for (int64_t w = kWidth / 2; w > 0; w /= 2) {
      for (int64_t c = 0; c < w; c++) lanes[c] = Core::combine(lanes[c], lanes[c + w]);
    }
    return lanes[0];
  }

  static VT_NOINLINE void add_rows(Lane *__restrict lanes, const Source *__restrict x,
                                   int64_t stride, int64_t rows, int64_t cols) {
    int64_t r = 0;
    for (; r + 8 <= rows; r += 8, x += 8 * stride) {
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) {
        const Source *p = x + c, *q = p + 4 * stride;
        Lane a = Core::combine(Core::load(p[0]), Core::load(p[stride]));
        Lane b = Core::combine(Core::load(p[2 * stride]), Core::load(p[3 * stride]));
        Lane d = Core::combine(Core::load(q[0]), Core::load(q[stride]));
        Lane e = Core::combine(Core::load(q[2 * stride]), Core::load(q[3 * stride]));
        lanes[c] = Core::combine(lanes[c], Core::combine(Core::combine(a, b), Core::combine(d, e)));
      }
    }
    for (; r < rows; r++, x += stride) {
#pragma omp simd
      for (int64_t c = 0; c < cols; c++) lanes[c] = Core::combine(lanes[c], Core::load(x[c]));
    }
  }
};

template <class Op>
struct Fold {
  using In = typename Op::In;
  using Core = typename Op::Core;
  using Value = typename Core::Value;
  using Lane = typename Core::Lane;
  using State = typename Op::State;
  using Out = typename Op::Out;

  // Rows are read as they are stored where the lanes can, else through a buffer of values.
  static constexpr bool kInPlace =
      is_same<In, Value>::value ||
      (Core::kVector && is_half_type<In> && is_same<Value, float>::value);
  using Source = std::conditional_t<kInPlace, In, Value>;
  using L = std::conditional_t<Core::kVector, VectorLanes<Core, Source>, ScalarLanes<Core, Source>>;
  static constexpr int64_t kTile = min_of<int64_t>(1024, kReduceStateBytes / sizeof(State));

  static VT_INLINE void rows(const In *x, int64_t outer_stride, int64_t stride, int64_t outer,
                             int64_t n, State *states) {
    for (int64_t r = 0; r < outer; r++, x += outer_stride) {
      State &state = states[r];
      if constexpr (kInPlace) {
        if (stride == 1) {
          for (int64_t i = 0; i < n; i += L::kSegment) {
            Op::fold(state, L::row(x + i, min_of(n - i, L::kSegment)));
            if (Op::done(state)) break;
          }
          continue;
        }
      }
      if (n < 8) {
        Lane lane = Core::identity();
        for (int64_t i = 0; i < n; i++) {
          lane = Core::combine(lane, Core::load(static_cast<Value>(x[i * stride])));
        }
        Op::fold(state, lane);
        continue;
      }
      constexpr int64_t kBuffer = 1024;
      alignas(64) Source buffer[kBuffer];
      for (int64_t i = 0; i < n; i += kBuffer) {
        const int64_t m = min_of(n - i, kBuffer);
        load_row(buffer, x + i * stride, stride, m);
        Op::fold(state, L::row(buffer, m));
        if (Op::done(state)) break;
      }
    }
  }

  // `cols` neighbouring outputs at once.
  static VT_INLINE void columns(const In *x, int64_t col_stride, int64_t row_stride, int64_t cols,
                                int64_t n, State *states) {
    alignas(64) Lane lanes[kTile];
    if constexpr (kInPlace) {
      constexpr int64_t group = L::kWidth;
      if (col_stride == 1 && row_stride == cols && cols * group <= kTile && cols <= 32 &&
          n >= 8 * group) {
        // Few columns without gaps: several rows side by side fill whole vectors.
        const int64_t width = group * cols;
        while (n >= group) {
          const int64_t m = min_of(n / group, kFoldRows);
          for (int64_t c = 0; c < width; c++) lanes[c] = Core::identity();
          L::add_rows(lanes, x, width, m, width);
          for (int64_t c = 0; c < width; c += cols) {
            for (int64_t k = 0; k < cols; k++) Op::fold(states[k], lanes[c + k]);
          }
          x += m * width;
          n -= m * group;
        }
      }
    }
    for (int64_t r = 0; r < n; r += kFoldRows) {
      const int64_t m = min_of(n - r, kFoldRows);
      for (int64_t c = 0; c < cols; c++) lanes[c] = Core::identity();
      const In *from = x + r * row_stride;
      bool direct = false;
      if constexpr (kInPlace) {
        direct = col_stride == 1;
        if (direct) L::add_rows(lanes, from, row_stride, m, cols);
      }
      if (!direct) {
        constexpr int64_t kStep = 256;
        alignas(64) Source buffer[8 * kStep];
        for (int64_t c = 0; c < cols; c += kStep) {
          const int64_t w = min_of(cols - c, kStep);
          for (int64_t i = 0; i < m; i += 8) {
            const int64_t k = min_of<int64_t>(m - i, 8);
            for (int64_t j = 0; j < k; j++) {
              load_row(buffer + j * kStep, from + (i + j) * row_stride + c * col_stride, col_stride,
                       w);
            }
            L::add_rows(lanes + c, buffer, kStep, k, w);
          }
        }
      }
      for (int64_t c = 0; c < cols; c++) Op::fold(states[c], lanes[c]);
    }
  }

  static void init(char *states, int64_t n) {
    for (int64_t i = 0; i < n; i++) reinterpret_cast<State *>(states)[i] = Op::start();
  }
  static void block(const char *x, int64_t outer_stride, int64_t inner_stride, int64_t outer,
                    int64_t inner, char *states) {
    const In *from = reinterpret_cast<const In *>(x);
    State *s = reinterpret_cast<State *>(states);
    if (outer == 1 || llabs(inner_stride) < llabs(outer_stride)) {
      rows(from, outer_stride, inner_stride, outer, inner, s);
    } else {
      columns(from, outer_stride, inner_stride, outer, inner, s);
    }
  }
  static void merge(char *states, const char *others, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
      Op::merge(reinterpret_cast<State *>(states)[i], reinterpret_cast<const State *>(others)[i]);
    }
  }
  static void finish(const char *states, int64_t n, char *out, int64_t out_stride,
                     const ReduceInfo &info) {
    const State *s = reinterpret_cast<const State *>(states);
    Out *o = reinterpret_cast<Out *>(out);
    for (int64_t i = 0; i < n; i++) o[i * out_stride] = Op::result(s[i], info);
  }
};

template <class Op>
inline vt_status run_fold(const vt_array &in, const vt_array &out) {
  using F = Fold<Op>;
  static constexpr Reducer reducer = {
      sizeof(typename Op::State), F::kTile, F::init, F::block, F::merge, F::finish};
  return run_reduction(reducer, in, out);
}

// Sums of doubles keep the rounding error of every addition; it is added once, at the end.
struct Compensated {
  double sum, error;
  VT_INLINE void add(double x) {
    const double t = sum + x, part = t - sum;
    error += (sum - (t - part)) + (x - part);
    sum = t;
  }
  VT_INLINE double value() const {
    // Once the sum is infinite the error term is NaN and means nothing.
    return __builtin_isfinite(error) ? sum + error : sum;
  }
};

}  // namespace VT_NS

#endif
