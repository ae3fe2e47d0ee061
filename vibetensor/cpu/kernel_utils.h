// What every CPU kernel shares: dtype dispatch, compute types, walking strided arrays, scratch
// memory.
//
// Included by translation units that are compiled once per instruction set, so everything lies in
// namespace VT_NS. Keep standard library templates over plain types out of such files: the linker
// merges their instances, and a processor could end up running code built for a newer one.
#ifndef VT_CPU_KERNEL_UTILS_H
#define VT_CPU_KERNEL_UTILS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <type_traits>

#include "vibetensor/cpu/parallel.h"
#include "vibetensor/types.h"
#include "vt/complex.h"
#include "vt/half.h"

#define VT_INLINE inline __attribute__((always_inline))
#define VT_NOINLINE __attribute__((noinline, noclone))
#define VT_LIKELY(x) __builtin_expect(!!(x), 1)
#define VT_UNLIKELY(x) __builtin_expect(!!(x), 0)

namespace VT_NS {

using vt_parallel::parallel_for;

// ---- types ----

template <class T>
struct Tag {
  using type = T;
};

// The code of a type, and the type that a sum or product of many of its values is given in.
template <class T>
struct TypeTraits;
#define VT_TYPE_TRAITS(T, CODE, SUM)  \
  template <>                         \
  struct TypeTraits<T> {              \
    static constexpr int code = CODE; \
    using sum = SUM;                  \
  };
VT_TYPE_TRAITS(bool, VT_BOOL, int64_t)
VT_TYPE_TRAITS(uint8_t, VT_U8, int64_t)
VT_TYPE_TRAITS(int8_t, VT_I8, int64_t)
VT_TYPE_TRAITS(int16_t, VT_I16, int64_t)
VT_TYPE_TRAITS(int32_t, VT_I32, int64_t)
VT_TYPE_TRAITS(int64_t, VT_I64, int64_t)
VT_TYPE_TRAITS(half, VT_F16, float)
VT_TYPE_TRAITS(bfloat16, VT_BF16, float)
VT_TYPE_TRAITS(float, VT_F32, float)
VT_TYPE_TRAITS(double, VT_F64, double)
VT_TYPE_TRAITS(complex<float>, VT_C64, complex<float>)
VT_TYPE_TRAITS(complex<double>, VT_C128, complex<double>)
#undef VT_TYPE_TRAITS

template <class T>
using sum_t = typename TypeTraits<T>::sum;

// Sets of dtypes, as bit masks over the codes.
enum : unsigned {
  kBool = 1u << VT_BOOL,
  kIntegers = 1u << VT_U8 | 1u << VT_I8 | 1u << VT_I16 | 1u << VT_I32 | 1u << VT_I64,
  kHalves = 1u << VT_F16 | 1u << VT_BF16,
  kFloatDouble = 1u << VT_F32 | 1u << VT_F64,
  kFloating = kHalves | kFloatDouble,
  kComplex = 1u << VT_C64 | 1u << VT_C128,
  kIntegral = kBool | kIntegers,
  kReal = kIntegral | kFloating,
  kAll = kReal | kComplex
};

template <class T, class F>
VT_INLINE vt_status call_tagged(F &f) {
  if constexpr (std::is_void<decltype(f(Tag<T>{}))>::value) {
    f(Tag<T>{});
    return VT_OK;
  } else {
    return f(Tag<T>{});
  }
}

// Calls f(Tag<T>{}) for the C++ type of `dtype`; only the types of `Set` are instantiated. `f`
// returns nothing or a vt_status. Use: dispatch<kFloating>(dtype, [&](auto tag) {
//   using T = typename decltype(tag)::type; ... });
template <unsigned Set, class F>
inline vt_status dispatch(int dtype, F &&f) {
#define VT_CASE(CODE, T)                \
  case CODE:                            \
    if constexpr ((Set >> CODE) & 1u) { \
      return call_tagged<T>(f);         \
    } else {                            \
      return VT_ERROR_DTYPE;            \
    }
  switch (dtype) {
    VT_CASE(VT_BOOL, bool)
    VT_CASE(VT_U8, uint8_t)
    VT_CASE(VT_I8, int8_t)
    VT_CASE(VT_I16, int16_t)
    VT_CASE(VT_I32, int32_t)
    VT_CASE(VT_I64, int64_t)
    VT_CASE(VT_F16, half)
    VT_CASE(VT_BF16, bfloat16)
    VT_CASE(VT_F32, float)
    VT_CASE(VT_F64, double)
    VT_CASE(VT_C64, complex<float>)
    VT_CASE(VT_C128, complex<double>)
  }
#undef VT_CASE
  return VT_ERROR_DTYPE;
}

// The type of an unsigned integer of the given size, for kernels that only move bytes.
template <int Bytes>
struct RawBytes;
template <>
struct RawBytes<1> {
  using type = uint8_t;
};
template <>
struct RawBytes<2> {
  using type = uint16_t;
};
template <>
struct RawBytes<4> {
  using type = uint32_t;
};
template <>
struct RawBytes<8> {
  using type = uint64_t;
};
struct Bytes16 {
  uint64_t lo, hi;
};
template <>
struct RawBytes<16> {
  using type = Bytes16;
};

inline int dtype_size(int dtype) {
  static constexpr uint8_t sizes[VT_NUM_DTYPES] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16};
  return sizes[dtype];
}

