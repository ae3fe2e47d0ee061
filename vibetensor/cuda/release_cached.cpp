// Giving cached memory back to the driver: all of it, the oldest, or the largest.
#include <algorithm>

#include "vibetensor/cuda/device_memory.h"
#include "vibetensor/cuda/segments.h"

namespace vt_cuda {

namespace {

struct Range {
  Segment *segment;
  char *data;
  size_t size;
};

PoolId pool_of(const Arena *a) { return a->pool != nullptr ? a->pool->id : PoolId{}; }

// Takes the whole chunks out of the free blocks of an expandable segment. They are marked before they
// are unmapped: only growth maps them again, and we hold its lock.
void take_free_chunks(Arena *a, Segment *s, std::vector<Range> *out) {
  std::lock_guard<SpinLock> guard(a->lock);
  a->settle();
  size_t chunk = s->expandable->chunk;
  for (Block *b = s->first; b != nullptr; b = b->after) {
    if (b->state != BlockState::free) continue;
    size_t from = size_t(b->data - s->base), to = from + b->size;
    size_t first = (from + chunk - 1) / chunk * chunk, last = to / chunk * chunk;
    if (first >= last) continue;
    a->take_off(b);
    if (first > from) {
      Block *head = b;
      a->cut(head, first - from, BlockState::unmapped);
      b = head->after;
      a->list_free(head);
    }
    if (last < to) {
      a->cut(b, last - first, BlockState::free);
      a->list_free(b->after);
    }
    b->state = BlockState::unmapped;
    out->push_back({s, b->data, b->size});
    if (b->after != nullptr && b->after->state == BlockState::unmapped) a->absorb(b, b->after);
    if (b->before != nullptr && b->before->state == BlockState::unmapped) {
      b = b->before;
      a->absorb(b, b->after);
    }
  }
}

size_t release_expandable(Device *d, Arena *a) {
  std::vector<Range> ranges;
  for (Segment *s : a->expandable) {
    if (s != nullptr && s->expandable->mapped > 0) take_free_chunks(a, s, &ranges);
  }
  if (ranges.empty()) return 0;
  driver.cuCtxSynchronize();  // cuMemUnmap does not wait for what still runs on the memory
  size_t bytes = 0;
  for (const Range &r : ranges) {
    if (d->special & kRecording) {
      d->history.record(Action::segment_unmap, r.data, r.size, a->stream, pool_of(a), 0);
    }
    unmap_memory(d, r.segment, r.data, r.size);
    bytes += r.size;
  }
  return bytes;
}

// A graph may replay on the memory of a private pool, even where it is free.
bool releasable(const Arena *a) { return a->pool == nullptr || a->pool->use_count == 0; }

std::vector<Segment *> unused_segments(Device *d) {
  std::vector<Segment *> unused;
  for (auto &a : d->arenas) {
    if (releasable(a.get())) a->list_unused(&unused);
  }
  return unused;
}

}  // namespace

size_t release_segment(Device *d, Segment *s) {
  Arena *a = s->arena;
  if (!a->detach(s)) return 0;
  size_t bytes = s->size;
  if (d->special & kRecording) {
    d->history.record(Action::segment_free, s->base, s->size, a->stream, pool_of(a), 0);
  }
  free_segment(d, s);
  return bytes;
}

size_t release_arena(Device *d, Arena *a) {
  std::vector<Segment *> unused;
  a->list_unused(&unused);
  size_t bytes = 0;
  for (Segment *s : unused) bytes += release_segment(d, s);
  return bytes + release_expandable(d, a);
}

size_t release_cached(Device *d) {
  size_t bytes = 0;
  for (auto &a : d->arenas) {
    if (releasable(a.get())) bytes += release_arena(d, a.get());
  }
  drop_unused_pools(d);
  return bytes;
}

bool leave_arena(Device *d, Arena *a) {
  if (a->num_waiting > 0) return false;
  for (Segment *s = a->segments; s != nullptr; s = s->next) {
    if (s->expandable == nullptr || s->expandable->mapped > 0) return false;
  }
  for (Segment *&s : a->expandable) {
    if (s == nullptr) continue;
    a->forget_segment(s);
    free_segment(d, s);
    s = nullptr;
  }
  return true;
}

void collect_garbage(Device *d, size_t wanted) {
  double share = options.garbage_collection_threshold;
  if (share <= 0) return;
  double threshold = share * double(std::min(d->limit, d->total));
  auto excess = [&] { return double(d->reserved[kAll].current) + double(wanted) - threshold; };
  if (excess() <= 0) return;
  std::vector<Segment *> unused = unused_segments(d);
  auto age = [](const Segment *s) { return s->arena->requests() - s->first->freed_at; };
  std::vector<std::pair<int64_t, Segment *>> by_age;
  for (Segment *s : unused) by_age.emplace_back(-age(s), s);
  std::sort(by_age.begin(), by_age.end());
  d->gc_passes++;
  for (auto &entry : by_age) {
    if (excess() <= 0) return;
    d->gc_reclaimed += int64_t(release_segment(d, entry.second));
  }
}

size_t release_oversize(Device *d, size_t wanted) {
  size_t limit = options.max_split_size;
  if (limit == SIZE_MAX) return 0;
  std::vector<Segment *> large;
  for (Segment *s : unused_segments(d)) {
    if (s->size >= limit) large.push_back(s);
  }
  std::sort(large.begin(), large.end(),
            [](const Segment *a, const Segment *b) { return a->size < b->size; });
  // One that is enough by itself, or else the largest ones.
  for (Segment *s : large) {
    if (s->size < wanted) continue;
    if (size_t freed = release_segment(d, s)) return freed;
  }
  size_t bytes = 0;
  while (!large.empty() && bytes < wanted) {
    bytes += release_segment(d, large.back());
    large.pop_back();
  }
  return bytes;
}

}  // namespace vt_cuda
