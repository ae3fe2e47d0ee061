#include "vibetensor/cuda/arena.h"

#include <algorithm>

#include "vibetensor/cuda/device_memory.h"
#include "vibetensor/cuda/segments.h"

namespace vt_cuda {

void SpinLock::wait() {
  for (int i = 0; i < 200; ++i) {
    __builtin_ia32_pause();
    if (!held_.load(std::memory_order_relaxed)) return;
  }
  sched_yield();  // whoever holds it was preempted
}

Arena::Arena(Device *device, CUstream stream, PrivatePool *pool)
    : device(device), stream(stream), pool(pool) {}

Block *Arena::take(size_t key, size_t requested) {
  std::lock_guard<SpinLock> guard(lock);
  unsigned slot = slot_of(key);
  Block *b = quick_[slot];
  if (__builtin_expect(b != nullptr && b->key == key, 1)) {
    quick_[slot] = b->link;
    if (b->link == nullptr) quick_words_[slot / 64] &= ~(uint64_t(1) << (slot % 64));
    return hand_out(b, key, requested);
  }
  return fit(key, requested);
}

Block *Arena::hand_out(Block *b, size_t key, size_t requested) {
  b->state = BlockState::used;
  b->key = key;
  b->requested = requested;
  b->history = 0;
  Totals &t = taken[b->kind];
  t.blocks += 1;
  t.bytes += int64_t(b->size);
  t.requested += int64_t(requested);
  rising = true;
  if (!solo) device->shared_allocated.add(int64_t(b->size));
  return b;
}

// Best fit among all that is free.
Block *Arena::fit(size_t key, size_t requested) {
  settle();
  int kind = key <= kSmallRequest ? kSmall : kLarge;
  Block *b = free_[kind].best_fit(key);
  if (b == nullptr) return nullptr;
  if (kind == kLarge && b->segment->expandable == nullptr) {
    // Large blocks are kept whole for large requests, where that was asked for.
    size_t limit = options.max_split_size;
    if (key < limit && b->size >= limit) return nullptr;
    if (key >= limit && b->size >= key + options.max_non_split_rounding) return nullptr;
  }
  take_off(b);
  return hand_out(cut_to(b, key), key, requested);
}

Block *Arena::take_new(Block *b, size_t key, size_t requested) {
  return hand_out(cut_to(b, key), key, requested);
}

Block *Arena::cut_to(Block *b, size_t key) {
  size_t rest = b->size - key;
  bool fine = b->kind == kSmall || b->segment->expandable != nullptr;
  bool split = fine ? rest >= kMinBlock : rest > kSmallRequest && key < options.max_split_size;
  if (split && !no_split) {
    cut(b, key, BlockState::free);
    free_[b->kind].insert(b->after);
  }
  b->oversize = b->kind == kLarge && b->size >= options.max_split_size;
  return b;
}

void Arena::give(Block *b) {
  std::lock_guard<SpinLock> guard(lock);
  if (rising) note_peaks();
  Totals &t = given[b->kind];
  t.blocks += 1;
  t.bytes += int64_t(b->size);
  t.requested += int64_t(b->requested);
  if (!solo) device->shared_allocated.subtract(int64_t(b->size));
  b->freed_at = requests();
  put_quick(b);
}

void Arena::start_waiting(Block *b) {
  std::lock_guard<SpinLock> guard(lock);
  if (rising) note_peaks();
  Totals &t = given[b->kind], &w = waiting[b->kind];
  t.blocks += 1;
  t.bytes += int64_t(b->size);
  t.requested += int64_t(b->requested);
  w.blocks += 1;
  w.bytes += int64_t(b->size);
  if (!solo) device->shared_allocated.subtract(int64_t(b->size));
  b->state = BlockState::waiting;
  num_waiting.fetch_add(1, std::memory_order_relaxed);
}

void Arena::finish_waiting(Block *b) {
  std::lock_guard<SpinLock> guard(lock);
  if (rising) note_peaks();
  Totals &w = waiting[b->kind];
  w.blocks -= 1;
  w.bytes -= int64_t(b->size);
  num_waiting.fetch_sub(1, std::memory_order_relaxed);
  b->freed_at = requests();
  put_quick(b);
}

void Arena::put_quick(Block *b) {
  unsigned slot = slot_of(b->key);
  Block *head = quick_[slot];
  if (__builtin_expect(head != nullptr && head->key != b->key, 0)) {
    settle_slot(slot);
    head = nullptr;
  }
  b->state = BlockState::quick;
  b->link = head;
  quick_[slot] = b;
  quick_words_[slot / 64] |= uint64_t(1) << (slot % 64);
}

void Arena::settle_slot(unsigned slot) {
  Block *b = quick_[slot];
  quick_[slot] = nullptr;
  quick_words_[slot / 64] &= ~(uint64_t(1) << (slot % 64));
  while (b != nullptr) {
    Block *next = b->link;
    put_free(b);
    b = next;
  }
}

void Arena::settle() {
  for (int w = 0; w < kQuickSlots / 64; ++w) {
    while (quick_words_[w] != 0) settle_slot(unsigned(w * 64 + __builtin_ctzll(quick_words_[w])));
  }
}

Block *Arena::put_free(Block *b) {
  b->requested = 0;
  b->oversize = false;
  if (Block *next = b->after; next != nullptr && next->state == BlockState::free) {
    take_off(next);
    absorb(b, next);
  }
  if (Block *previous = b->before; previous != nullptr && previous->state == BlockState::free) {
    take_off(previous);
    absorb(previous, b);
    b = previous;
  }
  b->state = BlockState::free;
  free_[b->kind].insert(b);
  return b;
}

void Arena::cut(Block *b, size_t size, BlockState rest) {
  Block *r = new_block(b->data + size, b->size - size, b->segment);
  r->state = rest;
  r->freed_at = b->freed_at;
  r->before = b;
  r->after = b->after;
  if (b->after != nullptr) b->after->before = r;
  b->after = r;
  b->size = size;
}

void Arena::absorb(Block *b, Block *next) {
  b->size += next->size;
  b->freed_at = std::max(b->freed_at, next->freed_at);
  b->after = next->after;
  if (next->after != nullptr) next->after->before = b;
  drop_block(next);
}

Block *Arena::new_block(char *data, size_t size, Segment *s) {
  if (spare_ == nullptr) {
    constexpr int kAtOnce = 64;
    chunks_.emplace_back(new Block[kAtOnce]);
    for (int i = 0; i < kAtOnce; ++i) drop_block(&chunks_.back()[i]);
  }
  Block *b = spare_;
  spare_ = b->link;
  *b = Block{};
  b->data = data;
  b->size = size;
  b->arena = this;
  b->segment = s;
  b->kind = s->kind;
  return b;
}

void Arena::drop_block(Block *b) {
  b->link = spare_;
  spare_ = b;
}

void Arena::add_segment(Segment *s) {
  s->arena = this;
  s->next = segments;
  s->previous = nullptr;
  if (segments != nullptr) segments->previous = s;
  segments = s;
}

void Arena::remove_segment(Segment *s) {
  if (s->next != nullptr) s->next->previous = s->previous;
  if (s->previous != nullptr) {
    s->previous->next = s->next;
  } else {
    segments = s->next;
  }
}

void Arena::list_unused(std::vector<Segment *> *unused) {
  std::lock_guard<SpinLock> guard(lock);
  settle();
  for (Segment *s = segments; s != nullptr; s = s->next) {
    if (s->expandable == nullptr && s->unused()) unused->push_back(s);
  }
}

bool Arena::detach(Segment *s) {
  std::lock_guard<SpinLock> guard(lock);
  settle();
  if (!s->unused()) return false;
  take_off(s->first);
  drop_block(s->first);
  remove_segment(s);
  return true;
}

void Arena::forget_segment(Segment *s) {
  std::lock_guard<SpinLock> guard(lock);
  drop_block(s->first);
  remove_segment(s);
}

// The peaks are looked at before something falls, and when somebody asks.
void Arena::note_peaks() {
  rising = false;
  Totals all, all_waiting;
  auto raise = [](Peaks &p, const Totals &now, const Totals &w) {
    p.blocks = std::max(p.blocks, now.blocks);
    p.bytes = std::max(p.bytes, now.bytes);
    p.requested = std::max(p.requested, now.requested);
    p.active_blocks = std::max(p.active_blocks, now.blocks + w.blocks);
    p.active_bytes = std::max(p.active_bytes, now.bytes + w.bytes);
  };
  for (int k = 0; k < 2; ++k) {
    Totals now;
    now.blocks = taken[k].blocks - given[k].blocks;
    now.bytes = taken[k].bytes - given[k].bytes;
    now.requested = taken[k].requested - given[k].requested;
    raise(peaks[k], now, waiting[k]);
    all.blocks += now.blocks;
    all.bytes += now.bytes;
    all.requested += now.requested;
    all_waiting.blocks += waiting[k].blocks;
    all_waiting.bytes += waiting[k].bytes;
  }
  raise(peaks[kAll], all, all_waiting);
}

}  // namespace vt_cuda
