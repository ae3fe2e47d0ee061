#include "vibetensor/cuda/host_allocator.h"

#include <time.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "vibetensor/cuda/device_memory.h"

namespace vt_cuda {

struct HostBlock {
  char *data;
  size_t size;
  int bucket;                   // size == 1 << bucket
  std::vector<StreamUse> uses;  // since it was handed out
  int events = 0;               // that it waits for
};

namespace {

constexpr int kBuckets = 48;
constexpr int kSmallestBucket = 9;

struct Waiting {
  CUevent event;
  int device;
  HostBlock *block;
};

// One mutex is enough: pinned memory is for transfers, which cost far more.
struct HostCache {
  std::mutex mutex;
  std::vector<HostBlock *> free[kBuckets];
  std::map<const char *, HostBlock *> blocks;  // all, by address
  std::deque<Waiting> waiting;
  std::vector<HostBlock *> deferred;  // released while their stream was captured
  HostMemoryStats stats;
};

HostCache &cache() {
  static auto *c = new HostCache;  // outlives the destructors of statics
  return *c;
}

int64_t now_us() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t(t.tv_sec) * 1000000 + t.tv_nsec / 1000;
}

void add_time(HostMemoryStats::Time &t, int64_t us) {
  t.min = t.count == 0 ? us : std::min(t.min, us);
  t.max = std::max(t.max, us);
  t.total += us;
  t.count++;
}

void make_free(HostCache &c, HostBlock *b) {
  c.stats.active_requests.decrease(1);
  c.stats.active_bytes.decrease(int64_t(b->size));
  c.free[b->bucket].push_back(b);
}

bool used_by_capture(const HostBlock *b) {
  if (captures_underway > 0 && !b->uses.empty()) return true;
  for (const StreamUse &use : b->uses) {
    DriverScope scope(use.device);
    if (stream_capturing(use.stream)) return true;
  }
  return false;
}

void record_events(HostCache &c, HostBlock *b) {
  for (const StreamUse &use : b->uses) {
    DriverScope scope(use.device);
    CUevent event = take_event(use.device);
    if (event != nullptr && driver.cuEventRecord(event, use.stream) == CUDA_SUCCESS) {
      c.waiting.push_back({event, use.device, b});
      b->events++;
      continue;
    }
    give_event(use.device, event);
    driver.cuCtxSynchronize();  // the stream is gone: whatever was on it ends here
  }
  b->uses.clear();
  if (b->events == 0) make_free(c, b);
}

void poll(HostCache &c) {
  std::vector<HostBlock *> deferred;
  deferred.swap(c.deferred);
  for (HostBlock *b : deferred) {
    if (used_by_capture(b)) {
      c.deferred.push_back(b);
    } else {
      record_events(c, b);
    }
  }
  // Streams finish in no particular order, so all are looked at.
  for (size_t i = c.waiting.size(); i > 0; --i) {
    Waiting w = c.waiting.front();
    c.waiting.pop_front();
    DriverScope scope(w.device);
    if (driver.cuEventQuery(w.event) == CUDA_ERROR_NOT_READY) {
      c.waiting.push_back(w);
      continue;
    }
    give_event(w.device, w.event);
    if (--w.block->events == 0) make_free(c, w.block);
  }
}

HostBlock *take(HostCache &c, int bucket) {
  if (c.free[bucket].empty()) return nullptr;
  HostBlock *b = c.free[bucket].back();
  c.free[bucket].pop_back();
  return b;
}

void free_cached(HostCache &c) {
  for (auto &list : c.free) {
    for (HostBlock *b : list) {
      int64_t start = now_us();
      driver.cuMemFreeHost(b->data);
      add_time(c.stats.free_time, now_us() - start);
      c.stats.num_host_free++;
      c.stats.allocations.decrease(1);
      c.stats.allocated_bytes.decrease(int64_t(b->size));
      c.blocks.erase(b->data);
      delete b;
    }
    list.clear();
  }
}

HostBlock *make_block(HostCache &c, int bucket) {
  // Locked for all devices, so any context will do.
  DriverScope scope(current_device());
  if (scope.context.status() != VT_OK) {
    set_memory_error(last_error(), false);
    return nullptr;
  }
  size_t size = size_t(1) << bucket;
  void *data = nullptr;
  int64_t start = now_us();
  CUresult code = driver.cuMemHostAlloc(&data, size, CU_MEMHOSTALLOC_PORTABLE);
  if (code == CUDA_ERROR_OUT_OF_MEMORY) {
    free_cached(c);
    code = driver.cuMemHostAlloc(&data, size, CU_MEMHOSTALLOC_PORTABLE);
  }
  if (code != CUDA_SUCCESS) {
    driver_error(code, "cuMemHostAlloc");
    set_memory_error(
        "page-locking " + std::to_string(size) + " bytes of host memory: " + last_error(),
        code == CUDA_ERROR_OUT_OF_MEMORY);
    return nullptr;
  }
  add_time(c.stats.alloc_time, now_us() - start);
  c.stats.num_host_alloc++;
  c.stats.allocations.increase(1);
  c.stats.allocated_bytes.increase(int64_t(size));
  auto *b = new HostBlock;
  b->data = static_cast<char *>(data);
  b->size = size;
  b->bucket = bucket;
  c.blocks[b->data] = b;
  return b;
}

}  // namespace

