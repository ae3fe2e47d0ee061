// What kernels over lists of tensors share: the work cut into parts, and elements as a loop takes them.
#ifndef VT_CPU_MULTI_TENSOR_H
#define VT_CPU_MULTI_TENSOR_H

#include "vibetensor/cpu/kernel_utils.h"
#include "vibetensor/cpu/kernels/runs.h"

namespace VT_NS {

constexpr int64_t kGrainElements = 16 << 10;
constexpr int64_t kChunk = 1024;

// Calls f(k, begin, end) for parts of the arrays list[k] that together are all their elements.
template <class F>
void for_parts(const vt_value &list, const F &f) {
  int64_t total = 0;
  for (int64_t k = 0; k < list.n; k++) total += list.arrays[k].numel;
  parallel_for(total, kGrainElements, [&](int64_t begin, int64_t end) {
    int64_t start = 0;
    for (int64_t k = 0; k < list.n && start < end; k++) {
      const int64_t n = list.arrays[k].numel;
      const int64_t first = max_of(begin - start, int64_t(0)), last = min_of(end - start, n);
      if (first < last) f(k, first, last);
      start += n;
    }
  });
}

// The type that elements are handed to a loop in. Only half is converted before: the conversions of
// bfloat16 are integer arithmetic, which vectorises within a loop.
template <class T>
struct LoopType {
  using type = T;
};
template <>
struct LoopType<half> {
  using type = float;
};
template <class T>
using loop_t = typename LoopType<T>::type;

// Through the bits, since loops that create a bfloat16 do not vectorise.
template <class C>
VT_INLINE acc_t<C> get(const C &x) {
  if constexpr (is_same<C, bfloat16>::value) {
    return bfloat16_bits_to_float(x.bits);
  } else {
    return x;
  }
}
template <class C>
VT_INLINE void put(C &to, acc_t<C> x) {
  if constexpr (is_same<C, bfloat16>::value) {
    to.bits = float_to_bfloat16_bits(x);
  } else {
    to = x;
  }
}

// Elements of one operand, read and perhaps written back, a chunk at a time where they cannot be
// used in place.
template <class T>
struct Operand {
  using C = loop_t<T>;
  Runs<T, C> runs;
  alignas(64) C room[kChunk];

  explicit Operand(const vt_array &a) : runs(a) {}
  VT_INLINE C *load(int64_t begin, int64_t n) { return const_cast<C *>(runs.read(begin, n, room)); }
  VT_INLINE C *target(int64_t begin) { return runs.target(begin, room); }
  VT_INLINE void store(int64_t begin, int64_t n, const C *x) const { runs.write(begin, n, x); }
};

// How many elements to take at a time.
template <class... T>
VT_INLINE int64_t step_of(int64_t n, const Operand<T> &...operands) {
  return (operands.runs.in_place() && ...) ? max_of(n, int64_t(1)) : kChunk;
}

inline vt_status check_floating(const vt_value &list) {
  for (int64_t k = 0; k < list.n; k++) {
    if (!(kFloating >> list.arrays[k].dtype & 1u)) return VT_ERROR_DTYPE;
  }
  return VT_OK;
}

}  // namespace VT_NS
#endif
