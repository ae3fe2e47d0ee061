/* Tensor maps: what the tensor memory accelerator must know of an array, 128 bytes by value in the
 * arguments of a kernel. The driver takes about 0.3 us to encode one, so the last ones are kept. A map
 * depends on nothing but what it was made of: none ever becomes wrong. */
#include "vibetensor/cuda/internal.h"
#include "vibetensor/cuda/triton_kernel.h"

namespace vt_cuda {

namespace {

struct MapKey {
  const void *data;
  int64_t sizes[5], strides[5];
  TensorMapLayout layout;
};

struct KeptMap {
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  MapKey key = {};
  alignas(64) CUtensorMap map = {};
};
constexpr int kKept = 256;
KeptMap kept[kKept];

KeptMap &place_of(const MapKey &key) {
  uint64_t h = reinterpret_cast<uintptr_t>(key.data) >> 4;
  h = (h ^
       static_cast<uint64_t>(key.layout.box[key.layout.rank - 2 < 0 ? 0 : key.layout.rank - 2])) *
      0x9e3779b97f4a7c15u;
  return kept[h >> 56];
}
static_assert(kKept == 256, "the hash has eight bits");

vt_status encode(vt_context *ctx, const MapKey &key, CUtensorMap *map) {
  /* The driver counts dimensions from the fastest, and strides in bytes without the first. */
  const TensorMapLayout &l = key.layout;
  cuuint64_t sizes[5], strides[5];
  cuuint32_t box[5], steps[5];
  for (int i = 0; i < l.rank; ++i) {
    const int from = l.rank - 1 - i;
    sizes[i] = static_cast<cuuint64_t>(key.sizes[from]);
    if (i > 0) strides[i - 1] = static_cast<cuuint64_t>(key.strides[from] * l.element_bytes);
    box[i] = l.box[from];
    steps[i] = 1;
  }
  const CUresult result = driver.cuTensorMapEncodeTiled(
      map, static_cast<CUtensorMapDataType>(l.dtype), static_cast<cuuint32_t>(l.rank),
      const_cast<void *>(key.data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      static_cast<CUtensorMapSwizzle>(l.swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? VT_OK : driver_error(result, "cuTensorMapEncodeTiled", ctx);
}

}  // namespace

vt_status encode_tensor_map(vt_context *ctx, const TensorMapLayout &layout, const void *data,
                            const int64_t *sizes, const int64_t *strides, void *to) {
  MapKey key;
  memset(static_cast<void *>(&key), 0, sizeof key);
  key.data = data;
  memcpy(key.sizes, sizes, sizeof(int64_t) * static_cast<size_t>(layout.rank));
  memcpy(key.strides, strides, sizeof(int64_t) * static_cast<size_t>(layout.rank));
  key.layout = layout;
  if (layout.rank > 0 && strides[layout.rank - 1] != 1) {
    ctx->message = "a tensor descriptor's last stride must be 1";
    return VT_ERROR_VALUE;
  }
  KeptMap &place = place_of(key);
  /* Somebody else is at it: not worth waiting for. */
  if (place.busy.test_and_set(std::memory_order_acquire)) {
    alignas(64) CUtensorMap map;
    const vt_status status = encode(ctx, key, &map);
    memcpy(to, &map, sizeof map);
    return status;
  }
  vt_status status = VT_OK;
  if (memcmp(&place.key, &key, sizeof key) != 0) {
    status = encode(ctx, key, &place.map);
    if (status == VT_OK)
      memcpy(static_cast<void *>(&place.key), &key, sizeof key);
    else
      memset(static_cast<void *>(&place.key), 0, sizeof key);
  }
  memcpy(to, &place.map, sizeof place.map);
  place.busy.clear(std::memory_order_release);
  return status;
}

vt_status encode_descriptors(vt_context *ctx, const TritonCode &code,
                             const detail::DescriptorAt *descriptors, int n, char *arguments) {
  if (code.missing) return VT_OK; /* the launch says so */
  if (n != code.num_descriptors) {
    ctx->message = "a Triton kernel has another number of descriptors than it is launched with";
    return VT_ERROR_VALUE;
  }
  for (int i = 0; i < n; ++i) {
    const detail::DescriptorAt &d = descriptors[i];
    if (d.rank != code.descriptors[i].rank) {
      ctx->message = "a Triton kernel has a descriptor of another rank than it is launched with";
      return VT_ERROR_VALUE;
    }
    const vt_status status = encode_tensor_map(ctx, code.descriptors[i], d.data, d.sizes, d.strides,
                                               arguments + d.offset);
    if (status != VT_OK) return status;
  }
  return VT_OK;
}

}  // namespace vt_cuda
