// argmax and argmin: the first index of the extreme element; NaN is more extreme than any number. A
// minimum is the maximum of elements whose bits are turned round, as in reduce_extreme.cu.
#include "vt/reduce_ops.cuh"

namespace VT_NS {
namespace {

template <class E>
struct Arg {
  using T = E;
  using V = typename compare_type<T>::type;
  struct alignas(8) State {
    V value;
    int64_t index;
  };
  // Right even where nothing is larger: then all elements, also the first, are the lowest value.
  static __device__ __forceinline__ State start() { return {lowest_value<V>(), 0}; }
  template <int N>
  static __device__ __forceinline__ void fold(const ReduceArgs &a, State &s, const T (&x)[N],
                                              int64_t index, int64_t step) {
#pragma unroll
    for (int k = 0; k < N; k++) {
      const V v = static_cast<V>(flipped(x[k], a.mask));
      if (beats(v, s.value)) s = {v, index + k * step};
    }
  }
  static __device__ __forceinline__ void merge(State &s, const State &o) {
    if (beats(o.value, s.value) || (!beats(s.value, o.value) && o.index < s.index)) s = o;
  }
  static __device__ __forceinline__ void store(const ReduceArgs &a, int64_t offset,
                                               const State &s) {
    reinterpret_cast<int64_t *>(a.out)[offset] = s.index;
  }
};

}  // namespace
}  // namespace VT_NS

VT_REDUCE_KERNELS(arg, u8, vt::Arg<uint8_t>)
VT_REDUCE_KERNELS(arg, i8, vt::Arg<int8_t>)
VT_REDUCE_KERNELS(arg, i16, vt::Arg<int16_t>)
VT_REDUCE_KERNELS(arg, i32, vt::Arg<int32_t>)
VT_REDUCE_KERNELS(arg, i64, vt::Arg<int64_t>)
VT_REDUCE_KERNELS(arg, f16, vt::Arg<vt::half>)
VT_REDUCE_KERNELS(arg, bf16, vt::Arg<vt::bfloat16>)
VT_REDUCE_KERNELS(arg, f32, vt::Arg<float>)
VT_REDUCE_KERNELS(arg, f64, vt::Arg<double>)
