// Adding many values onto elements of an array: half types in float, rounded once at the end.
#ifndef VT_CPU_ACCUMULATE_H
#define VT_CPU_ACCUMULATE_H

#include "vibetensor/cpu/kernel_utils.h"
#include "vibetensor/cpu/kernels/copy.h"

namespace VT_NS {

// The sum in T's arithmetic; for bool it is "or".
template <class T>
VT_INLINE T plus(T a, T b) {
  if constexpr (is_same<T, bool>::value) {
    return a || b;
  } else if constexpr (is_integral<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return a + b;
  }
}
template <class T>
VT_INLINE T times(T a, T b) {
  if constexpr (is_same<T, bool>::value) {
    return a && b;
  } else if constexpr (is_integral<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  } else {
    return a * b;
  }
}

// Calls f(array) on `out`, or for half types on a float copy of it that is rounded back afterwards.
template <class T, class F>
vt_status on_accumulator(const vt_array &out, const F &f) {
  if constexpr (!is_half_type<T>) {
    return f(out);
  } else {
    if (out.numel == 0) return f(out);
    Scratch<float> room(out.numel);
    if (!room.ok()) return VT_ERROR_OUT_OF_MEMORY;
    int64_t strides[VT_MAX_DIMS], stride = 1;
    for (int d = out.ndim - 1; d >= 0; d--) {
      strides[d] = stride;
      stride *= out.sizes[d];
    }
    vt_array copy = out;
    copy.data = reinterpret_cast<char *>(room.data());
    copy.strides = strides;
    copy.dtype = VT_F32;
    copy.contiguous = 1;
    vt_status status = copy_array(out, copy);
    if (status == VT_OK) status = f(copy);
    return status == VT_OK ? copy_array(copy, out) : status;
  }
}

}  // namespace VT_NS
#endif
