// The C++ type of every dtype, and back.
#ifndef VT_DTYPE_H
#define VT_DTYPE_H

#include "vibetensor/types.h"
#include "vt/complex.h"
#include "vt/half.h"

namespace VT_NS {

template <class T>
struct dtype_code;
#define VT_DTYPE(T, code)                   \
  template <>                               \
  struct dtype_code<T> {                    \
    static constexpr vt_dtype value = code; \
  };
VT_DTYPE(bool, VT_BOOL)
VT_DTYPE(uint8_t, VT_U8)
VT_DTYPE(int8_t, VT_I8)
VT_DTYPE(int16_t, VT_I16)
VT_DTYPE(int32_t, VT_I32)
VT_DTYPE(int64_t, VT_I64)
VT_DTYPE(half, VT_F16)
VT_DTYPE(bfloat16, VT_BF16)
VT_DTYPE(float, VT_F32)
VT_DTYPE(double, VT_F64)
VT_DTYPE(complex64, VT_C64)
VT_DTYPE(complex128, VT_C128)
#undef VT_DTYPE
template <class T>
constexpr vt_dtype dtype_of = dtype_code<T>::value;

}  // namespace VT_NS
#endif
