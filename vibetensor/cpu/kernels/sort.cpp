// sort and topk along one dimension. NaN counts as the largest value; equal values keep their order.
#include "vibetensor/cpu/kernels/reduce_ops.h"

namespace VT_NS {

namespace {

constexpr int64_t kGrainWork = 4096;
constexpr int64_t kInsertion = 24;  // runs up to this length are sorted by insertion
constexpr int64_t kSmallK = 32;     // up to this k, the best are kept in a sorted list

template <class T>
struct Item {
  T value;
  int64_t index;
};

// Whether a comes before b in ascending order.
template <class T>
VT_INLINE bool before(T a, T b) {
  if constexpr (is_half_type<T>) {
    return before(static_cast<float>(a), static_cast<float>(b));
  } else if constexpr (std::is_floating_point<T>::value) {
    return a < b || (b != b && a == a);
  } else {
    return a < b;
  }
}

template <bool kDescending, class T>
VT_INLINE bool precedes(const Item<T> &a, const Item<T> &b) {
  return kDescending ? before(b.value, a.value) : before(a.value, b.value);
}

template <bool kDescending, class T>
void insertion_sort(Item<T> *x, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    const Item<T> item = x[i];
    int64_t j = i;
    for (; j > 0 && precedes<kDescending>(item, x[j - 1]); j--) x[j] = x[j - 1];
    x[j] = item;
  }
}

// Bottom-up merge sort: short runs by insertion, then merged pairwise between x and spare.
template <bool kDescending, class T>
void merge_sort(Item<T> *x, Item<T> *spare, int64_t n) {
  for (int64_t i = 0; i < n; i += kInsertion) {
    insertion_sort<kDescending>(x + i, min_of(kInsertion, n - i));
  }
  Item<T> *from = x, *to = spare;
  for (int64_t width = kInsertion; width < n; width *= 2) {
    for (int64_t i = 0; i < n; i += 2 * width) {
      const int64_t middle = min_of(i + width, n), end = min_of(i + 2 * width, n);
      int64_t a = i, b = middle, k = i;
      while (a < middle && b < end) {
        to[k++] = precedes<kDescending>(from[b], from[a]) ? from[b++] : from[a++];
      }
      while (a < middle) to[k++] = from[a++];
      while (b < end) to[k++] = from[b++];
    }
    Item<T> *t = from;
    from = to;
    to = t;
  }
  if (from != x) memcpy(x, from, n * sizeof(Item<T>));
}

// The k first of n items in order, into best.
template <bool kDescending, class T>
void keep_best(const T *x, int64_t stride, int64_t n, Item<T> *best, int64_t k) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    const Item<T> item = {x[i * stride], i};
    if (count == k && !precedes<kDescending>(item, best[k - 1])) continue;
    int64_t j = count < k ? count++ : k - 1;
    for (; j > 0 && precedes<kDescending>(item, best[j - 1]); j--) best[j] = best[j - 1];
    best[j] = item;
  }
}

// The k first items of every row along dim, in order.
template <bool kDescending, class T>
vt_status ordered(const vt_array &in, const vt_array &values, const vt_array &indices, int64_t dim,
                  int64_t k) {
  const int64_t n = in.ndim > 0 ? in.sizes[dim] : 1;
  if (in.numel == 0 || k == 0) return VT_OK;
  const T *x = data_of<T>(in);
  T *y = data_of<T>(values);
  int64_t *z = data_of<int64_t>(indices);
  const int64_t stride = in.ndim > 0 ? in.strides[dim] : 1;
  const int64_t y_stride = in.ndim > 0 ? values.strides[dim] : 1;
  const int64_t z_stride = in.ndim > 0 ? indices.strides[dim] : 1;
  const auto rows = layout_of(in.ndim > 0 ? static_cast<int>(dim) : -1, true, in, values, indices);
  const int64_t x_step = inner_stride(rows, 0), y_step = inner_stride(rows, 1);
  const int64_t z_step = inner_stride(rows, 2);
  const bool few = k < n && k <= kSmallK;
  const size_t room = static_cast<size_t>(few ? k : 2 * n) * sizeof(Item<T>);
  vt_status status = VT_OK;
  parallel_for(in.numel / n, 1 + kGrainWork / n, [&](int64_t begin, int64_t end) {
    Item<T> *items = static_cast<Item<T> *>(malloc(room));
    if (items == nullptr) {
      __atomic_store_n(&status, VT_ERROR_OUT_OF_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    for_runs(rows, begin, end, [&](const int64_t *offset, int64_t count) {
      for (int64_t r = 0; r < count; r++) {
        const T *p = x + offset[0] + r * x_step;
        if (few) {
          keep_best<kDescending>(p, stride, n, items, k);
        } else {
          for (int64_t i = 0; i < n; i++) items[i] = {p[i * stride], i};
          merge_sort<kDescending>(items, items + n, n);
        }
        T *q = y + offset[1] + r * y_step;
        int64_t *s = z + offset[2] + r * z_step;
        for (int64_t i = 0; i < k; i++) {
          q[i * y_stride] = items[i].value;
          s[i * z_stride] = items[i].index;
        }
      }
    });
    free(items);
  });
  return status;
}

vt_status ordered_any(const vt_array *a, int64_t dim, int64_t k, bool descending) {
  return dispatch<(kAll & ~kBool) & ~kComplex>(bool_as_byte(a[0].dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    return descending ? ordered<true, T>(a[0], a[1], a[2], dim, k)
                      : ordered<false, T>(a[0], a[1], a[2], dim, k);
  });
}

}  // namespace

// arrays: input, values, indices; values: dim, descending, stable (it always is).
vt_status sort_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const int64_t n = a[0].ndim > 0 ? a[0].sizes[v[0].i] : 1;
  return ordered_any(a, v[0].i, n, v[1].i != 0);
}

// arrays: input, values, indices; values: k, dim, largest, sorted (they always are).
vt_status topk_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  return ordered_any(a, v[1].i, v[0].i, v[2].i != 0);
}

}  // namespace VT_NS
