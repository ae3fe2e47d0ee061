#include "vibetensor/cuda/memory_api.h"

#include <string>

#include "vibetensor/cuda/allocator.h"
#include "vibetensor/cuda/allocator_options.h"
#include "vibetensor/cuda/allocator_stats.h"
#include "vibetensor/cuda/device_memory.h"
#include "vibetensor/cuda/host_allocator.h"
#include "vibetensor/cuda/snapshot.h"

using namespace vt_cuda;

namespace {

constexpr const char *kActionNames[] = {
    "alloc",        "free_requested", "free_completed", "segment_alloc",
    "segment_free", "segment_map",    "segment_unmap",  "oom",
    "snapshot"};
constexpr int kActions = sizeof(kActionNames) / sizeof(kActionNames[0]);

PoolId pool_id(vt_cuda_pool_id p) { return {p.first, p.second}; }
vt_cuda_pool_id pool_id(PoolId p) { return {p.first, p.second}; }
uint64_t number(const void *p) { return reinterpret_cast<uintptr_t>(p); }

class Figures {
 public:
  Figures(vt_cuda_figure_sink sink, void *to) : sink_(sink), to_(to) {}
  void one(const std::string &name, int64_t value) { sink_(to_, name.c_str(), value); }
  void stat(const std::string &name, const Stat &s) {
    one(name + ".current", s.current);
    one(name + ".peak", s.peak);
    one(name + ".allocated", s.allocated);
    one(name + ".freed", s.freed);
  }
  void by_kind(const std::string &name, const Stat *stats) {
    stat(name + ".small_pool", stats[kSmall]);
    stat(name + ".large_pool", stats[kLarge]);
    stat(name + ".all", stats[kAll]);
  }
  void time(const std::string &name, const HostMemoryStats::Time &t) {
    one(name + ".total", t.total);
    one(name + ".max", t.max);
    one(name + ".min", t.min);
    one(name + ".count", t.count);
    one(name + ".avg", t.count > 0 ? t.total / t.count : 0);
  }

 private:
  vt_cuda_figure_sink sink_;
  void *to_;
};

}  // namespace

const char *vt_cuda_memory_error(void) { return memory_error(); }
int vt_cuda_memory_error_is_oom(void) { return memory_error_is_oom(); }

int vt_cuda_set_allocator_options(const char *text) {
  std::string error;
  if (set_allocator_options(text, &error)) return 1;
  set_memory_error(error, false);
  return 0;
}

int vt_cuda_check_allocator_options(void) {
  std::string error;
  if (read_environment_options(&error)) return 1;
  set_memory_error(error, false);
  return 0;
}

const char *vt_cuda_allocator_options(void) {
  static thread_local std::string text;
  text = allocator_options_text();
  return text.c_str();
}

int vt_cuda_expandable_segments(void) { return options.expandable_segments; }
double vt_cuda_gc_threshold(void) { return options.garbage_collection_threshold; }
void vt_cuda_set_caching(int on) { set_caching(on != 0); }
int vt_cuda_caching(void) { return options.caching; }
int vt_cuda_set_memory_fraction(int device, double fraction) {
  return set_memory_fraction(device, fraction);
}
double vt_cuda_memory_fraction(int device) { return memory_fraction(device); }

void *vt_cuda_alloc_raw(int device, void *stream, size_t bytes) {
  return alloc_raw(device, static_cast<CUstream>(stream), bytes);
}
int vt_cuda_free_raw(void *data) { return free_raw(data); }
void vt_cuda_empty_cache(int device) { empty_cache(device); }
void vt_cuda_host_empty_cache(void) { host_empty_cache(); }

vt_cuda_pool_id vt_cuda_new_pool_id(void) { return pool_id(new_pool_id()); }
int vt_cuda_retain_pool(int device, vt_cuda_pool_id pool, int use_on_oom, int no_split) {
  return retain_pool(device, pool_id(pool), use_on_oom != 0, no_split != 0);
}
void vt_cuda_drop_pool(int device, vt_cuda_pool_id pool) { release_pool(device, pool_id(pool)); }
int vt_cuda_pool_use_count(int device, vt_cuda_pool_id pool) {
  return pool_use_count(device, pool_id(pool));
}
int vt_cuda_begin_thread_pool(int device, vt_cuda_pool_id pool) {
  return begin_allocate_thread_to_pool(device, pool_id(pool));
}
void vt_cuda_end_pool(int device, vt_cuda_pool_id pool) {
  end_allocate_to_pool(device, pool_id(pool));
}

