/* The simulated driver: copies and memory sets. */
#include <string.h>

#include "vibetensor/cuda/simulator_store.h"

namespace vt_cuda {
namespace sim {

static CUresult copy(Lock &lock, CUstream handle, uintptr_t dst, uintptr_t src, size_t bytes) {
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (bytes == 0) return CUDA_SUCCESS;
  const bool dst_device = is_device_address(dst), src_device = is_device_address(src);
  const bool dst_known = dst_device || is_locked_host(reinterpret_cast<void *>(dst));
  const bool src_known = src_device || is_locked_host(reinterpret_cast<void *>(src));
  Work work;
  work.kind = "copy";
  work.bytes = bytes;
  if (dst_known) work.touches.push_back({dst, bytes, kWrite});
  if (src_known) work.touches.push_back({src, bytes, kRead});
  for (const Touch &t : work.touches)
    if (!for_pieces(t.address, bytes, [](char *, size_t, size_t) {})) {
      violation("lifetime: a copy of %zu bytes uses %#llx, not all of which is allocated", bytes,
                static_cast<unsigned long long>(t.address));
      return CUDA_ERROR_INVALID_VALUE;
    }
  if (s->capture && !(dst_known && src_known)) {
    invalidate(*s->capture);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  auto move = [dst, src, bytes, dst_device, src_device] {
    if (dst_device && src_device) {
      std::vector<char> through(bytes);
      if (read_device(through.data(), src, bytes)) write_device(dst, through.data(), bytes);
    } else if (dst_device) {
      write_device(dst, reinterpret_cast<void *>(src), bytes);
    } else if (src_device) {
      read_device(reinterpret_cast<void *>(dst), src, bytes);
    } else {
      memmove(reinterpret_cast<void *>(dst), reinterpret_cast<void *>(src), bytes);
    }
  };
  if (!src_known) {
    /* Pageable memory is read before the call returns. */
    auto content = std::make_shared<std::vector<char>>(bytes);
    memcpy(content->data(), reinterpret_cast<void *>(src), bytes);
    work.effect = [content, dst, bytes] { write_device(dst, content->data(), bytes); };
  } else {
    work.effect = move;
  }
  if (CUresult error = enqueue(lock, *s, std::move(work))) return error;
  if (!dst_known) {
    /* Nor does the call return before pageable memory has been written. */
    complete(lock, s->own.clock);
    host_learns(s->own.clock);
    ++state().counters.waits;
  }
  return CUDA_SUCCESS;
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream) {
  VT_SIMULATE(cuMemcpyAsync);
  return copy(lock, stream, dst, src, bytes);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t bytes, CUstream stream) {
  VT_SIMULATE(cuMemcpyHtoDAsync);
  if (bytes && !is_device_address(dst)) return CUDA_ERROR_INVALID_VALUE;
  return copy(lock, stream, dst, reinterpret_cast<uintptr_t>(src), bytes);
}

CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t bytes, CUstream stream) {
  VT_SIMULATE(cuMemcpyDtoHAsync);
  if (bytes && !is_device_address(src)) return CUDA_ERROR_INVALID_VALUE;
  return copy(lock, stream, reinterpret_cast<uintptr_t>(dst), src, bytes);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream) {
  VT_SIMULATE(cuMemcpyDtoDAsync);
  if (bytes && !(is_device_address(dst) && is_device_address(src))) return CUDA_ERROR_INVALID_VALUE;
  return copy(lock, stream, dst, src, bytes);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr dst, CUcontext, CUdeviceptr src, CUcontext, size_t bytes,
                           CUstream stream) {
  VT_SIMULATE(cuMemcpyPeerAsync);
  return copy(lock, stream, dst, src, bytes);
}

static CUresult set(Lock &lock, CUstream handle, CUdeviceptr dst, const void *pattern, size_t width,
                    size_t n) {
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (n == 0) return CUDA_SUCCESS;
  if (dst % width || !for_pieces(dst, n * width, [](char *, size_t, size_t) {})) {
    violation("lifetime: a memory set of %zu bytes at %#llx, not all of which is allocated",
              n * width, static_cast<unsigned long long>(dst));
    return CUDA_ERROR_INVALID_VALUE;
  }
  Work work;
  work.kind = "memset";
  work.bytes = n * width;
  work.touches.push_back({dst, work.bytes, kWrite});
  unsigned char value[4];
  memcpy(value, pattern, width);
  const std::string bytes(reinterpret_cast<char *>(value), width);
  work.effect = [dst, bytes, n] {
    for_pieces(dst, n * bytes.size(), [&](char *piece, size_t at, size_t length) {
      if (bytes.size() == 1) {
        memset(piece, static_cast<unsigned char>(bytes[0]), length);
        return;
      }
      for (size_t i = 0; i < length; ++i) piece[i] = bytes[(at + i) % bytes.size()];
    });
  };
  return enqueue(lock, *s, std::move(work));
}

CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char value, size_t n, CUstream stream) {
  VT_SIMULATE(cuMemsetD8Async);
  return set(lock, stream, dst, &value, 1, n);
}

CUresult cuMemsetD16Async(CUdeviceptr dst, unsigned short value, size_t n, CUstream stream) {
  VT_SIMULATE(cuMemsetD16Async);
  return set(lock, stream, dst, &value, 2, n);
}

CUresult cuMemsetD32Async(CUdeviceptr dst, unsigned value, size_t n, CUstream stream) {
  VT_SIMULATE(cuMemsetD32Async);
  return set(lock, stream, dst, &value, 4, n);
}

}  // namespace sim
}  // namespace vt_cuda
