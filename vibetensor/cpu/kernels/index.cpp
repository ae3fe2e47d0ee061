// Indexing along one dimension: gather, scatter, index_select, index_add.
//
// All of them walk over a shape in which one array (the table) is addressed through an index along
// one dimension and directly along the others.
#include "vibetensor/cpu/kernels/accumulate.h"
#include "vibetensor/cpu/kernels/index_error.h"
#include "vibetensor/cpu/kernels/scalar.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainElements = 16 << 10;

enum { kValues = 0, kIndex = 1, kTable = 2 };  // operands of the walk

struct Walk {
  Layout<3> layout;
  int64_t step = 0;  // of the table along the indexed dimension
  int64_t size = 1;  // of the table there
  int dim;

  // The shape is that of `values`; `index` has it too, or is one-dimensional along `dim`.
  Walk(const vt_array &values, const vt_array &index, const vt_array &table, int along)
      : dim(along) {
    if (table.ndim > 0) {
      step = table.strides[dim];
      size = table.sizes[dim];
    }
    const bool aligned = index.ndim == values.ndim && index.ndim != 1;
    for (int d = values.ndim - 1; d >= 0; d--) {
      const int64_t index_stride = aligned ? index.strides[d] : d == dim ? line_stride(index) : 0;
      const int64_t table_stride = d == dim || table.ndim == 0 ? 0 : table.strides[d];
      layout.push(shape_of(values, index, d), values.strides[d], index_stride, table_stride);
    }
    layout.sort();
    layout.coalesce();
  }

  // Makes one wider element of an innermost run that both arrays have without gaps. Returns how many
  // elements it was.
  int64_t widen(int64_t element_size) {
    if (layout.ndim == 0 || layout.strides[kIndex][0] != 0) return 1;
    const int64_t n = layout.sizes[0], bytes = n * element_size;
    if (layout.strides[kValues][0] != 1 || layout.strides[kTable][0] != 1) return 1;
    if (bytes > 16 || (bytes & (bytes - 1)) != 0 || step % n != 0) return 1;
    for (int d = 1; d < layout.ndim; d++) {
      if (layout.strides[kValues][d] % n != 0 || layout.strides[kTable][d] % n != 0) return 1;
    }
    layout.ndim--;
    for (int d = 0; d < layout.ndim; d++) {
      layout.sizes[d] = layout.sizes[d + 1];
      layout.strides[kIndex][d] = layout.strides[kIndex][d + 1];
      layout.strides[kValues][d] = layout.strides[kValues][d + 1] / n;
      layout.strides[kTable][d] = layout.strides[kTable][d + 1] / n;
    }
    step /= n;
    return n;
  }

  // Short rows cost more than their gaps.
  void lengthen_rows() {
    if (layout.ndim > 1 && layout.sizes[0] < 8 && layout.sizes[1] > layout.sizes[0]) exchange(0, 1);
  }

  // Whether one index stands for all of an innermost run, and how many units of work that makes.
  bool by_rows() const { return inner_stride(layout, kIndex) == 0; }
  int64_t unit() const {
    return by_rows() && layout.ndim > 0 ? max_of(layout.sizes[0], int64_t(1)) : 1;
  }
  int64_t units() const { return by_rows() ? rows().numel() : layout.numel(); }
  Layout<3> rows() const {
    Layout<3> l;
    for (int d = 1; d < layout.ndim; d++) {
      l.push(layout.sizes[d], layout.strides[kValues][d], layout.strides[kIndex][d],
             layout.strides[kTable][d]);
    }
    return l;
  }

  // A part of dimension `d`; offsets of operands go into `offset`.
  Walk part(int d, int64_t begin, int64_t end, int64_t *offset) const {
    Walk w = *this;
    w.layout.sizes[d] = end - begin;
    for (int k = 0; k < 3; k++) offset[k] = begin * layout.strides[k][d];
    return w;
  }

 private:
  static int64_t line_stride(const vt_array &index) {
    return index.ndim > 0 ? index.strides[0] : 0;
  }
  // scatter takes an index that is smaller than its source.
  static int64_t shape_of(const vt_array &values, const vt_array &index, int d) {
    return index.ndim == values.ndim ? index.sizes[d] : values.sizes[d];
  }
  void exchange(int a, int b) {
    const int64_t n = layout.sizes[a];
    layout.sizes[a] = layout.sizes[b];
    layout.sizes[b] = n;
    for (int k = 0; k < 3; k++) {
      const int64_t s = layout.strides[k][a];
      layout.strides[k][a] = layout.strides[k][b];
      layout.strides[k][b] = s;
    }
  }
};

