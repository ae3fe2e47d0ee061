// Indexing with arrays along several dimensions at once, for reading and for writing.
//
// The shape that the index arrays have in common comes first, then the dimensions without an index
// in their order: whoever calls permutes `out` or the source so. For a block of positions in the
// common shape the offsets into both arrays are computed once; what is left is a copy per position,
// or, where the rest of the shape has the larger steps, per element of that rest.
#include "vibetensor/cpu/kernels/accumulate.h"
#include "vibetensor/cpu/kernels/index_error.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainElements = 16 << 10;
constexpr int64_t kBlock = 512;

enum { kSelf = 0, kOther = 1 };

struct Plan {
  const vt_array *indices;  // one per leading dimension of self; data NULL where there is none
  int count;
  Layout<1> positions;  // the common shape, with the strides of the other array
  Layout<2> rest;       // the dimensions without an index: self, other
  bool by_position;     // a copy of the rest per position
  const int64_t *self_sizes;
  int64_t self_strides[VT_MAX_DIMS];

  Plan(const vt_array &self, const vt_array &other, const vt_array *index_arrays, int64_t n)
      : indices(index_arrays), count(static_cast<int>(n)), self_sizes(self.sizes) {
    for (int d = 0; d < count; d++) self_strides[d] = self.strides[d];
    int rest_dims = self.ndim;
    for (int d = 0; d < count; d++) rest_dims -= given(indices[d]);
    const int common = other.ndim - rest_dims;
    for (int d = common - 1; d >= 0; d--) positions.push(other.sizes[d], other.strides[d]);
    positions.coalesce();
    int to = other.ndim - 1;
    for (int d = self.ndim - 1; d >= 0; d--) {
      if (d < count && given(indices[d])) continue;
      rest.push(other.sizes[to], self.strides[d], other.strides[to]);
      to--;
    }
    rest.sort(kOther);
    rest.coalesce();
    by_position = positions.ndim == 0 || rest.ndim == 0 ||
                  llabs(rest.strides[kOther][0]) <= llabs(positions.strides[0][0]);
  }

  // Makes one wider element of a rest that is one short run without gaps in both arrays. Returns how
  // many elements it was.
  int64_t widen(int64_t element_size) {
    if (rest.ndim != 1 || rest.strides[kSelf][0] != 1 || rest.strides[kOther][0] != 1) return 1;
    const int64_t length = rest.sizes[0], bytes = length * element_size;
    if (bytes > 16 || (bytes & (bytes - 1)) != 0) return 1;
    for (int d = 0; d < positions.ndim; d++) {
      if (positions.strides[0][d] % length != 0) return 1;
    }
    for (int d = 0; d < count; d++) {
      if (given(indices[d]) && self_strides[d] % length != 0) return 1;
    }
    for (int d = 0; d < positions.ndim; d++) positions.strides[0][d] /= length;
    for (int d = 0; d < count; d++) self_strides[d] /= length;
    rest.ndim = 0;
    return length;
  }
};

// Offsets of the positions [begin, begin + n).
struct Offsets {
  int64_t self[kBlock], other[kBlock];

  void compute(const Plan &plan, int64_t begin, int64_t n, IndexErrors &errors) {
    int64_t *to = other;
    const int64_t step = inner_stride(plan.positions, 0);
    for_runs(plan.positions, begin, begin + n, [&](const int64_t *offset, int64_t m) {
      for (int64_t i = 0; i < m; i++) to[i] = offset[0] + i * step;
      to += m;
    });
    memset(self, 0, n * sizeof(int64_t));
    for (int d = 0; d < plan.count; d++) {
      if (given(plan.indices[d])) add_index(plan, d, begin, n, errors);
    }
  }

 private:
  void add_index(const Plan &plan, int d, int64_t begin, int64_t n, IndexErrors &errors) {
    const vt_array &index = plan.indices[d];
    const int64_t size = plan.self_sizes[d], stride = plan.self_strides[d];
    const Layout<1> l = layout_of(-1, false, index);
    const int64_t step = inner_stride(l, 0);
    int64_t *to = self;
    for_runs(l, begin, begin + n, [&](const int64_t *offset, int64_t m) {
      const int64_t *from = data_of<const int64_t>(index) + offset[0];
      for (int64_t i = 0; i < m; i++) {
        const int64_t k = from[i * step], wrapped = k < 0 ? k + size : k;
        if (VT_LIKELY(in_range(wrapped, size))) {
          to[i] += wrapped * stride;
        } else {
          errors.raise(k, d, size);
        }
      }
      to += m;
    });
  }
};

// Applies op(self element, other element) to positions [p0, p1) and the part [r0, r1) of the rest.
template <class S, class O, class Op>
VT_NOINLINE void apply_part(const Plan &plan, S *self, O *other, int64_t p0, int64_t p1, int64_t r0,
                            int64_t r1, const Op &op, IndexErrors &errors) {
  const Layout<2> &rest = plan.rest;
  const int64_t self_step = inner_stride(rest, kSelf), other_step = inner_stride(rest, kOther);
  Offsets offsets;
  for (int64_t p = p0; p < p1; p += kBlock) {
    const int64_t n = min_of(kBlock, p1 - p);
    offsets.compute(plan, p, n, errors);
    if (plan.by_position && rest.ndim == 1) {
      for (int64_t i = 0; i < n; i++) {
        // Rows lie anywhere, which the processor cannot foresee.
        if (i + 1 < n) __builtin_prefetch(self + offsets.self[i + 1] + r0 * self_step);
        op.row(self + offsets.self[i] + r0 * self_step, self_step,
               other + offsets.other[i] + r0 * other_step, other_step, r1 - r0);
      }
    } else if (plan.by_position && rest.ndim > 1) {
      for (int64_t i = 0; i < n; i++) {
        for_runs(rest, r0, r1, [&](const int64_t *offset, int64_t m) {
          op.row(self + offsets.self[i] + offset[kSelf], self_step,
                 other + offsets.other[i] + offset[kOther], other_step, m);
        });
      }
    } else {
      Walker<2> walker(rest, r0);
      for (int64_t r = r0; r < r1; r++, walker.next()) {
        S *s = self + walker.offset[kSelf];
        O *o = other + walker.offset[kOther];
        for (int64_t i = 0; i < n; i++) op.element(s + offsets.self[i], o + offsets.other[i]);
      }
    }
  }
}

