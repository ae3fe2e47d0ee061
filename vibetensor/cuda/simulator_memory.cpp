/* The simulated driver: device memory, pinned memory and virtual memory. */
#include <sys/mman.h>

#include "vibetensor/cuda/simulator_store.h"

namespace vt_cuda {
namespace sim {

CUresult cuMemGetInfo(size_t *free, size_t *total) {
  VT_SIMULATE(cuMemGetInfo);
  Device *d = current_device();
  if (!d) return CUDA_ERROR_INVALID_CONTEXT;
  *free = d->limit > d->used ? d->limit - d->used : 0;
  *total = d->limit;
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  VT_SIMULATE_UNSAFE(cuMemAlloc);
  Device *d = current_device();
  if (!d) return CUDA_ERROR_INVALID_CONTEXT;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const size_t size = round_up(bytes, kPage);
  Segment segment;
  const uintptr_t at = take_addresses(size, bytes >= kGranularity ? kGranularity : kPage);
  if (!at || !take_backing(size, &segment.backing)) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!charge(*d, size)) {
    give_backing(segment.backing, size);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  segment.end = segment.extent.end = at + size;
  segment.device = d->index;
  state().segments[at] = segment;
  *address = at;
  return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr address) {
  VT_SIMULATE_UNSAFE(cuMemFree);
  if (!address) return CUDA_SUCCESS;
  State &st = state();
  auto at = st.segments.find(address);
  if (at == st.segments.end() || at->second.device < 0 || at->second.mapped) {
    violation(st.freed.count(address) ? "lifetime: cuMemFree of %#llx twice"
                                      : "lifetime: cuMemFree of %#llx, which is not allocated",
              static_cast<unsigned long long>(address));
    return CUDA_ERROR_INVALID_VALUE;
  }
  wait_for_all(lock);
  const uintptr_t end = at->second.end;
  refund(at->second.device, end - address);
  give_backing(at->second.backing, end - address);
  st.segments.erase(at);
  drop_range(address, end);
  mark_freed(address, end);
  return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **host, size_t bytes, unsigned) {
  VT_SIMULATE_UNSAFE(cuMemHostAlloc);
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const size_t size = round_up(bytes, kPage);
  void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  Segment segment;
  segment.end = segment.extent.end = reinterpret_cast<uintptr_t>(p) + size;
  state().segments[reinterpret_cast<uintptr_t>(p)] = segment;
  state().freed.erase(reinterpret_cast<uintptr_t>(p));
  *host = p;
  return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *host) {
  VT_SIMULATE_UNSAFE(cuMemFreeHost);
  auto at = state().segments.find(reinterpret_cast<uintptr_t>(host));
  if (at == state().segments.end() || at->second.device >= 0) {
    violation("lifetime: cuMemFreeHost of %p, which is not allocated", host);
    return CUDA_ERROR_INVALID_VALUE;
  }
  wait_for_all(lock);
  drop_range(at->first, at->second.end);
  munmap(host, at->second.end - at->first);
  state().segments.erase(at);
  return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *host, unsigned) {
  VT_SIMULATE(cuMemHostGetDevicePointer);
  if (!is_locked_host(host)) return CUDA_ERROR_INVALID_VALUE;
  *address = reinterpret_cast<uintptr_t>(host);
  return CUDA_SUCCESS;
}

CUresult cuMemHostRegister(void *host, size_t bytes, unsigned) {
  VT_SIMULATE_UNSAFE(cuMemHostRegister);
  if (is_locked_host(host)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  Segment segment;
  segment.end = segment.extent.end = reinterpret_cast<uintptr_t>(host) + bytes;
  state().segments[reinterpret_cast<uintptr_t>(host)] = segment;
  return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void *host) {
  VT_SIMULATE_UNSAFE(cuMemHostUnregister);
  auto at = state().segments.find(reinterpret_cast<uintptr_t>(host));
  if (at == state().segments.end() || at->second.device >= 0)
    return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  state().segments.erase(at);
  return CUDA_SUCCESS;
}

/* Of an address that it does not know, the driver leaves zeros, and succeeds. */
CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute *which, void **data,
                                CUdeviceptr address) {
  VT_SIMULATE(cuPointerGetAttributes);
  const auto at = find_segment(address);
  const bool known = at != state().segments.end(), host = known && at->second.device < 0;
  for (unsigned i = 0; i < count; ++i) {
    switch (which[i]) {
      case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *static_cast<unsigned *>(data[i]) = !known ? 0
                                            : host ? CU_MEMORYTYPE_HOST
                                                   : CU_MEMORYTYPE_DEVICE;
        break;
      case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *static_cast<int *>(data[i]) = known && !host ? at->second.device : 0;
        break;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_SUCCESS;
}

/* --- Virtual memory ----------------------------------------------------------------------------------- */

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *,
                                       CUmemAllocationGranularity_flags) {
  VT_SIMULATE(cuMemGetAllocationGranularity);
  *granularity = kGranularity;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t, CUdeviceptr,
                             unsigned long long) {
  VT_SIMULATE_UNSAFE(cuMemAddressReserve);
  if (bytes == 0 || bytes % kGranularity) return CUDA_ERROR_INVALID_VALUE;
  const uintptr_t at = take_reserved_range(bytes);
  if (!at) return CUDA_ERROR_OUT_OF_MEMORY;
  state().reserved[at] = at + bytes;
  *address = at;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  VT_SIMULATE_UNSAFE(cuMemAddressFree);
  State &st = state();
  auto range = st.reserved.find(address);
  if (range == st.reserved.end() || range->second != address + bytes) {
    violation("lifetime: cuMemAddressFree of %#llx, which is not a reserved range",
              static_cast<unsigned long long>(address));
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto mapped = st.segments.lower_bound(address);
  if (mapped != st.segments.end() && mapped->first < address + bytes) {
    violation("lifetime: cuMemAddressFree of %#llx, part of which is mapped",
              static_cast<unsigned long long>(address));
    return CUDA_ERROR_INVALID_VALUE;
  }
  st.reserved.erase(range);
  give_reserved_range(address, bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes,
                     const CUmemAllocationProp *prop, unsigned long long) {
  VT_SIMULATE_UNSAFE(cuMemCreate);
  State &st = state();
  if (bytes == 0 || bytes % kGranularity || prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
      prop->location.id < 0 || prop->location.id >= static_cast<int>(st.devices.size()))
    return CUDA_ERROR_INVALID_VALUE;
  Physical p{prop->location.id, bytes, 0, 1};
  if (!charge(*st.devices[p.device], bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!take_backing(bytes, &p.backing)) {
    refund(p.device, bytes);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  *handle = st.next_handle++;
  st.physical[*handle] = p;
  return CUDA_SUCCESS;
}

/* Physical memory lives as long as its handle or a mapping. */
static void drop_physical(uint64_t handle) {
  State &st = state();
  auto at = st.physical.find(handle);
  if (--at->second.references > 0) return;
  refund(at->second.device, at->second.bytes);
  give_backing(at->second.backing, at->second.bytes);
  st.physical.erase(at);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  VT_SIMULATE_UNSAFE(cuMemRelease);
  if (!state().physical.count(handle)) {
    violation("lifetime: cuMemRelease of a handle that does not exist");
    return CUDA_ERROR_INVALID_VALUE;
  }
  drop_physical(handle);
  return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
                  CUmemGenericAllocationHandle handle, unsigned long long) {
  VT_SIMULATE_UNSAFE(cuMemMap);
  State &st = state();
  auto physical = st.physical.find(handle);
  auto range = st.reserved.upper_bound(address);
  if (physical == st.physical.end() || offset + bytes > physical->second.bytes || bytes == 0 ||
      range == st.reserved.begin() || (--range)->second < address + bytes)
    return CUDA_ERROR_INVALID_VALUE;
  auto next = st.segments.lower_bound(address);
  if ((next != st.segments.end() && next->first < address + bytes) ||
      find_segment(address) != st.segments.end())
    return CUDA_ERROR_INVALID_VALUE;
  unmark_freed(address, address + bytes);
  Segment segment;
  segment.end = segment.extent.end = address + bytes;
  segment.device = physical->second.device;
  segment.backing = physical->second.backing + offset;
  segment.mapped = true;
  segment.accessible = false;
  segment.handle = handle;
  st.segments[address] = segment;
  ++physical->second.references;
  return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  VT_SIMULATE_UNSAFE(cuMemUnmap);
  State &st = state();
  auto at = st.segments.find(address);
  if (at == st.segments.end() || !at->second.mapped) {
    violation("lifetime: cuMemUnmap of %#llx, which is not mapped",
              static_cast<unsigned long long>(address));
    return CUDA_ERROR_INVALID_VALUE;
  }
  /* It does not wait, so nothing may be under way. */
  Uses uses = uses_within(address, address + bytes);
  while (at != st.segments.end() && at->first < address + bytes) {
    if (!at->second.mapped || at->second.end > address + bytes) return CUDA_ERROR_INVALID_VALUE;
    uses.join(at->second.extent.uses);
    drop_physical(at->second.handle);
    mark_freed(at->first, at->second.end);
    at = st.segments.erase(at);
  }
  if (uses.missing_from(st.host) >= 0)
    violation(
        "lifetime: cuMemUnmap of %#llx, which may still be in use: the host waited for nothing",
        static_cast<unsigned long long>(address));
  drop_range(address, address + bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *desc, size_t n) {
  VT_SIMULATE_UNSAFE(cuMemSetAccess);
  auto at = state().segments.find(address);
  if (at == state().segments.end() || !at->second.mapped || n == 0) return CUDA_ERROR_INVALID_VALUE;
  for (; at != state().segments.end() && at->first < address + bytes; ++at)
    for (size_t i = 0; i < n; ++i)
      if (desc[i].location.id == at->second.device)
        at->second.accessible = desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE;
  return CUDA_SUCCESS;
}

}  // namespace sim
}  // namespace vt_cuda
