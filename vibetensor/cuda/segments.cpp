#include "vibetensor/cuda/segments.h"

#include "vibetensor/cuda/device_memory.h"

namespace vt_cuda {

namespace {

void count(Stat *of_kind, int kind, int64_t n) {
  for (int k : {kind, int(kAll)}) n > 0 ? of_kind[k].increase(n) : of_kind[k].decrease(-n);
}

CUmemAllocationProp properties_of(Device *d) {
  CUmemAllocationProp p = {};
  p.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  p.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  p.location.id = d->index;
  return p;
}

CUresult give_access(char *data, size_t size, int to) {
  CUmemAccessDesc access = {};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = to;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return driver.cuMemSetAccess(CUdeviceptr(data), size, &access, 1);
}

}  // namespace

Segment *new_segment(Device *d, size_t size, int kind, CUresult *code) {
  CUdeviceptr address = 0;
  *code = driver.cuMemAlloc(&address, size);
  if (*code != CUDA_SUCCESS) return nullptr;
  auto *s = new Segment;
  s->base = reinterpret_cast<char *>(address);
  s->size = size;
  s->kind = uint8_t(kind);
  d->driver_allocs++;
  count(d->segments, kind, 1);
  count(d->reserved, kind, int64_t(size));
  if (size >= options.max_split_size) d->oversize_segments.increase(1);
  return s;
}

void free_segment(Device *d, Segment *s) {
  if (s->expandable != nullptr) {
    driver.cuMemAddressFree(CUdeviceptr(s->base), s->size);
  } else {
    // Waits for everything on the device, so what still runs on the memory does no harm.
    driver.cuMemFree(CUdeviceptr(s->base));
    d->driver_frees++;
    count(d->segments, s->kind, -1);
    count(d->reserved, s->kind, -int64_t(s->size));
    if (s->size >= options.max_split_size && d->oversize_segments.current > 0) {
      d->oversize_segments.decrease(1);
    }
  }
  delete s;
}

Segment *new_expandable(Device *d, int kind, CUresult *code) {
  CUmemAllocationProp p = properties_of(d);
  size_t granule = 0;
  *code = driver.cuMemGetAllocationGranularity(&granule, &p, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
  if (*code != CUDA_SUCCESS) return nullptr;
  size_t chunk = kind == kSmall ? kSmallSegment : kLargeSegment;
  chunk = (chunk + granule - 1) / granule * granule;
  // More than the memory, since holes in the range cannot always be used.
  size_t size = (d->total + d->total / 8 + chunk - 1) / chunk * chunk;
  CUdeviceptr address = 0;
  *code = driver.cuMemAddressReserve(&address, size, 0, 0, 0);
  if (*code != CUDA_SUCCESS) return nullptr;
  auto *s = new Segment;
  s->base = reinterpret_cast<char *>(address);
  s->size = size;
  s->kind = uint8_t(kind);
  s->expandable.reset(new Expandable);
  s->expandable->chunk = chunk;
  s->expandable->handles.resize(size / chunk);
  return s;
}

CUresult map_memory(Device *d, Segment *s, char *data, size_t size) {
  Expandable &e = *s->expandable;
  CUmemAllocationProp p = properties_of(d);
  size_t first = size_t(data - s->base) / e.chunk, last = first + size / e.chunk;
  CUresult code = CUDA_SUCCESS;
  size_t i = first;
  for (; i < last; ++i) {
    CUmemGenericAllocationHandle handle = 0;
    code = driver.cuMemCreate(&handle, e.chunk, &p, 0);
    if (code != CUDA_SUCCESS) break;
    code = driver.cuMemMap(CUdeviceptr(s->base + i * e.chunk), e.chunk, 0, handle, 0);
    if (code != CUDA_SUCCESS) {
      driver.cuMemRelease(handle);
      break;
    }
    e.handles[i] = handle;
  }
  if (code == CUDA_SUCCESS) code = give_access(data, size, d->index);
  for (size_t k = 0; code == CUDA_SUCCESS && k < d->peers.size(); ++k) {
    code = give_access(data, size, d->peers[k]);
  }
  if (code != CUDA_SUCCESS) {
    while (i-- > first) {
      driver.cuMemUnmap(CUdeviceptr(s->base + i * e.chunk), e.chunk);
      driver.cuMemRelease(e.handles[i]);
      e.handles[i] = 0;
    }
    return code;
  }
  d->driver_allocs++;
  if (e.mapped == 0) count(d->segments, s->kind, 1);
  e.mapped += size;
  count(d->reserved, s->kind, int64_t(size));
  return code;
}

// Unlike cuMemFree this does not wait: the caller has.
void unmap_memory(Device *d, Segment *s, char *data, size_t size) {
  Expandable &e = *s->expandable;
  size_t first = size_t(data - s->base) / e.chunk, last = first + size / e.chunk;
  for (size_t i = first; i < last; ++i) {
    driver.cuMemUnmap(CUdeviceptr(s->base + i * e.chunk), e.chunk);
    driver.cuMemRelease(e.handles[i]);
    e.handles[i] = 0;
  }
  d->driver_frees++;
  e.mapped -= size;
  if (e.mapped == 0) count(d->segments, s->kind, -1);
  count(d->reserved, s->kind, -int64_t(size));
}

CUresult map_for_peer(Segment *s, int peer) {
  Expandable &e = *s->expandable;
  for (size_t i = 0; i < e.handles.size(); ++i) {
    if (e.handles[i] == 0) continue;
    CUresult code = give_access(s->base + i * e.chunk, e.chunk, peer);
    if (code != CUDA_SUCCESS) return code;
  }
  return CUDA_SUCCESS;
}

}  // namespace vt_cuda
