/* A picture of all segments and blocks, and the record of what happened. */
#ifndef VT_CUDA_SNAPSHOT_H
#define VT_CUDA_SNAPSHOT_H

#include <vector>

#include "vibetensor/cuda/memory_history.h"

namespace vt_cuda {

struct BlockInfo {
  const void *address;
  size_t size, requested;
  const char *state; /* "active_allocated", "active_awaiting_free" or "inactive" */
  uint64_t history;
};

/* A segment, or a mapped part of an expandable one. */
struct SegmentInfo {
  int device;
  const void *address;
  size_t total_size, allocated_size, active_size, requested_size;
  CUstream stream;
  bool large, expandable;
  PoolId pool;
  std::vector<BlockInfo> blocks;
};

/* By address. With `pool`, only its segments. */
std::vector<SegmentInfo> memory_snapshot(const PoolId *pool = nullptr);
/* Of one device, empty where none was recorded; says "snapshot" itself. */
std::vector<TraceEntry> memory_trace(int device);
/* The stack of the block that starts at the address; 0: unknown. */
uint64_t allocation_history(const void *address);

}  // namespace vt_cuda
#endif