void vt_cuda_memory_stats(int device, vt_cuda_figure_sink sink, void *to) {
  MemoryStats m = memory_stats(device);
  Figures f(sink, to);
  f.by_kind("allocation", m.allocation);
  f.by_kind("segment", m.segment);
  f.by_kind("active", m.active);
  f.by_kind("inactive_split", m.inactive_split);
  f.by_kind("allocated_bytes", m.allocated_bytes);
  f.by_kind("reserved_bytes", m.reserved_bytes);
  f.by_kind("active_bytes", m.active_bytes);
  f.by_kind("inactive_split_bytes", m.inactive_split_bytes);
  f.by_kind("requested_bytes", m.requested_bytes);
  f.stat("oversize_allocations", m.oversize_allocations);
  f.stat("oversize_segments", m.oversize_segments);
  f.one("max_split_size", m.max_split_size);
  f.one("num_alloc_retries", m.num_alloc_retries);
  f.one("num_ooms", m.num_ooms);
  f.one("num_sync_all_streams", m.num_sync_all_streams);
  f.one("num_device_alloc", m.num_device_alloc);
  f.one("num_device_free", m.num_device_free);
  f.one("gc_passes", m.gc_passes);
  f.one("gc_reclaimed_bytes", m.gc_reclaimed_bytes);
}

void vt_cuda_host_memory_stats(vt_cuda_figure_sink sink, void *to) {
  HostMemoryStats m = host_memory_stats();
  Figures f(sink, to);
  f.stat("allocations", m.allocations);
  f.stat("allocated_bytes", m.allocated_bytes);
  f.stat("active_requests", m.active_requests);
  f.stat("active_bytes", m.active_bytes);
  f.one("num_host_alloc", m.num_host_alloc);
  f.one("num_host_free", m.num_host_free);
  f.time("host_alloc_time", m.alloc_time);
  f.time("host_free_time", m.free_time);
}

vt_cuda_memory_use vt_cuda_get_memory_use(int device) {
  MemoryUse use = memory_use(device);
  return {use.allocated, use.max_allocated, use.reserved, use.max_reserved};
}
void vt_cuda_reset_peak_stats(int device) { reset_peak_stats(device); }
void vt_cuda_reset_accumulated_stats(int device) { reset_accumulated_stats(device); }
void vt_cuda_host_reset_peak_stats(void) { host_reset_peak_stats(); }
void vt_cuda_host_reset_accumulated_stats(void) { host_reset_accumulated_stats(); }

void vt_cuda_memory_snapshot(const vt_cuda_pool_id *pool, vt_cuda_segment_sink sink, void *to) {
  PoolId id;
  if (pool != nullptr) id = pool_id(*pool);
  for (const SegmentInfo &s : memory_snapshot(pool != nullptr ? &id : nullptr)) {
    vt_cuda_segment_info segment = {};
    segment.device = s.device;
    segment.large = s.large;
    segment.expandable = s.expandable;
    segment.address = number(s.address);
    segment.total_size = s.total_size;
    segment.allocated_size = s.allocated_size;
    segment.active_size = s.active_size;
    segment.requested_size = s.requested_size;
    segment.stream = number(s.stream);
    segment.pool = pool_id(s.pool);
    sink(to, &segment, nullptr);
    for (const BlockInfo &b : s.blocks) {
      vt_cuda_block_info block = {number(b.address), b.size, b.requested, b.history, b.state};
      sink(to, nullptr, &block);
    }
  }
}

void vt_cuda_memory_trace(int device, vt_cuda_trace_sink sink, void *to) {
  for (const TraceEntry &e : memory_trace(device)) {
    vt_cuda_trace_entry entry = {kActionNames[int(e.action)],
                                 number(e.address),
                                 e.size,
                                 number(e.stream),
                                 e.history,
                                 e.device_free,
                                 e.time_us,
                                 pool_id(e.pool)};
    sink(to, &entry);
  }
}

uint64_t vt_cuda_allocation_history(uint64_t address) {
  return allocation_history(reinterpret_cast<const void *>(uintptr_t(address)));
}

void vt_cuda_record_memory_history(int on, int entries, int stacks, uint64_t max_entries,
                                   unsigned skip, uint64_t (*gather)(void), int clear) {
  HistorySettings s;
  s.on = on != 0;
  s.entries = entries != 0;
  s.stacks = Stacks(stacks);
  s.max_entries = size_t(max_entries);
  s.skip = skip;
  s.gather = gather;
  record_memory_history(s, clear != 0);
}

const char *vt_cuda_action_name(int action) {
  return action >= 0 && action < kActions ? kActionNames[action] : nullptr;
}
