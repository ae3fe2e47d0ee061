// sum, mean, prod, amax, amin, argmax, argmin, any, all, var. Arrays and values are those of the
// CPU's kernels.
#include "vibetensor/cuda/kernels/reduce.h"

namespace vt_cuda {

namespace {

ReduceKernels sum_kernels = VT_REDUCE_SETS("reduce_sum", "sum");
ReduceKernels prod_kernels = VT_REDUCE_SETS("reduce_sum", "prod");
ReduceKernels extreme_kernels = VT_REDUCE_SETS("reduce_extreme", "extreme");
ReduceKernels truth_kernels = VT_REDUCE_SETS("reduce_extreme", "truth");
ReduceKernels arg_kernels = VT_REDUCE_SETS("arg_reduce", "arg");
ReduceKernels var_kernels = VT_REDUCE_SETS("reduce_var", "var");

constexpr unsigned kIntegralSet = kRealSet & ~kFloatingSet;

// The bytes of a bool add, multiply and order like those of uint8.
int bool_as_byte(int dtype) { return dtype == VT_BOOL ? int(VT_U8) : dtype; }

ReduceRule rule_of(ReduceKernels &kernels, int slot, int state) {
  ReduceRule r = {};
  r.kernels = &kernels;
  r.slot = slot;
  r.item = element_size(slot);
  r.state = state;
  r.dim = kReduceByShape;
  return r;
}

// Bytes of the state of a sum or product: 64 bits for integers, at least float else.
int sum_state(int dtype) {
  const int size = element_size(dtype);
  return in_set(kIntegralSet, dtype) ? 8 : size < 4 ? 4 : size;
}

vt_status sum_of(const vt_array &in, const vt_array &out, bool mean, vt_context *ctx) {
  if (in_set(kComplexSet, in.dtype)) {
    if (out.dtype != in.dtype) return VT_ERROR_DTYPE;
    const RealView view(in, 2), result(out, 2);
    return sum_of(view.array, result.array, mean, ctx);
  }
  const int slot = bool_as_byte(in.dtype);
  const bool half = in.dtype == VT_F16 || in.dtype == VT_BF16;
  const bool fits = in_set(kIntegralSet, slot)
                        ? !mean && out.dtype == VT_I64
                        : out.dtype == in.dtype || (half && !mean && out.dtype == VT_F32);
  if (!fits) return VT_ERROR_DTYPE;
  ReduceRule r = rule_of(sum_kernels, slot, sum_state(slot));
  r.flag = mean;
  return run_reduction(r, in, out, ctx);
}

// The bits that turn the order of elements round.
uint64_t order_bits(int dtype) {
  if (!in_set(kFloatingSet, dtype)) return ~uint64_t(0);
  return uint64_t(1) << (8 * element_size(dtype) - 1);
}

vt_status extreme(const vt_array *a, bool largest, vt_context *ctx) {
  const int slot = bool_as_byte(a[0].dtype), size = element_size(slot);
  if (a[1].dtype != a[0].dtype || !in_set(kRealSet, slot)) return VT_ERROR_DTYPE;
  ReduceRule r = rule_of(extreme_kernels, slot, size < 4 ? 4 : size);
  r.mask = largest ? 0 : order_bits(slot);
  return run_reduction(r, a[0], a[1], ctx);
}

vt_status arg_extreme(const vt_array *a, int64_t dim, bool largest, vt_context *ctx) {
  const int slot = bool_as_byte(a[0].dtype);
  if (!in_set(kRealSet, slot)) return VT_ERROR_DTYPE;
  if (a[0].numel == 0) return VT_OK;
  ReduceRule r = rule_of(arg_kernels, slot, 16);
  r.mask = largest ? 0 : order_bits(slot);
  r.dim = dim < 0 ? kReduceAll : static_cast<int>(dim);
  return run_reduction(r, a[0], a[1], ctx);
}

vt_status truth(const vt_array &in, const vt_array &out, bool any, vt_context *ctx) {
  if (out.dtype != VT_BOOL && out.dtype != VT_U8) return VT_ERROR_DTYPE;
  if (in_set(kComplexSet, in.dtype)) {
    const RealView view(in, 2), result(out, 1);
    return truth(view.array, result.array, any, ctx);
  }
  static constexpr int slots[] = {VT_U8, VT_I16, VT_I32, VT_I64};
  ReduceRule r = rule_of(truth_kernels, slots[size_slot(element_size(in.dtype))], 4);
  r.flag = any;
  // -0 is false.
  r.mask = in_set(kFloatingSet, in.dtype) ? order_bits(in.dtype) - 1 : ~uint64_t(0);
  return run_reduction(r, in, out, ctx);
}

}  // namespace

}  // namespace vt_cuda

using namespace vt_cuda;

extern "C" {

vt_status sum_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  return sum_of(a[0], a[1], false, ctx);
}

vt_status mean_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  return sum_of(a[0], a[1], true, ctx);
}

vt_status prod_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  const int slot = bool_as_byte(a[0].dtype);
  const int result = in_set(kIntegralSet, slot) ? int(VT_I64) : slot;
  if (a[1].dtype != result) return VT_ERROR_DTYPE;
  return run_reduction(rule_of(prod_kernels, slot, sum_state(slot)), a[0], a[1], ctx);
}

vt_status amax_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  return extreme(a, true, ctx);
}

vt_status amin_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  return extreme(a, false, ctx);
}

// values: dim, or -1 for the flattened input.
vt_status argmax_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return arg_extreme(a, v[0].i, true, ctx);
}

vt_status argmin_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return arg_extreme(a, v[0].i, false, ctx);
}

vt_status any_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  return truth(a[0], a[1], true, ctx);
}

vt_status all_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  return truth(a[0], a[1], false, ctx);
}

// values: correction (a number).
vt_status var_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const int slot = a[0].dtype;
  if (a[1].dtype != slot || !in_set(kFloatingSet, slot)) return VT_ERROR_DTYPE;
  ReduceRule r = rule_of(var_kernels, slot, slot == VT_F64 ? 24 : 12);
  r.correction = v[0].re;
  return run_reduction(r, a[0], a[1], ctx);
}

}  // extern "C"