// dispatch() by element size only: at most five instances of a kernel that only moves elements.
template <class F>
inline vt_status dispatch_size(int dtype, F &&f) {
  switch (dtype_size(dtype)) {
    case 1:
      return call_tagged<uint8_t>(f);
    case 2:
      return call_tagged<uint16_t>(f);
    case 4:
      return call_tagged<uint32_t>(f);
    case 8:
      return call_tagged<uint64_t>(f);
    default:
      return call_tagged<Bytes16>(f);
  }
}

// ---- small helpers ----

template <class T>
VT_INLINE constexpr T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
VT_INLINE constexpr T max_of(T a, T b) {
  return a < b ? b : a;
}
template <class T>
VT_INLINE constexpr T clamp_to(T x, T lo, T hi) {
  return x < lo ? lo : hi < x ? hi : x;
}
VT_INLINE constexpr int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
VT_INLINE T *data_of(const vt_array &a) {
  return reinterpret_cast<T *>(a.data);
}
// Whether an optional array was given (an input) or is wanted (an output).
VT_INLINE bool given(const vt_array &a) { return a.data != nullptr; }

// Whether the stride of every dimension with more than one element is row-major.
inline bool is_contiguous(const vt_array &a) {
  if (a.contiguous) return true;
  int64_t expected = 1;
  for (int k = a.ndim - 1; k >= 0; k--) {
    if (a.sizes[k] == 1) continue;
    if (a.strides[k] != expected) return false;
    expected *= a.sizes[k];
  }
  return true;
}

// ---- walking strided arrays ----

// Up to N operands over one shape. Dimension 0 is the innermost; strides are in elements.
template <int N>
struct Layout {
  int ndim = 0;
  int64_t sizes[VT_MAX_DIMS];
  int64_t strides[N][VT_MAX_DIMS];

  // Appends a dimension outside of those already there. Dimensions of one element are dropped.
  template <class... S>
  VT_INLINE void push(int64_t size, S... stride) {
    static_assert(sizeof...(S) == N, "one stride per operand");
    if (size == 1) return;
    const int64_t given_strides[N] = {static_cast<int64_t>(stride)...};
    sizes[ndim] = size;
    for (int k = 0; k < N; k++) strides[k][ndim] = given_strides[k];
    ndim++;
  }

  int64_t numel() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; d++) n *= sizes[d];
    return n;
  }

  // Orders the dimensions by the stride of operand `key`, smallest innermost, ties by the other
  // operands. Only for walks whose order does not matter.
  void sort(int key = 0) {
    for (int i = 1; i < ndim; i++) {
      for (int j = i; j > 0 && inside(j, j - 1, key); j--) swap_dims(j, j - 1);
    }
  }

  // Merges neighbours that are one dimension for every operand.
  void coalesce() {
    int kept = 0;
    for (int d = 1; d < ndim; d++) {
      bool merges = true;
      for (int k = 0; k < N; k++) {
        merges &= strides[k][d] == strides[k][kept] * sizes[kept];
      }
      if (merges) {
        sizes[kept] *= sizes[d];
      } else {
        kept++;
        sizes[kept] = sizes[d];
        for (int k = 0; k < N; k++) strides[k][kept] = strides[k][d];
      }
    }
    if (ndim > 0) ndim = kept + 1;
  }

 private:
  bool inside(int a, int b, int key) const {
    for (int n = 0; n < N; n++) {
      const int k = (key + n) % N;
      const int64_t sa = llabs(strides[k][a]), sb = llabs(strides[k][b]);
      if (sa != sb) return sa < sb;
    }
    return false;
  }
  void swap_dims(int a, int b) {
    const int64_t s = sizes[a];
    sizes[a] = sizes[b];
    sizes[b] = s;
    for (int k = 0; k < N; k++) {
      const int64_t t = strides[k][a];
      strides[k][a] = strides[k][b];
      strides[k][b] = t;
    }
  }
};

// A position in a layout: the offset of every operand, stepped through in order from any start.
// Steps over dimensions `First` and up, so that First = 1 walks the rows of dimension 0.
template <int N, int First = 0>
struct Walker {
  const Layout<N> &layout;
  int64_t offset[N];
  int64_t index[VT_MAX_DIMS];

  explicit Walker(const Layout<N> &l, int64_t start = 0) : layout(l) {
    for (int k = 0; k < N; k++) offset[k] = 0;
    for (int d = First; d < l.ndim; d++) {
      if (start == 0) {
        index[d] = 0;
        continue;
      }
      const int64_t size = l.sizes[d], i = start % size;
      start /= size;
      index[d] = i;
      for (int k = 0; k < N; k++) offset[k] += i * l.strides[k][d];
    }
  }