// One run of a walk: `n` elements with these steps.
struct Run {
  int64_t n, values, index, table;
};

// What is done with a value and a place of the table, once per element and for whole rows of one
// index.
template <class T>
struct Fetch {
  using Value = T;
  using Place = const T;
  VT_INLINE void element(T *value, const T *place) const { *value = *place; }
  VT_INLINE void row(T *values, int64_t value_step, const T *table, int64_t table_step,
                     int64_t n) const {
    if (value_step == 1 && table_step == 1) {
      memcpy(values, table, n * sizeof(T));
    } else {
      for (int64_t i = 0; i < n; i++) values[i * value_step] = table[i * table_step];
    }
  }
};

template <class T>
struct Assign {
  using Value = const T;
  using Place = T;
  VT_INLINE void element(const T *value, T *place) const { *place = *value; }
  VT_INLINE void row(const T *values, int64_t value_step, T *table, int64_t table_step,
                     int64_t n) const {
    if (value_step == 1 && table_step == 1) {
      memcpy(table, values, n * sizeof(T));
    } else {
      for (int64_t i = 0; i < n; i++) table[i * table_step] = values[i * value_step];
    }
  }
};

template <class T, bool kScaled>
struct Add {
  using A = acc_t<T>;
  using Value = const T;
  using Place = A;
  A alpha;
  VT_INLINE A term(T value) const {
    const A x = static_cast<A>(value);
    return kScaled ? times(alpha, x) : x;
  }
  VT_INLINE void element(const T *value, A *place) const { *place = plus(*place, term(*value)); }
  VT_INLINE void row(const T *values, int64_t value_step, A *table, int64_t table_step,
                     int64_t n) const {
    if (value_step == 1 && table_step == 1) {
#pragma omp simd
      for (int64_t i = 0; i < n; i++) table[i] = plus(table[i], term(values[i]));
    } else {
      for (int64_t i = 0; i < n; i++) element(values + i * value_step, table + i * table_step);
    }
  }
};

template <bool kChecked, class Op>
VT_INLINE void do_elements(const Op &op, const Walk &w, const Run &r, typename Op::Value *values,
                           const int64_t *index, typename Op::Place *table, IndexErrors &errors) {
  const int64_t size = w.size, step = w.step, n = r.n;
#pragma GCC unroll 4
  for (int64_t i = 0; i < n; i++) {
    const int64_t k = index[i * r.index];
    if (kChecked && VT_UNLIKELY(!in_range(k, size))) return errors.raise(k, w.dim, size);
    op.element(values + i * r.values, table + i * r.table + k * step);
  }
}

template <bool kChecked, class Op>
VT_INLINE void do_run(const Op &op, const Walk &w, const Run &r, typename Op::Value *values,
                      const int64_t *index, typename Op::Place *table, IndexErrors &errors) {
  if (r.values == 1 && r.index == 1 && r.table == 0) {
    do_elements<kChecked>(op, w, {r.n, 1, 1, 0}, values, index, table, errors);
  } else if (r.values == 1 && r.index == 1 && r.table == 1) {
    do_elements<kChecked>(op, w, {r.n, 1, 1, 1}, values, index, table, errors);
  } else {
    do_elements<kChecked>(op, w, r, values, index, table, errors);
  }
}

// Rows that one index stands for. `row` has the steps between rows, `r` those within one.
template <bool kChecked, class Op>
VT_INLINE void do_rows(const Op &op, const Walk &w, const Run &row, const Run &r,
                       typename Op::Value *values, const int64_t *index, typename Op::Place *table,
                       IndexErrors &errors) {
  const int64_t size = w.size, step = w.step;
  for (int64_t i = 0; i < row.n; i++) {
    const int64_t k = index[i * row.index];
    if (kChecked && VT_UNLIKELY(!in_range(k, size))) return errors.raise(k, w.dim, size);
    // Rows lie anywhere, which the processor cannot foresee.
    if (i + 1 < row.n)
      __builtin_prefetch(table + (i + 1) * row.table + index[(i + 1) * row.index] * step);
    op.row(values + i * row.values, r.values, table + i * row.table + k * step, r.table, r.n);
  }
}

