/* What the allocator keeps per device: the arenas, how much is reserved, pools and routes. */
#ifndef VT_CUDA_DEVICE_MEMORY_H
#define VT_CUDA_DEVICE_MEMORY_H

#include <cuda.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vibetensor/cuda/allocator.h"
#include "vibetensor/cuda/allocator_options.h"
#include "vibetensor/cuda/allocator_stats.h"
#include "vibetensor/cuda/arena.h"
#include "vibetensor/cuda/memory_history.h"
#include "vibetensor/cuda/runtime.h"

namespace vt_cuda {

/* Bytes allocated on the device, with their peak, where several arenas share it. A lone arena counts
 * for itself, which spares it two atomic operations per block. */
class SharedBytes {
 public:
  void add(int64_t bytes) {
    int64_t now = now_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    int64_t peak = peak_.load(std::memory_order_relaxed);
    while (now > peak && !peak_.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
  }
  void subtract(int64_t bytes) { now_.fetch_sub(bytes, std::memory_order_relaxed); }
  void set(int64_t now, int64_t peak) {
    now_ = now;
    peak_ = peak;
  }
  int64_t now() const { return now_.load(std::memory_order_relaxed); }
  int64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  void reset_peak() { peak_ = now(); }

 private:
  std::atomic<int64_t> now_{0}, peak_{0};
};

/* A private pool: an arena per stream that allocated while it was open. */
struct PrivatePool {
  PoolId id;
  int use_count = 0;
  bool use_on_oom = false, no_split = false;
  std::vector<Arena *> arenas;
};

/* Where allocations of a stream or a thread go instead. */
struct Route {
  PoolId id;
  PrivatePool *pool;
  CUstream stream;
  const void *thread; /* NULL: by stream */
};

/* Why an allocation leaves the usual path: bits of Device::special. */
enum : unsigned { kRouted = 1, kRecording = 2, kOptions = 4 };

struct Device {
  int index = 0;
  size_t total = 0; /* bytes of the device */
  std::atomic<unsigned> special{0};
  SharedBytes shared_allocated;

  /* The ordinary arena of a stream. Lock-free once it exists. */
  Arena *arena(CUstream stream) {
    for (Arena *a = bucket(stream).load(std::memory_order_acquire); a != nullptr;
         a = a->next_in_bucket) {
      if (a->stream == stream) return a;
    }
    return new_arena(stream);
  }

  /* Guards what follows, and every change of segments. Held across calls of the driver. Comes before
   * the mutexes of waiting blocks and the locks of arenas. */
  std::mutex growth;
  std::vector<std::unique_ptr<Arena>> arenas; /* all ever made: their totals count */
  std::vector<Arena *> idle;                  /* of pools that went, to be used again */
  std::map<PoolId, std::unique_ptr<PrivatePool>> pools;
  std::vector<int> peers;
  double fraction = 1;
  size_t limit = SIZE_MAX; /* what `fraction` allows */
  Stat segments[3], reserved[3], oversize_allocations, oversize_segments;
  Stat inactive_blocks[3], inactive_bytes[3];
  int64_t retries = 0, ooms = 0, waits = 0, driver_allocs = 0, driver_frees = 0;
  int64_t gc_passes = 0, gc_reclaimed = 0;

  /* Guards `routes` and, with `growth`, the list of arenas of a pool. Comes after everything else. */
  std::mutex routes_mutex;
  std::vector<Route> routes;

  MemoryHistory history;

  Arena *pool_arena(PoolId pool, CUstream stream);
  void update_special();

 private:
  Arena *new_arena(CUstream stream);
  Arena *make_arena(CUstream stream, PrivatePool *pool);
  std::atomic<Arena *> &bucket(CUstream stream) {
    return buckets_[(reinterpret_cast<uintptr_t>(stream) * 0x9E3779B97F4A7C15ull) >> 58];
  }
  std::atomic<Arena *> buckets_[64] = {};
};

extern std::atomic<Device *> device_table[kMaxDevices];

/* Creates it at first use. NULL: there is no such device, or it cannot be used; set_memory_error has
 * been called. */
Device *create_device(int index);
inline Device *device_memory(int index) {
  if (__builtin_expect(unsigned(index) < kMaxDevices, 1)) {
    Device *d = device_table[index].load(std::memory_order_acquire);
    if (__builtin_expect(d != nullptr, 1)) return d;
  }
  return create_device(index);
}
/* Only if it exists. */
inline Device *existing_device(int index) {
  return unsigned(index) < kMaxDevices ? device_table[index].load(std::memory_order_acquire)
                                       : nullptr;
}

void set_memory_error(std::string text, bool oom);

/* Around calls of the driver: the device's context is current, and a capture that goes on in this
 * thread does not forbid them. */
struct DriverScope {
  explicit DriverScope(int device) : context(device) {}
  ContextGuard context;
  RelaxedCapture relaxed;
};

/* Captures that allocate into pools of ours, on any device. */
extern std::atomic<int> captures_underway;

/* The arena that the routes send a request to; NULL: no route fits. */
Arena *routed_arena(Device *d, CUstream stream);

/* --- under `growth`, within a DriverScope --- */

/* Forgets the pools that nothing needs any more. */
void drop_unused_pools(Device *d);
/* Gives what is unused of an arena back to the driver; bytes. */
size_t release_arena(Device *d, Arena *a);
/* The same of all arenas, but those of pools that a graph may still replay. */
size_t release_cached(Device *d);
/* Frees one segment if it is unused; bytes. */
size_t release_segment(Device *d, Segment *s);
/* Whether an arena holds no memory; then it has no addresses either. */
bool leave_arena(Device *d, Arena *a);
/* Frees unused segments, those unused longest first, until the reserve plus `wanted` is below the
 * threshold. */
void collect_garbage(Device *d, size_t wanted);
/* Frees unused segments of at least max_split_size until `wanted` bytes are free; how many are. */
size_t release_oversize(Device *d, size_t wanted);

/* memory_use() of a device. */
MemoryUse memory_use_locked(Device *d);

/* --- without a lock --- */

/* Everything that is tried when no cached block fits (growth.cpp). */
Block *grow(Arena *a, size_t key, size_t requested, uint64_t history);
/* Frees the segment of a block that is given back, the only one in it. */
void free_alone(Block *b);
/* Records an event of the block, if that is wanted. */
void note_block(Action action, const Block *b, uint64_t history);

}  // namespace vt_cuda
#endif
