/* A record of what the allocator did, for PyTorch's memory visualiser. */
#ifndef VT_CUDA_MEMORY_HISTORY_H
#define VT_CUDA_MEMORY_HISTORY_H

#include <cuda.h>
#include <stddef.h>
#include <stdint.h>

#include <mutex>
#include <vector>

#include "vibetensor/cuda/allocator.h"

namespace vt_cuda {

enum class Action : uint8_t {
  alloc,
  free_requested,
  free_completed,
  segment_alloc,
  segment_free,
  segment_map,
  segment_unmap,
  oom,
  snapshot,
};

struct TraceEntry {
  Action action;
  const void *address;
  size_t size;
  CUstream stream;
  PoolId pool;
  uint64_t history;    /* a stack, see HistorySettings::gather */
  int64_t device_free; /* of oom */
  int64_t time_us;     /* since 1970 */
};

enum class Stacks : uint8_t { none, state, alloc, all };

struct HistorySettings {
  bool on = false;      /* remember where live blocks were allocated */
  bool entries = false; /* and keep a record of all that happens */
  Stacks stacks = Stacks::none;
  size_t max_entries = 0; /* older ones are dropped */
  unsigned skip = 0;      /* a bit per Action that is not recorded */
  /* A number for the place of the call, 0: unknown. Called under no lock; may take the GIL. */
  uint64_t (*gather)() = nullptr;
};

/* For all devices. */
void record_memory_history(const HistorySettings &settings, bool clear);
bool history_on();
/* A number for the place, if stacks are wanted for this action. */
uint64_t gather_stack(Action action);

class MemoryHistory {
 public:
  void record(Action action, const void *address, size_t size, CUstream stream, PoolId pool,
              uint64_t history, int64_t device_free = 0);
  std::vector<TraceEntry> entries(); /* oldest first */
  void clear();

 private:
  std::mutex mutex_;
  std::vector<TraceEntry> ring_;
  size_t next_ = 0;
};

}  // namespace vt_cuda
#endif