// Does the units [begin, end) of a walk: rows, or elements.
template <bool kChecked, class Op>
void do_part(const Op &op, const Walk &w, int64_t begin, int64_t end, typename Op::Value *values,
             const int64_t *index, typename Op::Place *table, IndexErrors &errors) {
  const Layout<3> &l = w.layout;
  Run run = {0, inner_stride(l, kValues), inner_stride(l, kIndex), inner_stride(l, kTable)};
  if (!w.by_rows()) {
    for_runs(l, begin, end, [&](const int64_t *offset, int64_t n) {
      run.n = n;
      do_run<kChecked>(op, w, run, values + offset[kValues], index + offset[kIndex],
                       table + offset[kTable], errors);
    });
    return;
  }
  run.n = l.ndim > 0 ? l.sizes[0] : 1;
  const Layout<3> rows = w.rows();
  Run row = {0, inner_stride(rows, kValues), inner_stride(rows, kIndex),
             inner_stride(rows, kTable)};
  for_runs(rows, begin, end, [&](const int64_t *offset, int64_t n) {
    row.n = n;
    do_rows<kChecked>(op, w, row, run, values + offset[kValues], index + offset[kIndex],
                      table + offset[kTable], errors);
  });
}

// Reads from the table: any order will do.
template <bool kChecked, class T>
void fetch_all(const Walk &w, char *values, const int64_t *index, const char *table,
               IndexErrors &errors) {
  if (w.layout.numel() == 0) return;
  parallel_for(w.units(), div_up(kGrainElements, w.unit()), [&](int64_t begin, int64_t end) {
    do_part<kChecked>(Fetch<T>(), w, begin, end, reinterpret_cast<T *>(values), index,
                      reinterpret_cast<const T *>(table), errors);
  });
}

template <bool kChecked>
void fetch_bytes(const Walk &w, int64_t size, char *values, const int64_t *index, const char *table,
                 IndexErrors &errors) {
  switch (size) {
    case 1:
      return fetch_all<kChecked, uint8_t>(w, values, index, table, errors);
    case 2:
      return fetch_all<kChecked, uint16_t>(w, values, index, table, errors);
    case 4:
      return fetch_all<kChecked, uint32_t>(w, values, index, table, errors);
    case 8:
      return fetch_all<kChecked, uint64_t>(w, values, index, table, errors);
    default:
      return fetch_all<kChecked, Bytes16>(w, values, index, table, errors);
  }
}

// Writes to the table, the index having been checked. Elements that meet in one place differ in their position along the indexed
// dimension only; that one is never split, and always walked upwards, so the result does not depend
// on the number of threads.
template <class Op>
void write_all(const Op &op, const Walk &w, typename Op::Value *values, const int64_t *index,
               typename Op::Place *table) {
  IndexErrors errors;
  const int64_t numel = w.layout.numel();
  if (numel == 0) return;
  int split = -1;
  for (int d = 0; d < w.layout.ndim; d++) {
    if (w.layout.strides[kTable][d] == 0) continue;
    if (split < 0 || w.layout.sizes[d] > w.layout.sizes[split]) split = d;
  }
  if (split < 0) return do_part<false>(op, w, 0, w.units(), values, index, table, errors);
  const int64_t size = w.layout.sizes[split];
  parallel_for(size, div_up(kGrainElements, numel / size), [&](int64_t begin, int64_t end) {
    int64_t offset[3];
    const Walk part = w.part(split, begin, end, offset);
    do_part<false>(op, part, 0, part.units(), values + offset[kValues], index + offset[kIndex],
                   table + offset[kTable], errors);
  });
}

template <class T, bool kScaled>
vt_status add_typed(const vt_array &out, const vt_array &index, const int64_t *places,
                    const vt_array &source, int dim, acc_t<T> alpha) {
  return on_accumulator<T>(out, [&](const vt_array &sums) {
    const Walk w(source, index, sums, dim);
    write_all(Add<T, kScaled>{alpha}, w, data_of<const T>(source), places, data_of<acc_t<T>>(sums));
    return VT_OK;
  });
}

void check_run(const int64_t *index, int64_t step, int64_t n, int64_t size, int dim,
               IndexErrors &errors) {
  // An index out of range makes one of its distances to the ends negative.
  uint64_t signs = 0;
#pragma omp simd reduction(| : signs)
  for (int64_t i = 0; i < n; i++) {
    const uint64_t k = static_cast<uint64_t>(index[i * step]);
    signs |= k | (static_cast<uint64_t>(size - 1) - k);
  }
  if (VT_LIKELY(signs >> 63 == 0)) return;
  for (int64_t i = 0; i < n; i++) {
    if (!in_range(index[i * step], size)) errors.raise(index[i * step], dim, size);
  }
}

