#include "vibetensor/cuda/allocator_stats.h"

#include <algorithm>

#include "vibetensor/cuda/device_memory.h"
#include "vibetensor/cuda/segments.h"

namespace vt_cuda {

namespace {

void add(Stat &s, int64_t allocated, int64_t freed, int64_t current, int64_t peak) {
  s.current += current;
  s.peak += peak;
  s.allocated += allocated;
  s.freed += freed;
}

// The figures of one arena; kind kAll has peaks of its own.
void add_arena(MemoryStats &m, Arena *a) {
  std::lock_guard<SpinLock> guard(a->lock);
  a->note_peaks();
  for (int kind = 0; kind < 3; ++kind) {
    const Peaks &p = a->peaks[kind];
    int first = kind == kAll ? 0 : kind, last = kind == kAll ? 1 : kind;
    m.allocation[kind].peak += p.blocks;
    m.allocated_bytes[kind].peak += p.bytes;
    m.requested_bytes[kind].peak += p.requested;
    m.active[kind].peak += p.active_blocks;
    m.active_bytes[kind].peak += p.active_bytes;
    for (int k = first; k <= last; ++k) {
      const Totals &t = a->taken[k], &g = a->given[k], &w = a->waiting[k];
      const Totals &tb = a->taken_base[k], &gb = a->given_base[k], &wb = a->waiting_base[k];
      add(m.allocation[kind], t.blocks - tb.blocks, g.blocks - gb.blocks, t.blocks - g.blocks, 0);
      add(m.allocated_bytes[kind], t.bytes - tb.bytes, g.bytes - gb.bytes, t.bytes - g.bytes, 0);
      add(m.requested_bytes[kind], t.requested - tb.requested, g.requested - gb.requested,
          t.requested - g.requested, 0);
      add(m.active[kind], t.blocks - tb.blocks, g.blocks - gb.blocks - w.blocks + wb.blocks,
          t.blocks - g.blocks + w.blocks, 0);
      add(m.active_bytes[kind], t.bytes - tb.bytes, g.bytes - gb.bytes - w.bytes + wb.bytes,
          t.bytes - g.bytes + w.bytes, 0);
    }
  }
}

// Free blocks beside used ones: no release of cached memory gives them back.
void count_inactive(Device *d) {
  int64_t blocks[3] = {}, bytes[3] = {};
  for (auto &a : d->arenas) {
    std::lock_guard<SpinLock> guard(a->lock);
    a->settle();
    for (Segment *s = a->segments; s != nullptr; s = s->next) {
      for (Block *b = s->first; b != nullptr; b = b->after) {
        if (b->state != BlockState::free || (b->before == nullptr && b->after == nullptr)) continue;
        for (int k : {int(s->kind), int(kAll)}) {
          blocks[k] += 1;
          bytes[k] += int64_t(b->size);
        }
      }
    }
  }
  for (int k = 0; k < 3; ++k) {
    d->inactive_blocks[k].move_to(blocks[k]);
    d->inactive_bytes[k].move_to(bytes[k]);
  }
}

}  // namespace

MemoryStats memory_stats(int device) {
  MemoryStats m;
  Device *d = existing_device(device);
  if (d == nullptr) return m;
  std::lock_guard<std::mutex> guard(d->growth);
  for (auto &a : d->arenas) add_arena(m, a.get());
  count_inactive(d);
  for (int k = 0; k < 3; ++k) {
    m.segment[k] = d->segments[k];
    m.reserved_bytes[k] = d->reserved[k];
    m.inactive_split[k] = d->inactive_blocks[k];
    m.inactive_split_bytes[k] = d->inactive_bytes[k];
    // Sums of peaks of several streams may be more than ever was.
    for (Stat *s : {&m.allocated_bytes[k], &m.active_bytes[k], &m.requested_bytes[k]}) {
      s->peak = std::max(s->current, std::min(s->peak, d->reserved[k].peak));
    }
  }
  MemoryUse use = memory_use_locked(d);
  m.allocated_bytes[kAll].peak = use.max_allocated;
  m.oversize_allocations = d->oversize_allocations;
  m.oversize_segments = d->oversize_segments;
  size_t limit = options.max_split_size;
  m.max_split_size = limit == SIZE_MAX ? -1 : int64_t(limit);
  m.num_alloc_retries = d->retries;
  m.num_ooms = d->ooms;
  m.num_sync_all_streams = d->waits;
  m.num_device_alloc = d->driver_allocs;
  m.num_device_free = d->driver_frees;
  m.gc_passes = d->gc_passes;
  m.gc_reclaimed_bytes = d->gc_reclaimed;
  return m;
}

MemoryUse memory_use_locked(Device *d) {
  MemoryUse use;
  use.reserved = d->reserved[kAll].current;
  use.max_reserved = d->reserved[kAll].peak;
  if (d->arenas.size() == 1) {
    Arena *a = d->arenas.front().get();
    std::lock_guard<SpinLock> guard(a->lock);
    a->note_peaks();
    for (int k = 0; k < 2; ++k) use.allocated += a->taken[k].bytes - a->given[k].bytes;
    use.max_allocated = a->peaks[kAll].bytes;
  } else {
    use.allocated = d->shared_allocated.now();
    use.max_allocated = d->shared_allocated.peak();
  }
  return use;
}

MemoryUse memory_use(int device) {
  Device *d = existing_device(device);
  if (d == nullptr) return {};
  std::lock_guard<std::mutex> guard(d->growth);
  return memory_use_locked(d);
}

void reset_peak_stats(int device) {
  Device *d = existing_device(device);
  if (d == nullptr) return;
  std::lock_guard<std::mutex> guard(d->growth);
  for (auto &a : d->arenas) {
    std::lock_guard<SpinLock> arena_guard(a->lock);
    for (Peaks &p : a->peaks) p = {};
    a->note_peaks();
  }
  d->shared_allocated.reset_peak();
  for (Stat *stats : {d->segments, d->reserved, d->inactive_blocks, d->inactive_bytes}) {
    for (int k = 0; k < 3; ++k) stats[k].reset_peak();
  }
  d->oversize_allocations.reset_peak();
  d->oversize_segments.reset_peak();
}

void reset_accumulated_stats(int device) {
  Device *d = existing_device(device);
  if (d == nullptr) return;
  std::lock_guard<std::mutex> guard(d->growth);
  for (auto &a : d->arenas) {
    std::lock_guard<SpinLock> arena_guard(a->lock);
    for (int k = 0; k < 2; ++k) {
      a->taken_base[k] = a->taken[k];
      a->given_base[k] = a->given[k];
      a->waiting_base[k] = a->waiting[k];
    }
  }
  for (Stat *stats : {d->segments, d->reserved, d->inactive_blocks, d->inactive_bytes}) {
    for (int k = 0; k < 3; ++k) stats[k].reset_accumulated();
  }
  d->oversize_allocations.reset_accumulated();
  d->oversize_segments.reset_accumulated();
  d->retries = d->ooms = d->waits = d->driver_allocs = d->driver_frees = 0;
  d->gc_passes = d->gc_reclaimed = 0;
}

}  // namespace vt_cuda
