#include "vibetensor/cuda/allocator.h"

#include <algorithm>
#include <unordered_map>

#include "vibetensor/cuda/device_memory.h"
#include "vibetensor/cuda/segments.h"

namespace vt_cuda {

std::atomic<Device *> device_table[kMaxDevices];

namespace {

constexpr size_t kLargestRequest = size_t(1) << 46;
// Blocks that wait for other streams are looked after this often, and whenever nothing else fits.
constexpr uint32_t kRequestsPerPoll = 16;

std::mutex devices_mutex;

struct Failure {
  std::string text;
  bool oom = false;
};
Failure &failure() {
  static thread_local Failure f;
  return f;
}

std::mutex raw_mutex;
std::unordered_map<void *, Block *> &raw_blocks() {
  static auto *map =
      new std::unordered_map<void *, Block *>;  // outlives the destructors of statics
  return *map;
}

bool too_large(size_t bytes) {
  if (__builtin_expect(bytes <= kLargestRequest, 1)) return false;
  set_memory_error("CUDA out of memory. Tried to allocate " + std::to_string(bytes) +
                       " bytes, more than any device has",
                   true);
  return true;
}

void poll_now_and_then(Arena *a) {
  if (__builtin_expect(a->num_waiting.load(std::memory_order_relaxed) == 0, 1)) return;
  uint32_t n = a->requests_since_poll.fetch_add(1, std::memory_order_relaxed);
  if (n % kRequestsPerPoll == 0) a->waiting_blocks.poll(a);
}

void tell_allocated(const Block *b) {
  if (__builtin_expect(driver.block_allocated != nullptr, 0)) {
    // Of no bytes there would be nothing to take back.
    driver.block_allocated(b->data, std::max<size_t>(b->requested, 1), b->arena->stream);
  }
}

void count_oversize(const Block *b, int64_t n) {
  Device *d = b->arena->device;
  std::lock_guard<std::mutex> guard(d->growth);
  n > 0 ? d->oversize_allocations.increase(n) : d->oversize_allocations.decrease(-n);
}

// With routes, recording or unusual options.
__attribute__((noinline)) Block *allocate_special(Device *d, CUstream stream, size_t bytes) {
  unsigned special = d->special;
  uint64_t stack = special & kRecording ? gather_stack(Action::alloc) : 0;
  Arena *a = special & kRouted ? routed_arena(d, stream) : nullptr;
  if (a == nullptr) a = d->arena(stream);
  size_t key = round_request(bytes);
  poll_now_and_then(a);
  Block *b = options.caching ? a->take(key, bytes) : nullptr;
  if (b == nullptr) b = grow(a, key, bytes, stack);
  if (b == nullptr) return nullptr;
  b->history = stack;
  if (b->oversize) count_oversize(b, 1);
  note_block(Action::alloc, b, stack);
  return b;
}

__attribute__((noinline)) void release_special(Block *b) {
  Arena *a = b->arena;
  if (b->oversize) count_oversize(b, -1);
  // The record comes first: once the block is free, the next owner's record may follow at once.
  if (a->device->special & kRecording) {
    uint64_t stack = gather_stack(Action::free_requested);
    note_block(Action::free_requested, b, stack);
    if (b->other_uses == nullptr || b->alone) note_block(Action::free_completed, b, stack);
  }
  if (b->alone) {
    delete b->other_uses;  // freeing the segment waits for all streams
    b->other_uses = nullptr;
    free_alone(b);
  } else if (b->other_uses != nullptr) {
    a->start_waiting(b);
    a->waiting_blocks.add(b);
  } else {
    a->give(b);
  }
}

}  // namespace

// --- blocks ---------------------------------------------------------------------------------------

Block *allocate(int device, CUstream stream, size_t bytes) {
  Device *d = device_memory(device);
  if (__builtin_expect(d == nullptr || too_large(bytes), 0)) return nullptr;
  Block *b;
  if (__builtin_expect(d->special.load(std::memory_order_relaxed) != 0, 0)) {
    b = allocate_special(d, stream, bytes);
  } else {
    Arena *a = d->arena(stream);
    poll_now_and_then(a);
    size_t key = round_to_block(bytes);
    b = a->take(key, bytes);
    if (__builtin_expect(b == nullptr, 0)) b = grow(a, key, bytes, 0);
  }
  if (__builtin_expect(b != nullptr, 1)) tell_allocated(b);
  return b;
}

void release(Block *b) {
  Arena *a = b->arena;
  if (__builtin_expect(driver.block_released != nullptr, 0)) driver.block_released(b->data);
  bool special = a->device->special.load(std::memory_order_relaxed) != 0;
  if (__builtin_expect(special || b->other_uses != nullptr || b->oversize || b->alone, 0)) {
    release_special(b);
  } else {
    a->give(b);
  }
}

void record_stream(Block *b, CUstream stream, int stream_device) {
  Arena *a = b->arena;
  if (stream_device < 0) stream_device = a->device->index;
  if (stream == a->stream && stream_device == a->device->index) return;
  StreamUse use = {stream, stream_device};
  std::lock_guard<SpinLock> guard(a->lock);
  if (b->other_uses == nullptr) b->other_uses = new std::vector<StreamUse>;
  auto &uses = *b->other_uses;
  if (std::find(uses.begin(), uses.end(), use) == uses.end()) uses.push_back(use);
}

void *block_data(const Block *b) { return b->data; }
size_t block_size(const Block *b) { return b->size; }
int block_device(const Block *b) { return b->arena->device->index; }
CUstream block_stream(const Block *b) { return b->arena->stream; }

void note_block(Action action, const Block *b, uint64_t history) {
  const Arena *a = b->arena;
  if (!(a->device->special & kRecording)) return;
  PoolId pool = a->pool != nullptr ? a->pool->id : PoolId{};
  a->device->history.record(action, b->data, b->size, a->stream, pool, history);
}

// --- by address -----------------------------------------------------------------------------------

void *alloc_raw(int device, CUstream stream, size_t bytes) {
  Block *b = allocate(device, stream, bytes);
  if (b == nullptr) return nullptr;
  std::lock_guard<std::mutex> guard(raw_mutex);
  raw_blocks()[b->data] = b;
  return b->data;
}

bool free_raw(void *data) {
  Block *b;
  {
    std::lock_guard<std::mutex> guard(raw_mutex);
    auto it = raw_blocks().find(data);
    if (it == raw_blocks().end()) return false;
    b = it->second;
    raw_blocks().erase(it);
  }
  release(b);
  return true;
}

// --- errors ---------------------------------------------------------------------------------------

void set_memory_error(std::string text, bool oom) { failure() = {std::move(text), oom}; }
const char *memory_error() { return failure().text.c_str(); }
bool memory_error_is_oom() { return failure().oom; }

// --- devices --------------------------------------------------------------------------------------

Device *create_device(int index) {
  std::string problem;
  if (!read_environment_options(&problem)) {
    set_memory_error(problem, false);
    return nullptr;
  }
  if (use_device(index) != VT_OK) {
    set_memory_error(last_error(), false);
    return nullptr;
  }
  std::lock_guard<std::mutex> guard(devices_mutex);
  Device *d = device_table[index].load(std::memory_order_acquire);
  if (d != nullptr) return d;
  d = new Device;
  d->index = index;
  d->total = device_properties[index].total_memory;
  d->fraction = options.memory_fraction;
  if (d->fraction < 1) d->limit = size_t(d->fraction * double(d->total));
  d->update_special();
  device_table[index].store(d, std::memory_order_release);
  return d;
}

void empty_cache(int device) {
  for (int i = 0; i < kMaxDevices; ++i) {
    Device *d = existing_device(i);
    if (d == nullptr || (device >= 0 && i != device)) continue;
    std::lock_guard<std::mutex> guard(d->growth);
    DriverScope scope(i);
    for (auto &a : d->arenas) a->waiting_blocks.poll(a.get(), captures_underway == 0);
    if (captures_underway == 0) release_cached(d);
  }
}

bool set_memory_fraction(int device, double fraction) {
  Device *d = device_memory(device);
  if (d == nullptr) return false;
  std::lock_guard<std::mutex> guard(d->growth);
  d->fraction = fraction;
  d->limit = fraction < 1 ? size_t(fraction * double(d->total)) : SIZE_MAX;
  return true;
}

double memory_fraction(int device) {
  Device *d = existing_device(device);
  if (d == nullptr) return options.memory_fraction;
  std::lock_guard<std::mutex> guard(d->growth);
  return d->fraction;
}

bool allow_peer(int device, int peer) {
  Device *d = device_memory(device);
  if (d == nullptr) return false;
  std::lock_guard<std::mutex> guard(d->growth);
  if (std::find(d->peers.begin(), d->peers.end(), peer) != d->peers.end()) return true;
  DriverScope scope(device);
  for (auto &a : d->arenas) {
    for (Segment *s : a->expandable) {
      if (s == nullptr) continue;
      if (CUresult code = map_for_peer(s, peer); code != CUDA_SUCCESS) {
        driver_error(code, "cuMemSetAccess");
        set_memory_error(last_error(), false);
        return false;
      }
    }
  }
  d->peers.push_back(peer);
  return true;
}

bool reset_allocator() {
  std::lock_guard<std::mutex> guard(devices_mutex);
  for (auto &entry : device_table) {
    Device *d = entry.load();
    if (d == nullptr) continue;
    for (auto &a : d->arenas) {
      int64_t live = a->num_waiting;
      for (int k = 0; k < 2; ++k) live += a->taken[k].blocks - a->given[k].blocks;
      if (live > 0) return false;
    }
  }
  for (auto &entry : device_table) {
    Device *d = entry.exchange(nullptr);
    if (d == nullptr) continue;
    for (auto &a : d->arenas) {
      for (Segment *s = a->segments, *next; s != nullptr; s = next) {
        next = s->next;
        delete s;
      }
    }
    delete d;
  }
  captures_underway = 0;
  return true;
}

}  // namespace vt_cuda