// Checks a whole index, so that a bad one leaves everything as it was.
vt_status check_index(const vt_array &index, const int64_t *places, const vt_array &table, int dim,
                      vt_context *context) {
  const int64_t size = table.ndim > 0 ? table.sizes[dim] : 1;
  Layout<1> l;
  for (int d = index.ndim - 1; d >= 0; d--) {
    if (index.sizes[d] == 0) return VT_OK;
    if (index.strides[d] != 0) l.push(index.sizes[d], index.strides[d]);
  }
  l.coalesce();
  const int64_t step = inner_stride(l, 0);
  IndexErrors errors;
  parallel_for(l.numel(), 4 * kGrainElements, [&](int64_t begin, int64_t end) {
    for_runs(l, begin, end, [&](const int64_t *offset, int64_t n) {
      check_run(places + offset[0], step, n, size, dim, errors);
    });
  });
  return errors.status(context);
}

// The index as a flat array of int64 beside a descriptor that says so.
struct FlatIndex {
  Indices indices;
  vt_array array;
  int64_t stride = 1;
  explicit FlatIndex(const vt_array &index) : indices(index), array(index) {
    array.strides = &stride;
    array.sizes = &array.numel;
    array.ndim = 1;
  }
};

// What PyTorch reports as a RuntimeError.
vt_status as_bounds(vt_status status) {
  return status == VT_ERROR_INDEX ? VT_ERROR_BOUNDS : status;
}

}  // namespace

// input, index (int64), out (of the index's shape); dim.
vt_status gather_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  Walk w(a[2], a[1], a[0], static_cast<int>(v[0].i));
  const int64_t size = dtype_size(a[2].dtype);
  const int64_t wide = w.widen(size);
  w.lengthen_rows();
  IndexErrors errors;
  fetch_bytes<true>(w, size * wide, a[2].data, data_of<const int64_t>(a[1]), a[0].data, errors);
  return as_bounds(errors.status(context));
}

// out (holds the input), index (int64), source; dim. The last of several writes to a place stands.
vt_status scatter_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const int dim = static_cast<int>(v[0].i);
  const int64_t *places = data_of<const int64_t>(a[1]);
  const vt_status status = check_index(a[1], places, a[0], dim, context);
  if (status != VT_OK) return as_bounds(status);
  const Walk w(a[2], a[1], a[0], dim);
  return dispatch_size(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    write_all(Assign<T>(), w, data_of<const T>(a[2]), places, data_of<T>(a[0]));
  });
}

// out (holds the input), index (int64), source; dim.
vt_status scatter_add_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const int dim = static_cast<int>(v[0].i);
  const int64_t *places = data_of<const int64_t>(a[1]);
  const vt_status status = check_index(a[1], places, a[0], dim, context);
  if (status != VT_OK) return as_bounds(status);
  return dispatch<kAll>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return add_typed<T, false>(a[0], a[1], places, a[2], dim, acc_t<T>());
  });
}

// input, index (int32 or int64, at most one dimension), out; dim.
vt_status index_select_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const FlatIndex index(a[1]);
  if (!index.indices.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const int dim = static_cast<int>(v[0].i);
  const int64_t *places = index.indices.data();
  const vt_status status = check_index(index.array, places, a[0], dim, context);
  if (status != VT_OK) return status;
  Walk w(a[2], index.array, a[0], dim);
  const int64_t size = dtype_size(a[2].dtype);
  const int64_t wide = w.widen(size);
  w.lengthen_rows();
  IndexErrors errors;
  fetch_bytes<false>(w, size * wide, a[2].data, places, a[0].data, errors);
  return VT_OK;
}

// out (holds the input), index (int32 or int64, at most one dimension), source; dim, alpha.
vt_status index_add_cpu(const vt_array *a, const vt_value *v, vt_context *context) {
  const FlatIndex index(a[1]);
  if (!index.indices.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const int dim = static_cast<int>(v[0].i);
  const int64_t *places = index.indices.data();
  const vt_status status = check_index(index.array, places, a[0], dim, context);
  if (status != VT_OK) return a[0].ndim > 1 ? as_bounds(status) : status;
  const bool scaled = v[1].kind != VT_VALUE_INT || v[1].i != 1;
  return dispatch<kAll>(a[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const acc_t<T> alpha = element_from<acc_t<T>>(v[1]);
    return scaled ? add_typed<T, true>(a[0], index.array, places, a[2], dim, alpha)
                  : add_typed<T, false>(a[0], index.array, places, a[2], dim, alpha);
  });
}

}  // namespace VT_NS
