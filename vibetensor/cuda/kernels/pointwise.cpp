// Chooses a kernel for a plan: vectors of 16 bytes where the operands allow it, else the strided form,
// which takes everything (docs/adr/0009-cuda-pointwise.md).
#include "vibetensor/cuda/kernels/pointwise.h"

#include <string.h>

#include "vibetensor/cuda/kernels/vectors.h"

namespace vt_cuda {
namespace {

using vt::Element;
using vt::StridedArgs;
using vt::VectorArgs;

// A parameter as the functor gets it: converted to the loop's dtype, then widened to the type that it
// computes in. An integer is written in 64 bits, of which the kernel reads what it needs.
Element element_of(const vt_value &v, int dtype) {
  Element e = {};
  const auto put = [&e](auto x) { memcpy(e.bytes, &x, sizeof(x)); };
  const int64_t i = v.kind == VT_VALUE_INT ? v.i : dtype < VT_F16 ? int64_t(v.re) : 0;
  switch (dtype) {
    case VT_BOOL:
      put(v.kind == VT_VALUE_INT ? v.i != 0 : v.re != 0);
      break;
    case VT_U8:
      put(int64_t(uint8_t(i)));
      break;
    case VT_I8:
      put(int64_t(int8_t(i)));
      break;
    case VT_I16:
      put(int64_t(int16_t(i)));
      break;
    case VT_I32:
      put(int64_t(int32_t(i)));
      break;
    case VT_I64:
      put(i);
      break;
    case VT_F64:
      put(v.re);
      break;
    case VT_C64: {
      const float z[] = {float(v.re), float(v.im)};
      memcpy(e.bytes, z, sizeof(z));
      break;
    }
    case VT_C128: {
      const double z[] = {v.re, v.im};
      memcpy(e.bytes, z, sizeof(z));
      break;
    }
    default:  // float, and the half types, which compute in it
      put(float(v.re));
  }
  return e;
}

void set_params(Element *to, const Functor &f, int dtype, const vt_value *params) {
  for (int p = 0; p < f.params; p++) to[p] = element_of(params[p], dtype);
}

vt_status launch_strided(const vt_iter &it, const Functor &f, int dtype, const vt_value *params,
                         vt_context *ctx) {
  StridedArgs a;
  strided_args(it, &a);
  set_params(a.param, f, dtype, params);
  return launch_packed(ctx, pointwise_kernels[f.strided[dtype]], {strided_blocks(it)},
                       {vt::kPointwiseThreads}, 0, &a, sizeof(a), &kPlanUse);
}

// The number of an address: what is or-ed of several tells how all are aligned.
uintptr_t number(const char *address) { return reinterpret_cast<uintptr_t>(address); }

// Any operands of the flat form, as a plan of one dimension.
__attribute__((noinline)) vt_status run_flat(const Functor &f, int functor, int dtype,
                                             int noperands, char *const *data, int64_t numel,
                                             const vt_value *params, vt_context *ctx) {
  vt_iter it;
  it.noperands = noperands;
  it.ndim = 1;
  it.numel = it.sizes[0] = numel;
  for (int k = 0; k < noperands; k++) {
    int stored = k > 0 && (f.bools >> (k - 1) & 1) ? int(VT_BOOL) : dtype;
    if (k == 0 && f.result == kResult_bool) stored = VT_BOOL;
    if (k == 0 && f.result == kResult_real && dtype >= VT_C64) {
      stored = dtype == VT_C64 ? VT_F32 : VT_F64;
    }
    it.data[k] = data[k];
    it.dtype[k] = it.loop_dtype[k] = uint8_t(stored);
    it.host[k] = 0;
    it.strides[k][0] = dtype_size(stored);
  }
  return vt_cuda_pointwise(&it, functor, dtype, params, ctx);
}

}  // namespace
}  // namespace vt_cuda

using namespace vt_cuda;

vt_status vt_cuda_pointwise(const vt_iter *it, int functor, int dtype, const vt_value *params,
                            vt_context *ctx) {
  if (functor >= functor_count || functors[functor].strided[dtype] < 0) return VT_ERROR_DTYPE;
  if (it->numel == 0) return VT_OK;
  const Functor &f = functors[functor];
  const auto run = [&](const vt_iter &part) {
    VectorArgs a;
    int log2;
    if (f.vectors[dtype] < 0 || !vector_args(part, dtype, a, &log2)) {
      return launch_strided(part, f, dtype, params, ctx);
    }
    set_params(a.param, f, dtype, params);
    return launch_vectors(pointwise_kernels[f.vectors[dtype]], a, log2, ctx);
  };
  // One dimension of vectors may have any length.
  VectorArgs a;
  int log2;
  if (it->ndim == 1 && f.vectors[dtype] >= 0 && vector_args(*it, dtype, a, &log2)) {
    set_params(a.param, f, dtype, params);
    return launch_vectors(pointwise_kernels[f.vectors[dtype]], a, log2, ctx);
  }
  return for_parts(*it, run);
}

vt_status vt_cuda_pointwise_flat(int functor, int dtype, int noperands, char *const *data,
                                 int64_t numel, const vt_value *params, vt_context *ctx) {
  if (functor >= functor_count || functors[functor].strided[dtype] < 0) return VT_ERROR_DTYPE;
  if (numel == 0) return VT_OK;
  const Functor &f = functors[functor];
  static_assert(vt::kMaxInputs == 3, "as many addresses are copied here");
  VectorArgs a;
  a.data[0] = data[0];
  a.data[1] = data[1];
  a.data[2] = noperands > 2 ? data[2] : nullptr;
  a.data[3] = noperands > 3 ? data[3] : nullptr;
  const uintptr_t any =
      number(a.data[0]) | number(a.data[1]) | number(a.data[2]) | number(a.data[3]);
  // Memory as it was allocated begins at a multiple of 16 bytes: then only whole vectors, and a rest.
  if (any % 16 != 0 || f.bools || f.vectors[dtype] < 0) {
    return run_flat(f, functor, dtype, noperands, data, numel, params, ctx);
  }
  const int log2 = log2_vector(dtype, dtype_size(dtype));  // no operand is wider than the loop
  a.numel = numel;
  a.vectors = numel >> log2;
  a.head = 0;
  a.rest = uint8_t(numel - (a.vectors << log2));
  a.splat = a.host = 0;
  a.dtype = uint8_t(dtype);
  a.ndim = 1;
  // Small pieces, for which the compiler needs no loop.
  memset(a.sizes, 0, sizeof(a.sizes));
  memset(a.strides, 0, sizeof(a.strides));
  memset(a.value, 0, sizeof(a.value));
  memset(a.param, 0, sizeof(a.param));
  set_params(a.param, f, dtype, params);
  return launch_vectors(pointwise_kernels[f.vectors[dtype]], a, log2, ctx);
}