// Reading may be split anywhere; in writing, positions may meet in one place and are taken in their
// order, so only the rest is split.
template <bool kWriting, class S, class O, class Op>
vt_status apply(const Plan &plan, S *self, O *other, const Op &op, vt_context *context) {
  IndexErrors errors;
  const int64_t positions = plan.positions.numel(), rest = plan.rest.numel();
  if (positions == 0 || rest == 0) return VT_OK;
  if (kWriting) {  // a bad index must leave everything as it was
    Offsets offsets;
    for (int64_t p = 0; p < positions; p += kBlock) {
      offsets.compute(plan, p, min_of(kBlock, positions - p), errors);
    }
    if (errors.status(context) != VT_OK) return VT_ERROR_INDEX;
  }
  if (kWriting || rest > positions) {
    // Every part computes all offsets, which should not be most of its work.
    const int64_t grain = max_of(div_up(kGrainElements, positions), int64_t(16));
    parallel_for(rest, grain, [&](int64_t begin, int64_t end) {
      apply_part(plan, self, other, 0, positions, begin, end, op, errors);
    });
  } else {
    parallel_for(positions, div_up(kGrainElements, rest), [&](int64_t begin, int64_t end) {
      apply_part(plan, self, other, begin, end, 0, rest, op, errors);
    });
  }
  return errors.status(context);
}

// other = self
template <class T>
struct Read {
  VT_INLINE void element(const T *self, T *other) const { *other = *self; }
  VT_INLINE void row(const T *self, int64_t self_step, T *other, int64_t other_step,
                     int64_t n) const {
    if (self_step == 1 && other_step == 1) {
      memcpy(other, self, n * sizeof(T));
    } else {
      for (int64_t i = 0; i < n; i++) other[i * other_step] = self[i * self_step];
    }
  }
};

// self = other
template <class T>
struct Write {
  VT_INLINE void element(T *self, const T *other) const { *self = *other; }
  VT_INLINE void row(T *self, int64_t self_step, const T *other, int64_t other_step,
                     int64_t n) const {
    Read<T>().row(other, other_step, self, self_step, n);
  }
};

// self += other
template <class T>
struct Accumulate {
  using A = acc_t<T>;
  VT_INLINE void element(A *self, const T *other) const {
    *self = plus(*self, static_cast<A>(*other));
  }
  VT_INLINE void row(A *self, int64_t self_step, const T *other, int64_t other_step,
                     int64_t n) const {
    if (self_step == 1 && other_step == 1) {
#pragma omp simd
      for (int64_t i = 0; i < n; i++) self[i] = plus(self[i], static_cast<A>(other[i]));
    } else {
      for (int64_t i = 0; i < n; i++) element(self + i * self_step, other + i * other_step);
    }
  }
};

// Calls f(tag) of the unsigned integer that elements are moved as.
template <class F>
vt_status with_bytes(Plan &plan, const vt_array &self, const F &f) {
  const int64_t size = dtype_size(self.dtype);
  switch (size * plan.widen(size)) {
    case 1:
      return f(Tag<uint8_t>{});
    case 2:
      return f(Tag<uint16_t>{});
    case 4:
      return f(Tag<uint32_t>{});
    case 8:
      return f(Tag<uint64_t>{});
    default:
      return f(Tag<Bytes16>{});
  }
}

}  // namespace

// self, out; list of index arrays: int64, all of one shape (stride 0 where broadcast), one for each
// leading dimension of self, data NULL for a dimension taken whole. out has the common shape, then
// the dimensions taken whole. Negative indices count from the end.
vt_status index_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  Plan plan(a[0], a[1], v[0].arrays, v[0].n);
  return with_bytes(plan, a[0], [&](auto tag) {
    using T = typename decltype(tag)::type;
    return apply<false>(plan, data_of<const T>(a[0]), data_of<T>(a[1]), Read<T>(), context);
  });
}

// self (written in place), source (shape as index_cpu's out; may be expanded); list of index arrays,
// accumulate. Where several positions name one place the last one stands, or all are added in order.
vt_status index_put_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const vt_array &self = a[0], &source = a[1];
  if (source.numel == 0) return VT_OK;
  if (v[1].i == 0) {
    Plan plan(self, source, v[0].arrays, v[0].n);
    return with_bytes(plan, self, [&](auto tag) {
      using T = typename decltype(tag)::type;
      return apply<true>(plan, data_of<T>(self), data_of<const T>(source), Write<T>(), context);
    });
  }
  return dispatch<kAll>(self.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return on_accumulator<T>(self, [&](const vt_array &sums) {
      const Plan plan(sums, source, v[0].arrays, v[0].n);
      return apply<true>(plan, data_of<acc_t<T>>(sums), data_of<const T>(source), Accumulate<T>(),
                         context);
    });
  });
}

}  // namespace VT_NS
