// Reporting an index out of range from any thread; and index arrays as int64.
#ifndef VT_CPU_INDEX_ERROR_H
#define VT_CPU_INDEX_ERROR_H

#include "vibetensor/cpu/kernel_utils.h"
#include "vibetensor/cpu/kernels/runs.h"

namespace VT_NS {

// Keeps the first error that is raised. A kernel goes on with some valid index in its place.
class IndexErrors {
 public:
  VT_NOINLINE void raise(int64_t index, int64_t dim, int64_t size) {
    if (__atomic_exchange_n(&raised_, 1, __ATOMIC_RELAXED) != 0) return;
    detail_[0] = index;
    detail_[1] = dim;
    detail_[2] = size;
  }

  vt_status status(vt_context *context) const {
    if (!raised_) return VT_OK;
    memcpy(context->detail, detail_, sizeof(detail_));
    return VT_ERROR_INDEX;
  }

 private:
  int raised_ = 0;
  int64_t detail_[3];
};

// Whether 0 <= index < size.
VT_INLINE bool in_range(int64_t index, int64_t size) {
  return static_cast<uint64_t>(index) < static_cast<uint64_t>(size);
}

// All of an int32 or int64 array in row-major order, without a copy where that can be. Check ok().
class Indices {
 public:
  explicit Indices(const vt_array &a)
      : in_place_(a.dtype == VT_I64 && is_contiguous(a)), room_(in_place_ ? 0 : a.numel) {
    if (in_place_) {
      data_ = data_of<const int64_t>(a);
    } else if (room_.ok()) {
      if (a.dtype == VT_I32) {
        Runs<int32_t, int64_t>(a).read(0, a.numel, room_.data());
      } else {
        const Layout<1> l = layout_of(-1, false, a);
        int64_t *to = room_.data();
        for_runs(l, 0, a.numel, [&](const int64_t *offset, int64_t n) {
          load_row(to, data_of<const int64_t>(a) + offset[0], inner_stride(l, 0), n);
          to += n;
        });
      }
      data_ = room_.data();
    }
  }

  bool ok() const { return in_place_ || room_.ok(); }
  VT_INLINE const int64_t *data() const { return data_; }
  VT_INLINE int64_t operator[](int64_t i) const { return data_[i]; }

 private:
  bool in_place_;
  const int64_t *data_ = nullptr;
  Scratch<int64_t> room_;
};

}  // namespace VT_NS
#endif
