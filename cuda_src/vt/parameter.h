// A weight or bias as a kernel parameter: contiguous, of any floating dtype; or none.
#ifndef VT_PARAMETER_H
#define VT_PARAMETER_H

#include "vt/config.h"
#ifdef __CUDACC__
#include "vt/dtype.h"
#endif

namespace VT_NS {

struct Parameter {
  const void *data;
  int64_t dtype;
};

#ifdef __CUDACC__
template <class P>
struct pointee;
template <class T>
struct pointee<const T *> {
  using type = T;
};

// Calls f with a pointer of the C++ type of a floating dtype.
template <class F>
__device__ __forceinline__ void with_floating(const void *data, int64_t dtype, const F &f) {
  switch (dtype) {
    case VT_F16:
      return f(static_cast<const half *>(data));
    case VT_BF16:
      return f(static_cast<const bfloat16 *>(data));
    case VT_F32:
      return f(static_cast<const float *>(data));
    default:
      return f(static_cast<const double *>(data));
  }
}

// x as the compute type V, from any floating type.
template <class V, class T>
__device__ __forceinline__ V as_compute(T x) {
  return static_cast<V>(static_cast<acc_t<T>>(x));
}
#endif

}  // namespace VT_NS
#endif
