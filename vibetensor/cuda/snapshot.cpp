#include "vibetensor/cuda/snapshot.h"

#include <algorithm>

#include "vibetensor/cuda/device_memory.h"
#include "vibetensor/cuda/segments.h"

namespace vt_cuda {

namespace {

const char *state_name(BlockState s) {
  switch (s) {
    case BlockState::used:
      return "active_allocated";
    case BlockState::waiting:
      return "active_awaiting_free";
    default:
      return "inactive";
  }
}

SegmentInfo describe(const Segment *s, const char *address) {
  const Arena *a = s->arena;
  SegmentInfo info = {};
  info.device = a->device->index;
  info.address = address;
  info.stream = a->stream;
  info.large = s->kind == kLarge;
  info.expandable = s->expandable != nullptr;
  if (a->pool != nullptr) info.pool = a->pool->id;
  return info;
}

void add_block(SegmentInfo &info, const Block *b) {
  info.total_size += b->size;
  bool used = b->state == BlockState::used, active = used || b->state == BlockState::waiting;
  if (used) info.allocated_size += b->size;
  if (active) {
    info.active_size += b->size;
    info.requested_size += b->requested;
  }
  info.blocks.push_back(
      {b->data, b->size, active ? b->requested : 0, state_name(b->state), active ? b->history : 0});
}

// An expandable segment shows as its mapped parts.
void add_segment(const Segment *s, std::vector<SegmentInfo> *out) {
  bool open = false;
  for (const Block *b = s->first; b != nullptr; b = b->after) {
    if (b->state == BlockState::unmapped) {
      open = false;
      continue;
    }
    if (!open) out->push_back(describe(s, b->data));
    open = true;
    add_block(out->back(), b);
  }
}

}  // namespace

std::vector<SegmentInfo> memory_snapshot(const PoolId *pool) {
  std::vector<SegmentInfo> out;
  for (int i = 0; i < kMaxDevices; ++i) {
    Device *d = existing_device(i);
    if (d == nullptr) continue;
    size_t begin = out.size();
    std::lock_guard<std::mutex> guard(d->growth);
    for (auto &a : d->arenas) {
      PoolId id = a->pool != nullptr ? a->pool->id : PoolId{};
      if (pool != nullptr && !(id == *pool)) continue;
      std::lock_guard<SpinLock> arena_guard(a->lock);
      a->settle();
      for (const Segment *s = a->segments; s != nullptr; s = s->next) add_segment(s, &out);
    }
    std::sort(out.begin() + long(begin), out.end(),
              [](const SegmentInfo &a, const SegmentInfo &b) { return a.address < b.address; });
  }
  return out;
}

std::vector<TraceEntry> memory_trace(int device) {
  Device *d = existing_device(device);
  if (d == nullptr) return {};
  std::vector<TraceEntry> entries = d->history.entries();
  if (d->special & kRecording) {
    d->history.record(Action::snapshot, nullptr, size_t(memory_use(device).reserved), nullptr,
                      PoolId{}, 0);
  }
  return entries;
}

uint64_t allocation_history(const void *address) {
  for (const SegmentInfo &s : memory_snapshot()) {
    for (const BlockInfo &b : s.blocks) {
      if (b.address == address) return b.history;
    }
  }
  return 0;
}

}  // namespace vt_cuda
