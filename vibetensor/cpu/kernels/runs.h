// A strided array seen as a sequence in row-major order, read and written a run at a time: in place
// where it is contiguous, else through a small buffer of the caller's.
#ifndef VT_CPU_RUNS_H
#define VT_CPU_RUNS_H

#include "vibetensor/cpu/kernel_utils.h"

namespace VT_NS {

// T is the element type, A the type the kernel computes in.
template <class T, class A = acc_t<T>>
class Runs {
 public:
  explicit Runs(const vt_array &a)
      : data_(data_of<T>(a)), contiguous_(is_contiguous(a)), numel_(a.numel) {
    if (!contiguous_) layout_ = layout_of(-1, false, a);
  }

  int64_t numel() const { return numel_; }
  // Whether read() and target() point into the array itself, for any number of elements.
  VT_INLINE bool in_place() const { return kInPlace && contiguous_; }

  // Elements [begin, begin + n); `room` holds n.
  const A *read(int64_t begin, int64_t n, A *room) const {
    if constexpr (kInPlace) {
      if (VT_LIKELY(contiguous_)) return reinterpret_cast<const A *>(data_) + begin;
    }
    if (contiguous_) {
      load_row(room, data_ + begin, 1, n);
      return room;
    }
    A *to = room;
    for_runs(layout_, begin, begin + n, [&](const int64_t *offset, int64_t count) {
      load_row(to, data_ + offset[0], layout_.strides[0][0], count);
      to += count;
    });
    return room;
  }

  // Where to compute elements [begin, ...) so that write() need not copy them, or `room`.
  VT_INLINE A *target(int64_t begin, A *room) const {
    if constexpr (kInPlace) {
      if (VT_LIKELY(contiguous_)) return reinterpret_cast<A *>(data_) + begin;
    }
    return room;
  }

  // Stores n elements that were computed at target(begin, ...) or elsewhere.
  void write(int64_t begin, int64_t n, const A *from) const {
    if constexpr (kInPlace) {
      if (VT_LIKELY(contiguous_)) {
        T *to = data_ + begin;
        if (reinterpret_cast<const T *>(from) != to) memcpy(to, from, n * sizeof(T));
        return;
      }
    }
    if (contiguous_) {
      store_row(data_ + begin, 1, from, n);
      return;
    }
    for_runs(layout_, begin, begin + n, [&](const int64_t *offset, int64_t count) {
      store_row(data_ + offset[0], layout_.strides[0][0], from, count);
      from += count;
    });
  }

 private:
  static constexpr bool kInPlace = is_same<T, A>::value;
  T *data_;
  bool contiguous_;
  int64_t numel_;
  Layout<1> layout_;
};

}  // namespace VT_NS
#endif