  VT_INLINE void next() {
    for (int d = First; d < layout.ndim; d++) {
      for (int k = 0; k < N; k++) offset[k] += layout.strides[k][d];
      if (VT_LIKELY(++index[d] < layout.sizes[d])) return;
      for (int k = 0; k < N; k++) offset[k] -= layout.sizes[d] * layout.strides[k][d];
      index[d] = 0;
    }
  }
};

// Splits elements [begin, end) of a layout into runs within dimension 0 and calls
// f(offsets, count) for each; the strides within a run are layout.strides[k][0].
template <int N, class F>
inline void for_runs(const Layout<N> &l, int64_t begin, int64_t end, const F &f) {
  if (begin >= end) return;
  if (l.ndim == 0) {
    const int64_t zero[N] = {};
    f(zero, int64_t(1));
    return;
  }
  const int64_t row = l.sizes[0];
  int64_t col = begin % row;
  Walker<N, 1> walker(l, begin / row);
  int64_t offset[N];
  while (begin < end) {
    const int64_t n = min_of(row - col, end - begin);
    for (int k = 0; k < N; k++) offset[k] = walker.offset[k] + col * l.strides[k][0];
    f(offset, n);
    begin += n;
    col = 0;
    if (begin < end) walker.next();
  }
}

template <int N>
VT_INLINE int64_t inner_stride(const Layout<N> &l, int k) {
  return l.ndim > 0 ? l.strides[k][0] : 0;
}

namespace detail {
template <int N>
inline void push_dims(Layout<N> &l, int skip, const vt_array *const *arrays) {
  for (int d = arrays[0]->ndim - 1; d >= 0; d--) {
    if (d == skip || arrays[0]->sizes[d] == 1) continue;
    l.sizes[l.ndim] = arrays[0]->sizes[d];
    for (int k = 0; k < N; k++) l.strides[k][l.ndim] = arrays[k]->strides[d];
    l.ndim++;
  }
}
}  // namespace detail

// Dimensions of arrays of one shape, dimension `skip` left out (-1: none), coalesced. With
// `reorder` they are sorted first by the strides of the first array, for walks whose order does not
// matter.
template <class... Arrays>
inline Layout<1 + sizeof...(Arrays)> layout_of(int skip, bool reorder, const vt_array &first,
                                               const Arrays &...rest) {
  Layout<1 + sizeof...(Arrays)> l;
  const vt_array *const arrays[] = {&first, &rest...};
  detail::push_dims(l, skip, arrays);
  if (reorder) l.sort();
  l.coalesce();
  return l;
}

// ---- scratch memory ----

// Uninitialised room for n elements, on the stack up to Inline elements, else from malloc. Check
// ok() where n is not bounded.
template <class T, int64_t Inline = 1024>
class Scratch {
 public:
  explicit Scratch(int64_t n) {
    if (n <= Inline) {
      data_ = reinterpret_cast<T *>(inline_);
    } else {
      const size_t bytes = (static_cast<size_t>(n) * sizeof(T) + 63) & ~size_t(63);
      heap_ = aligned_alloc(64, bytes);
      data_ = static_cast<T *>(heap_);
    }
  }
  ~Scratch() {
    if (VT_UNLIKELY(heap_ != nullptr)) free(heap_);
  }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;

  bool ok() const { return data_ != nullptr; }
  VT_INLINE T *data() const { return data_; }
  VT_INLINE T &operator[](int64_t i) const { return data_[i]; }

 private:
  T *data_;
  void *heap_ = nullptr;
  alignas(64) unsigned char inline_[Inline * sizeof(T)];
};

// ---- rows ----

// Copies n elements of any stride into contiguous memory, converting.
template <class To, class From>
VT_INLINE void load_row(To *__restrict to, const From *__restrict from, int64_t stride, int64_t n) {
  if (stride == 1) {
    if constexpr (is_half_type<From> && is_same<To, float>::value) {
      load_run(to, from, n);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < n; i++) to[i] = static_cast<To>(from[i]);
    }
  } else {
    for (int64_t i = 0; i < n; i++) to[i] = static_cast<To>(from[i * stride]);
  }
}

// The reverse of load_row.
template <class To, class From>
VT_INLINE void store_row(To *__restrict to, int64_t stride, const From *__restrict from,
                         int64_t n) {
  if (stride == 1) {
    if constexpr (is_half_type<To> && is_same<From, float>::value) {
      store_run(to, from, n);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < n; i++) to[i] = static_cast<To>(from[i]);
    }
  } else {
    for (int64_t i = 0; i < n; i++) to[i * stride] = static_cast<To>(from[i]);
  }
}

// A row as contiguous values of the compute type: in place where it already is that, else copied
// into `room`.
template <class T>
VT_INLINE const acc_t<T> *row_as_acc(const T *row, int64_t stride, int64_t n, acc_t<T> *room) {
  if constexpr (is_same<T, acc_t<T>>::value) {
    if (stride == 1) return row;
  }
  load_row(room, row, stride, n);
  return room;
}

}  // namespace VT_NS

#endif
