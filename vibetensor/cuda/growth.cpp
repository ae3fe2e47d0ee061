// What happens when no cached block fits: memory from the driver, and what is tried before giving up.
#include <stdio.h>

#include <algorithm>

#include "vibetensor/cuda/device_memory.h"
#include "vibetensor/cuda/segments.h"

namespace vt_cuda {

namespace {

struct Growth {
  Device *d;
  Arena *a;
  size_t key, requested;
  uint64_t history;
  CUresult code = CUDA_SUCCESS;
  bool capped = false;  // the fraction of the device's memory would be exceeded
  bool lacks_memory() const { return capped || code == CUDA_ERROR_OUT_OF_MEMORY; }
  int kind() const { return key <= kSmallRequest ? kSmall : kLarge; }
};

size_t segment_size(size_t key) {
  if (!options.caching) return key;
  if (key <= kSmallRequest) return kSmallSegment;
  if (key < kOwnSegment) return kLargeSegment;
  return (key + kSegmentGranule - 1) / kSegmentGranule * kSegmentGranule;
}

bool within_limit(Growth &g, size_t more) {
  g.capped = size_t(g.d->reserved[kAll].current) + more > g.d->limit;
  return !g.capped;
}

void note(const Growth &g, Action action, const char *data, size_t size) {
  if (!(g.d->special & kRecording)) return;
  g.d->history.record(action, data, size, g.a->stream,
                      g.a->pool != nullptr ? g.a->pool->id : PoolId{}, g.history);
}

Block *add_plain(Growth &g) {
  size_t size = segment_size(g.key);
  if (!within_limit(g, size)) return nullptr;
  Segment *s = new_segment(g.d, size, g.kind(), &g.code);
  if (s == nullptr) return nullptr;
  note(g, Action::segment_alloc, s->base, size);
  std::lock_guard<SpinLock> guard(g.a->lock);
  g.a->add_segment(s);
  s->first = g.a->new_block(s->base, size, s);
  Block *b = g.a->take_new(s->first, g.key, g.requested);
  b->alone = !options.caching;
  return b;
}

// A free neighbour that the new memory joins, taken out of its list so that nobody else gets it.
Block *hold_free(Arena *a, Block *b) {
  if (b == nullptr || b->state != BlockState::free) return nullptr;
  a->take_off(b);
  b->state = BlockState::growing;
  return b;
}

struct Hole {
  Block *before = nullptr, *block = nullptr, *after = nullptr;
};

// The first unmapped block of the segment that is large enough, with its free neighbours; as much of it
// as is needed.
Hole find_hole(Growth &g, Segment *s) {
  std::lock_guard<SpinLock> guard(g.a->lock);
  g.a->settle();
  auto free_size = [](const Block *b) {
    return b != nullptr && b->state == BlockState::free ? b->size : 0;
  };
  Hole hole;
  for (Block *b = s->first; b != nullptr; b = b->after) {
    if (b->state != BlockState::unmapped) continue;
    size_t before = free_size(b->before), chunk = s->expandable->chunk;
    if (before + b->size + free_size(b->after) < g.key) continue;
    // That before alone was no fit: it is large enough only if another thread gave it back just now.
    size_t need = g.key > before ? (g.key - before + chunk - 1) / chunk * chunk : chunk;
    if (need < b->size) g.a->cut(b, need, BlockState::unmapped);
    hole.before = hold_free(g.a, b->before);
    hole.block = b;
    hole.after = hold_free(g.a, b->after);
    b->state = BlockState::growing;
    break;
  }
  return hole;
}

Block *add_expandable(Growth &g) {
  Segment *&s = g.a->expandable[g.kind()];
  if (s == nullptr) {
    s = new_expandable(g.d, g.kind(), &g.code);
    if (s == nullptr) return nullptr;
    std::lock_guard<SpinLock> guard(g.a->lock);
    g.a->add_segment(s);
    s->first = g.a->new_block(s->base, s->size, s);
    s->first->state = BlockState::unmapped;
  }
  Hole hole = find_hole(g, s);
  if (hole.block == nullptr) {  // more than the device has
    g.code = CUDA_ERROR_OUT_OF_MEMORY;
    return nullptr;
  }
  bool mapped = within_limit(g, hole.block->size);
  if (mapped) {
    g.code = map_memory(g.d, s, hole.block->data, hole.block->size);
    mapped = g.code == CUDA_SUCCESS;
  }
  if (mapped) note(g, Action::segment_map, hole.block->data, hole.block->size);
  std::lock_guard<SpinLock> guard(g.a->lock);
  Block *b = hole.block;
  if (mapped) {
    if (hole.after != nullptr) g.a->absorb(b, hole.after);
    if (hole.before != nullptr) {
      g.a->absorb(hole.before, b);
      b = hole.before;
    }
    return g.a->take_new(b, g.key, g.requested);
  }
  b->state = BlockState::unmapped;
  if (b->after != nullptr && b->after->state == BlockState::unmapped) g.a->absorb(b, b->after);
  if (hole.before != nullptr) g.a->put_free(hole.before);
  if (hole.after != nullptr) g.a->put_free(hole.after);
  return nullptr;
}

Block *add_memory(Growth &g) {
  g.code = CUDA_SUCCESS;
  bool expandable = options.expandable_segments && options.caching;
  return expandable ? add_expandable(g) : add_plain(g);
}

// Pools that lend their memory when there is no other.
Block *take_from_lenders(Growth &g) {
  for (auto &entry : g.d->pools) {
    if (!entry.second->use_on_oom) continue;
    for (Arena *a : entry.second->arenas) {
      if (a->stream != g.a->stream) continue;
      if (Block *b = a->take(g.key, g.requested)) return b;
    }
  }
  return nullptr;
}

std::string gib(double bytes) {
  char text[32];
  if (bytes >= 1 << 30) {
    snprintf(text, sizeof(text), "%.2f GiB", bytes / (1 << 30));
  } else if (bytes >= 1 << 20) {
    snprintf(text, sizeof(text), "%.2f MiB", bytes / (1 << 20));
  } else {
    snprintf(text, sizeof(text), "%.2f KiB", bytes / (1 << 10));
  }
  return text;
}

// Of the cached bytes, what one request for all of them could not get.
double fragmentation(Device *d, size_t *cached) {
  size_t largest = 0;
  *cached = 0;
  for (auto &a : d->arenas) {
    std::lock_guard<SpinLock> guard(a->lock);
    a->settle();
    for (Segment *s = a->segments; s != nullptr; s = s->next) {
      for (Block *b = s->first; b != nullptr; b = b->after) {
        if (b->state != BlockState::free) continue;
        *cached += b->size;
        largest = std::max(largest, b->size);
      }
    }
  }
  return *cached == 0 ? 0 : 1 - double(largest) / double(*cached);
}

void report_oom(Growth &g, bool capturing) {
  Device *d = g.d;
  size_t free = 0, total = d->total, cached = 0;
  driver.cuMemGetInfo(&free, &total);
  if (d->special & kRecording) {
    d->history.record(Action::oom, nullptr, g.requested, g.a->stream, PoolId{}, g.history,
                      int64_t(free));
  }
  double split = fragmentation(d, &cached);
  MemoryUse use = memory_use_locked(d);
  double reserved = double(use.reserved), others = double(total) - double(free) - reserved;
  std::string text = "CUDA out of memory. Tried to allocate " + gib(double(g.requested)) +
                     ". GPU " + std::to_string(d->index) + " has a total capacity of " +
                     gib(double(total)) + " of which " + gib(double(free)) + " is free. ";
  if (g.capped) {
    text +=
        gib(double(d->limit)) + " are allowed to this process by set_per_process_memory_fraction. ";
  }
  text += "This process has reserved " + gib(reserved) + ": " + gib(double(use.allocated)) +
          " is allocated, " + gib(double(cached)) + " is cached in pieces (" +
          std::to_string(int(split * 100)) + "% fragmentation). ";
  if (capturing) {
    text +=
        "A graph is being captured, so cached memory could not be given back: call "
        "vibetensor.cuda.empty_cache() before the capture. ";
  }
  if (others > 0.1 * double(total)) {
    text += "Other processes and libraries hold " + gib(others) +
            ": see vibetensor.cuda.list_gpu_processes(). ";
  }
  if (cached > g.requested && !options.expandable_segments) {
    text +=
        "The cached memory would be enough in one piece: set "
        "VIBETENSOR_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation. ";
  }
  text +=
      "To use less, free tensors that are no longer needed or make the batch smaller; "
      "vibetensor.cuda.memory_summary() shows where it went.";
  set_memory_error(text, true);
}

Block *fail(Growth &g, bool capturing) {
  if (g.lacks_memory()) {
    g.d->ooms++;
    report_oom(g, capturing);
  } else {
    driver_error(g.code, "allocating memory");
    set_memory_error(last_error(), false);
  }
  return nullptr;
}

}  // namespace

Block *grow(Arena *a, size_t key, size_t requested, uint64_t history) {
  Device *d = a->device;
  std::lock_guard<std::mutex> guard(d->growth);
  DriverScope scope(d->index);
  Growth g{d, a, key, requested, history};
  bool capturing = captures_underway > 0;

  // Memory may have come back while we waited for the lock, and events may have passed.
  a->waiting_blocks.poll(a);
  if (options.caching) {
    if (Block *b = a->take(key, requested)) return b;
  }
  if (!capturing) collect_garbage(d, segment_size(key));
  if (Block *b = add_memory(g)) return b;

  // Other failures than a lack of memory are not helped by what follows, and a capture forbids it.
  if (g.lacks_memory() && !capturing) {
    d->retries++;
    if (release_oversize(d, segment_size(key)) > 0) {
      if (Block *b = add_memory(g)) return b;
    }
    d->waits++;
    for (auto &other : d->arenas) other->waiting_blocks.poll(other.get(), true);
    if (options.caching) {
      if (Block *b = a->take(key, requested)) return b;
    }
    if (release_cached(d) > 0 || g.capped) {
      if (Block *b = add_memory(g)) return b;
    }
  }
  if (g.lacks_memory()) {
    if (Block *b = take_from_lenders(g)) return b;
  }
  return fail(g, capturing);
}

void free_alone(Block *b) {
  Device *d = b->arena->device;
  std::lock_guard<std::mutex> guard(d->growth);
  DriverScope scope(d->index);
  Segment *s = b->segment;
  b->arena->give(b);
  release_segment(d, s);
}

}  // namespace vt_cuda
