#include "vibetensor/cuda/cross_stream.h"

#include "vibetensor/cuda/arena.h"
#include "vibetensor/cuda/device_memory.h"

namespace vt_cuda {

std::atomic<int> captures_underway{0};

namespace {

bool used_by_capture(const Block *b) {
  for (const StreamUse &use : *b->other_uses) {
    DriverScope scope(use.device);
    if (stream_capturing(use.stream)) return true;
  }
  return false;
}

}  // namespace

WaitingBlocks::Lane &WaitingBlocks::lane(const StreamUse &use) {
  for (Lane &l : lanes_) {
    if (l.use == use) return l;
  }
  lanes_.push_back({use, {}});
  return lanes_.back();
}

void WaitingBlocks::add(Block *b) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (captures_underway > 0 || used_by_capture(b)) {
    deferred_.push_back(b);
  } else {
    record(b);
  }
}

// An event on every stream that used the block.
void WaitingBlocks::record(Block *b) {
  for (const StreamUse &use : *b->other_uses) {
    DriverScope scope(use.device);
    CUevent event = take_event(use.device);
    if (event != nullptr && driver.cuEventRecord(event, use.stream) == CUDA_SUCCESS) {
      b->events++;
      lane(use).waiting.push_back({event, b});
      continue;
    }
    // The stream is gone, or the context is broken. Whatever was enqueued ends here.
    give_event(use.device, event);
    driver.cuCtxSynchronize();
  }
  delete b->other_uses;
  b->other_uses = nullptr;
  if (b->events == 0) passed(0, {nullptr, b});
}

void WaitingBlocks::passed(int device, const Waiting &w) {
  Block *b = w.block;
  if (w.event != nullptr) {
    give_event(device, w.event);
    if (--b->events > 0) return;
  }
  Arena *a = b->arena;
  if (a->device->special & kRecording) {
    a->device->history.record(Action::free_completed, b->data, b->size, a->stream,
                              a->pool != nullptr ? a->pool->id : PoolId{}, b->history);
  }
  a->finish_waiting(b);
}

void WaitingBlocks::poll(Arena *arena, bool wait) {
  if (arena->num_waiting.load(std::memory_order_relaxed) == 0) return;
  std::lock_guard<std::mutex> guard(mutex_);
  if (!deferred_.empty() && captures_underway == 0) {
    std::vector<Block *> deferred;
    deferred.swap(deferred_);
    for (Block *b : deferred) {
      if (used_by_capture(b)) {
        deferred_.push_back(b);
      } else {
        record(b);
      }
    }
  }
  for (Lane &l : lanes_) {
    if (l.waiting.empty()) continue;
    DriverScope scope(l.use.device);
    while (!l.waiting.empty()) {
      CUevent event = l.waiting.front().event;
      CUresult code = wait ? driver.cuEventSynchronize(event) : driver.cuEventQuery(event);
      // Another error means that the context is broken; then nothing runs any more.
      if (code == CUDA_ERROR_NOT_READY) break;
      Waiting w = l.waiting.front();
      l.waiting.pop_front();
      passed(l.use.device, w);
    }
  }
}

}  // namespace vt_cuda
