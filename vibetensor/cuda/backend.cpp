/* The functions behind vt_backends[VT_CUDA]: storages over blocks of the caching allocator, copies
 * between the host and devices. The rest is the runtime's and the kernels' own. */
#include "vibetensor/cuda/backend.h"

#include "vibetensor/cuda/allocator.h"
#include "vibetensor/cuda/cub.h"
#include "vibetensor/cuda/host_allocator.h"
#include "vibetensor/cuda/runtime.h"

namespace {

using namespace vt_cuda;

/* --- storages ----------------------------------------------------------------------------------- */

void release_block(vt_storage *s) { release(static_cast<Block *>(s->context)); }

vt_storage *allocate_storage(int device, size_t bytes) {
  Block *block = allocate(device, current_stream(device), bytes);
  if (block == nullptr) {
    set_error(VT_ERROR_OUT_OF_MEMORY, "%s", memory_error());
    return nullptr;
  }
  vt_storage *s = vt_storage_wrap(static_cast<char *>(block_data(block)), bytes, VT_CUDA,
                                  static_cast<int8_t>(device), release_block, block);
  if (s == nullptr) {
    release(block);
    set_error(VT_ERROR_OUT_OF_MEMORY, "the host has no memory for a storage");
    return nullptr;
  }
  s->flags = VT_STORAGE_OWN;
  return s;
}

int lacked_memory() { return memory_error_is_oom(); }

void record_storage(vt_storage *s, void *stream) {
  if (s->deleter == release_block)
    record_stream(static_cast<Block *>(s->context), static_cast<CUstream>(stream));
}

void release_pinned(vt_storage *s) { host_release(static_cast<HostBlock *>(s->context)); }

vt_storage *allocate_pinned(size_t bytes) {
  HostBlock *block = host_allocate(bytes);
  if (block == nullptr) {
    set_error(VT_ERROR_OUT_OF_MEMORY, "%s", memory_error());
    return nullptr;
  }
  vt_storage *s = vt_storage_wrap(static_cast<char *>(host_block_data(block)), bytes, VT_CPU, -1,
                                  release_pinned, block);
  if (s == nullptr) {
    host_release(block);
    return nullptr;
  }
  s->flags = VT_STORAGE_OWN | VT_STORAGE_PINNED;
  return s;
}

/* What the driver knows of an address; the type is 0 of memory that is not its own. Of that the call
 * for one attribute would fail, which tools that watch the driver count as an error. */
struct Pointer {
  unsigned type = 0;
  int device = VT_HOST;
  explicit Pointer(const void *address) {
    CUpointer_attribute names[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                   CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    void *values[] = {&type, &device};
    if (driver.cuPointerGetAttributes(2, names, values, reinterpret_cast<CUdeviceptr>(address)) !=
        CUDA_SUCCESS)
      type = 0;
  }
};

int is_pinned(const void *address) { return Pointer(address).type == CU_MEMORYTYPE_HOST; }

int device_of(const void *address) {
  const Pointer p(address);
  return p.type == CU_MEMORYTYPE_DEVICE ? p.device : VT_HOST;
}

/* --- copies --------------------------------------------------------------------------------------- */

CUdeviceptr address_of(const void *p) { return reinterpret_cast<CUdeviceptr>(p); }

vt_status to_device(char *dst, const char *src, size_t bytes, vt_storage *pinned, int non_blocking,
                    vt_context *ctx) {
  const CUstream stream = static_cast<CUstream>(ctx->stream);
  const bool enqueue_only = pinned != nullptr && non_blocking;
  if (!enqueue_only) {
    /* A graph would read the host's memory when it is replayed, and nobody keeps that for it. */
    if (vt_status status = may_wait(stream,
                                    "copying from host memory that is not pinned, or without "
                                    "non_blocking=True,"))
      return status;
  }
  VT_CUDA_CHECK(cuMemcpyHtoDAsync, address_of(dst), src, bytes, stream);
  if (enqueue_only) {
    host_record_stream(static_cast<HostBlock *>(pinned->context), ctx->device_index, stream);
    return VT_OK;
  }
  /* Of pageable memory the driver has taken its copy when it returns. */
  return pinned != nullptr || is_pinned(src) ? wait(ctx) : VT_OK;
}

vt_status to_host(char *dst, const char *src, size_t bytes, vt_storage *pinned, int non_blocking,
                  vt_context *ctx) {
  const CUstream stream = static_cast<CUstream>(ctx->stream);
  if (pinned == nullptr || !non_blocking) return read_back(ctx, dst, src, bytes);
  VT_CUDA_CHECK(cuMemcpyDtoHAsync, dst, address_of(src), bytes, stream);
  host_record_stream(static_cast<HostBlock *>(pinned->context), ctx->device_index, stream);
  return VT_OK;
}

/* On the destination's stream, between what both streams did before and will do after. */
vt_status to_peer(char *dst, int dst_device, const char *src, int src_device, size_t bytes,
                  vt_context *ctx) {
  const CUstream stream = static_cast<CUstream>(ctx->stream);
  const CUstream source_stream = current_stream(src_device);
  int direct = 0; /* without peer access the driver goes through the host by itself */
  if (vt_status status = use_device(src_device)) return status;
  if (vt_status status = enable_peer_access(dst_device, src_device, &direct)) return status;
  if (vt_status status = order_streams(dst_device, stream, src_device, source_stream))
    return status;
  VT_CUDA_CHECK(cuMemcpyPeerAsync, address_of(dst), device_contexts[dst_device].load(),
                address_of(src), device_contexts[src_device].load(), bytes, stream);
  return order_streams(src_device, source_stream, dst_device, stream);
}

vt_status copy_bytes(char *dst, int dst_device, const char *src, int src_device, size_t bytes,
                     vt_storage *pinned, int non_blocking, vt_context *ctx) {
  if (bytes == 0) return VT_OK;
  if (src_device == VT_HOST) return to_device(dst, src, bytes, pinned, non_blocking, ctx);
  if (dst_device == VT_HOST) return to_host(dst, src, bytes, pinned, non_blocking, ctx);
  if (dst_device == src_device) return copy_async(ctx, dst, src, bytes);
  return to_peer(dst, dst_device, src, src_device, bytes, ctx);
}

/* --- streams ---------------------------------------------------------------------------------------- */

void *stream_of(int device) { return current_stream(device); }

void *exchange(int device, void *stream) {
  return exchange_stream(device, static_cast<CUstream>(stream));
}

vt_status order(int consumer_device, void *consumer, int producer_device, void *producer) {
  return order_streams(consumer_device, static_cast<CUstream>(consumer), producer_device,
                       static_cast<CUstream>(producer));
}

int device_of_thread() { return current_device(); }
vt_status enter_device(int device, vt_context *ctx) { return enter(device, ctx); }
void leave_device(vt_context *ctx) { leave(ctx); }

}  // namespace

void vt_cuda_install_backend(void) {
  vt_backend &b = vt_backends[VT_CUDA];
  b.last_error = last_error;
  b.device_count = device_count;
  b.current_device = device_of_thread;
  b.current_stream = stream_of;
  b.exchange_stream = exchange;
  b.order_streams = order;
  b.enter = enter_device;
  b.leave = leave_device;
  b.allocate = allocate_storage;
  b.lacked_memory = lacked_memory;
  b.record_stream = record_storage;
  b.allocate_pinned = allocate_pinned;
  b.is_pinned = is_pinned;
  b.device_of = device_of;
  b.pointwise = vt_cuda_pointwise;
  b.pointwise_flat = vt_cuda_pointwise_flat;
  b.copy = vt_cuda_copy;
  b.copy_bytes = copy_bytes;
  b.wait = wait;
  cub = simulated() ? cub_simulated : cub_entries;
  vt_cuda_register_kernels();
  b.ready = 1;
}

void vt_cuda_remove_backend(void) { vt_backends[VT_CUDA].ready = 0; }