HostBlock *host_allocate(size_t bytes) {
  HostCache &c = cache();
  int bucket = bytes <= 1 ? 0 : 64 - __builtin_clzll(bytes - 1);
  bucket = std::max(bucket, kSmallestBucket);
  if (bucket >= kBuckets) {
    set_memory_error("page-locked memory: no machine has " + std::to_string(bytes) + " bytes",
                     true);
    return nullptr;
  }
  std::lock_guard<std::mutex> guard(c.mutex);
  if (!c.waiting.empty() || !c.deferred.empty()) poll(c);
  HostBlock *b = take(c, bucket);
  if (b == nullptr) b = make_block(c, bucket);
  if (b == nullptr) return nullptr;
  c.stats.active_requests.increase(1);
  c.stats.active_bytes.increase(int64_t(b->size));
  return b;
}

void *host_block_data(const HostBlock *b) { return b->data; }
size_t host_block_size(const HostBlock *b) { return b->size; }

void host_record_stream(HostBlock *b, int device, CUstream stream) {
  StreamUse use = {stream, device};
  std::lock_guard<std::mutex> guard(cache().mutex);
  if (std::find(b->uses.begin(), b->uses.end(), use) == b->uses.end()) b->uses.push_back(use);
}

void host_release(HostBlock *b) {
  HostCache &c = cache();
  std::lock_guard<std::mutex> guard(c.mutex);
  if (used_by_capture(b)) {
    c.deferred.push_back(b);
  } else {
    record_events(c, b);
  }
}

HostBlock *host_find(const void *address) {
  HostCache &c = cache();
  const char *p = static_cast<const char *>(address);
  std::lock_guard<std::mutex> guard(c.mutex);
  auto it = c.blocks.upper_bound(p);
  if (it == c.blocks.begin()) return nullptr;
  HostBlock *b = std::prev(it)->second;
  return p < b->data + b->size ? b : nullptr;
}

void host_empty_cache() {
  HostCache &c = cache();
  std::lock_guard<std::mutex> guard(c.mutex);
  if (c.blocks.empty()) return;
  poll(c);
  DriverScope scope(current_device());
  free_cached(c);
}

bool host_reset() {
  HostCache &c = cache();
  std::lock_guard<std::mutex> guard(c.mutex);
  if (c.stats.active_requests.current > 0) return false;
  for (auto &entry : c.blocks) delete entry.second;
  for (auto &list : c.free) list.clear();
  c.blocks.clear();
  c.stats = {};
  return true;
}

HostMemoryStats host_memory_stats() {
  std::lock_guard<std::mutex> guard(cache().mutex);
  return cache().stats;
}

void host_reset_peak_stats() {
  HostCache &c = cache();
  std::lock_guard<std::mutex> guard(c.mutex);
  for (Stat *s : {&c.stats.allocations, &c.stats.allocated_bytes, &c.stats.active_requests,
                  &c.stats.active_bytes}) {
    s->reset_peak();
  }
}

void host_reset_accumulated_stats() {
  HostCache &c = cache();
  std::lock_guard<std::mutex> guard(c.mutex);
  for (Stat *s : {&c.stats.allocations, &c.stats.allocated_bytes, &c.stats.active_requests,
                  &c.stats.active_bytes}) {
    s->reset_accumulated();
  }
  c.stats.num_host_alloc = c.stats.num_host_free = 0;
  c.stats.alloc_time = c.stats.free_time = {};
}

}  // namespace vt_cuda
