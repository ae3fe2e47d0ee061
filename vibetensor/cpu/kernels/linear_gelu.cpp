// linear with the tanh form of GELU, in two steps.

#include "vibetensor/cpu/kernel_utils.h"
#include "vt/activation.h"

namespace VT_NS {

vt_status linear_cpu(const vt_array *arrays, const vt_value *values, vt_context *ctx);

// arrays: input (rows, in), weight (out, in), bias (out) or none, out (rows, out), linear (rows, out):
// what GELU is taken of, or none. The last two are contiguous.
vt_status linear_gelu_cpu(const vt_array *arrays, const vt_value *values, vt_context *ctx) {
  const vt_array &out = arrays[3], &linear = given(arrays[4]) ? arrays[4] : out;
  const vt_array product[] = {arrays[0], arrays[1], arrays[2], linear};
  const vt_status status = linear_cpu(product, values, ctx);
  if (status != VT_OK) return status;
  return dispatch<kFloating>(out.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    using A = acc_t<S>;
    const S *from = data_of<const S>(linear);
    S *to = data_of<S>(out);
    constexpr int64_t kGrain = 4096;
    parallel_for(out.numel, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) to[i] = static_cast<S>(gelu_tanh(A(from[i])));
    });
    return VT_OK;
  });
}

}  // namespace VT_NS
