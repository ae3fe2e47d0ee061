#include "vibetensor/cuda/memory_history.h"

#include <time.h>

#include <atomic>

#include "vibetensor/cuda/device_memory.h"

namespace vt_cuda {

namespace {

std::mutex settings_mutex;
HistorySettings settings;

HistorySettings current() {
  std::lock_guard<std::mutex> guard(settings_mutex);
  return settings;
}

int64_t now_us() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return int64_t(t.tv_sec) * 1000000 + t.tv_nsec / 1000;
}

}  // namespace

bool history_on() { return current().on; }

void record_memory_history(const HistorySettings &wanted, bool clear) {
  {
    std::lock_guard<std::mutex> guard(settings_mutex);
    settings = wanted;
  }
  for (int i = 0; i < kMaxDevices; ++i) {
    Device *d = existing_device(i);
    if (d == nullptr) continue;
    if (clear) d->history.clear();
    d->update_special();
  }
}

uint64_t gather_stack(Action action) {
  HistorySettings s = current();
  if (!s.on || s.gather == nullptr) return 0;
  bool wanted = action == Action::alloc || action == Action::oom ? s.stacks >= Stacks::state
                                                                 : s.stacks == Stacks::all;
  return wanted ? s.gather() : 0;
}

void MemoryHistory::record(Action action, const void *address, size_t size, CUstream stream,
                           PoolId pool, uint64_t history, int64_t device_free) {
  HistorySettings s = current();
  if (!s.entries || s.max_entries == 0 || (s.skip >> unsigned(action) & 1)) return;
  TraceEntry e = {action,      address, size, stream, pool, s.stacks >= Stacks::alloc ? history : 0,
                  device_free, now_us()};
  std::lock_guard<std::mutex> guard(mutex_);
  if (next_ > 0 && ring_.size() != s.max_entries) {  // the limit was changed
    std::vector<TraceEntry> ordered(ring_.begin() + long(next_), ring_.end());
    ordered.insert(ordered.end(), ring_.begin(), ring_.begin() + long(next_));
    ring_.swap(ordered);
    next_ = 0;
  }
  if (ring_.size() > s.max_entries) ring_.erase(ring_.begin(), ring_.end() - long(s.max_entries));
  if (ring_.size() < s.max_entries) {
    ring_.push_back(e);
  } else {
    ring_[next_] = e;
    next_ = (next_ + 1) % ring_.size();
  }
}

std::vector<TraceEntry> MemoryHistory::entries() {
  std::lock_guard<std::mutex> guard(mutex_);
  std::vector<TraceEntry> out(ring_.begin() + long(next_), ring_.end());
  out.insert(out.end(), ring_.begin(), ring_.begin() + long(next_));
  return out;
}

void MemoryHistory::clear() {
  std::lock_guard<std::mutex> guard(mutex_);
  ring_.clear();
  next_ = 0;
}

}  // namespace vt_cuda
