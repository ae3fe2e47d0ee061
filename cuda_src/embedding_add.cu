// Rows of a table by number, each with the row of its position added.
#include "vt/embedding_add_args.h"
#include "vt/pack.cuh"

namespace VT_NS {
namespace {

template <class T, int N>
__device__ __forceinline__ void embedding_add(const EmbeddingAddArgs &a) {
  using V = acc_t<T>;
  const int64_t token = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  if (token >= a.tokens) return;
  const int64_t row = a.wide ? static_cast<const int64_t *>(a.index)[token]
                             : static_cast<const int32_t *>(a.index)[token];
  if (!a.sink.check(row, a.rows)) return;
  const T *const from = static_cast<const T *>(a.table) + row * a.table_stride;
  const T *const more = static_cast<const T *>(a.position) + token % a.length * a.position_stride;
  T *const out = static_cast<T *>(a.out) + token * a.width;
  const int64_t step = int64_t(gridDim.y) * blockDim.x * N;
  for (int64_t i = (int64_t(blockIdx.y) * blockDim.x + threadIdx.x) * N; i < a.width; i += step) {
    const Pack<T, N> x = load_pack<T, N>(from + i), y = load_pack<T, N>(more + i);
    Pack<T, N> sum;
#pragma unroll
    for (int k = 0; k < N; k++) {
      sum.x[k] = store_as<T>(static_cast<V>(x.x[k]) + static_cast<V>(y.x[k]));
    }
    store_pack<T, N>(out + i, sum);
  }
}

}  // namespace
}  // namespace VT_NS

#define VT_EMBEDDING_ADD(SUFFIX, T)                                               \
  extern "C" __global__ void __launch_bounds__(vt::kEmbeddingAddThreads)          \
      vt_embedding_add_##SUFFIX(const __grid_constant__ vt::EmbeddingAddArgs a) { \
    if (a.packed) {                                                               \
      vt::embedding_add<T, vt::kPack<T>>(a);                                      \
    } else {                                                                      \
      vt::embedding_add<T, 1>(a);                                                 \
    }                                                                             \
  }

VT_EMBEDDING_ADD(f16, vt::half)
VT_EMBEDDING_ADD(bf16, vt::bfloat16)
VT_EMBEDDING_ADD(f32, float)
VT_EMBEDDING_ADD(f64, double)
