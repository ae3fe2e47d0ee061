// Arenas of streams, private pools, and the routes that send allocations to a pool.
#include <algorithm>

#include "vibetensor/cuda/device_memory.h"
#include "vibetensor/cuda/segments.h"

namespace vt_cuda {

namespace {

// An address of its own for every thread.
const void *this_thread() {
  static thread_local char mark;
  return &mark;
}

bool capture_id(CUstream stream, cuuint64_t *id) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  CUresult code =
      driver.cuStreamGetCaptureInfo(stream, &status, id, nullptr, nullptr, nullptr, nullptr);
  return code == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

bool same_capture(CUstream a, CUstream b) {
  cuuint64_t ida = 0, idb = 0;
  return capture_id(a, &ida) && capture_id(b, &idb) && ida == idb;
}

bool matches(const Route &r, CUstream stream) {
  if (r.thread != nullptr) return r.thread == this_thread();
  return r.stream == stream || same_capture(stream, r.stream);
}

PrivatePool *find_pool(Device *d, PoolId id) {
  auto it = d->pools.find(id);
  return it == d->pools.end() ? nullptr : it->second.get();
}

PrivatePool *hold_pool(Device *d, PoolId id) {
  std::unique_ptr<PrivatePool> &pool = d->pools[id];
  if (pool == nullptr) {
    pool.reset(new PrivatePool);
    pool->id = id;
  }
  pool->use_count++;
  return pool.get();
}

bool begin(int device, PoolId id, CUstream stream, const void *thread) {
  Device *d = device_memory(device);
  if (d == nullptr) return false;
  {
    std::lock_guard<std::mutex> guard(d->growth);
    PrivatePool *pool = hold_pool(d, id);
    std::lock_guard<std::mutex> routes_guard(d->routes_mutex);
    d->routes.push_back({id, pool, stream, thread});
  }
  if (thread == nullptr) captures_underway++;
  d->update_special();
  return true;
}

}  // namespace

// --- arenas ---------------------------------------------------------------------------------------

Arena *Device::make_arena(CUstream stream, PrivatePool *pool) {
  if (pool != nullptr && !idle.empty()) {
    Arena *a = idle.back();
    idle.pop_back();
    a->stream = stream;
    a->pool = pool;
    a->no_split = pool->no_split;
    return a;
  }
  arenas.emplace_back(new Arena(this, stream, pool));
  Arena *a = arenas.back().get();
  a->no_split = pool != nullptr && pool->no_split;
  a->solo = arenas.size() == 1;
  if (Arena *first = arenas.front().get(); arenas.size() == 2) {
    std::lock_guard<SpinLock> guard(first->lock);
    first->note_peaks();
    Totals &s = first->taken[kSmall], &l = first->taken[kLarge];
    Totals &sg = first->given[kSmall], &lg = first->given[kLarge];
    shared_allocated.set(s.bytes + l.bytes - sg.bytes - lg.bytes, first->peaks[kAll].bytes);
    first->solo = false;
  }
  return a;
}

Arena *Device::new_arena(CUstream stream) {
  std::lock_guard<std::mutex> guard(growth);
  std::atomic<Arena *> &head = bucket(stream);
  for (Arena *a = head; a != nullptr; a = a->next_in_bucket) {
    if (a->stream == stream) return a;
  }
  Arena *a = make_arena(stream, nullptr);
  a->next_in_bucket = head;
  head.store(a, std::memory_order_release);
  return a;
}

Arena *Device::pool_arena(PoolId id, CUstream stream) {
  std::lock_guard<std::mutex> guard(growth);
  PrivatePool *pool = find_pool(this, id);
  if (pool == nullptr) return nullptr;
  for (Arena *a : pool->arenas) {
    if (a->stream == stream) return a;
  }
  Arena *a = make_arena(stream, pool);
  std::lock_guard<std::mutex> routes_guard(routes_mutex);
  pool->arenas.push_back(a);
  return a;
}

void Device::update_special() {
  std::lock_guard<std::mutex> guard(routes_mutex);
  unsigned bits = 0;
  if (!routes.empty()) bits |= kRouted;
  if (history_on()) bits |= kRecording;
  if (options.unusual()) bits |= kOptions;
  special = bits;
}

// --- routes ---------------------------------------------------------------------------------------

Arena *routed_arena(Device *d, CUstream stream) {
  PoolId id;
  {
    std::lock_guard<std::mutex> guard(d->routes_mutex);
    auto route = std::find_if(d->routes.rbegin(), d->routes.rend(),
                              [&](const Route &r) { return matches(r, stream); });
    if (route == d->routes.rend()) return nullptr;
    for (Arena *a : route->pool->arenas) {
      if (a->stream == stream) return a;
    }
    id = route->id;
  }
  return d->pool_arena(id, stream);
}

bool begin_allocate_to_pool(int device, PoolId id, CUstream stream) {
  return begin(device, id, stream, nullptr);
}

bool begin_allocate_thread_to_pool(int device, PoolId id) {
  return begin(device, id, nullptr, this_thread());
}

void end_allocate_to_pool(int device, PoolId id) {
  Device *d = existing_device(device);
  if (d == nullptr) return;
  {
    std::lock_guard<std::mutex> guard(d->routes_mutex);
    // The latest one; of those by thread only the caller's own.
    auto route = std::find_if(d->routes.rbegin(), d->routes.rend(), [&](const Route &r) {
      return r.id == id && (r.thread == nullptr || r.thread == this_thread());
    });
    if (route == d->routes.rend()) return;
    if (route->thread == nullptr) captures_underway--;
    d->routes.erase(std::next(route).base());
  }
  d->update_special();
}

// --- private pools --------------------------------------------------------------------------------

PoolId new_pool_id() {
  static std::atomic<uint64_t> last{0};
  return {0, ++last};
}

bool retain_pool(int device, PoolId id, bool use_on_oom, bool no_split) {
  Device *d = device_memory(device);
  if (d == nullptr) return false;
  std::lock_guard<std::mutex> guard(d->growth);
  PrivatePool *pool = hold_pool(d, id);
  pool->use_on_oom |= use_on_oom;
  pool->no_split |= no_split;
  return true;
}

void release_pool(int device, PoolId id) {
  Device *d = existing_device(device);
  if (d == nullptr) return;
  std::lock_guard<std::mutex> guard(d->growth);
  PrivatePool *pool = find_pool(d, id);
  if (pool == nullptr || --pool->use_count > 0) return;
  // While something is captured, memory that replays may still use cannot be waited for.
  if (captures_underway > 0) return;
  DriverScope scope(device);
  for (Arena *a : pool->arenas) {
    a->waiting_blocks.poll(a, true);  // deferred by the capture, and nobody else asks this arena
    release_arena(d, a);
  }
  drop_unused_pools(d);
}

int pool_use_count(int device, PoolId id) {
  Device *d = existing_device(device);
  if (d == nullptr) return 0;
  std::lock_guard<std::mutex> guard(d->growth);
  PrivatePool *pool = find_pool(d, id);
  return pool == nullptr ? 0 : pool->use_count;
}

void drop_unused_pools(Device *d) {
  for (auto it = d->pools.begin(); it != d->pools.end();) {
    PrivatePool *pool = it->second.get();
    bool needed = pool->use_count > 0;
    for (Arena *a : pool->arenas) needed |= !leave_arena(d, a);
    if (needed) {
      ++it;
      continue;
    }
    for (Arena *a : pool->arenas) {
      a->pool = nullptr;
      d->idle.push_back(a);
    }
    it = d->pools.erase(it);
  }
}

}  // namespace vt_cuda
