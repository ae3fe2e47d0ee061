/* Figures of the allocator, as torch.cuda.memory_stats names them. */
#ifndef VT_CUDA_ALLOCATOR_STATS_H
#define VT_CUDA_ALLOCATOR_STATS_H

#include <stdint.h>

namespace vt_cuda {

struct Stat {
  int64_t current = 0, peak = 0, allocated = 0, freed = 0;

  void increase(int64_t n) {
    current += n;
    allocated += n;
    if (current > peak) peak = current;
  }
  void decrease(int64_t n) {
    current -= n;
    freed += n;
  }
  void move_to(int64_t n) { n > current ? increase(n - current) : decrease(current - n); }
  void reset_peak() { peak = current; }
  void reset_accumulated() { allocated = freed = 0; }
};

/* Of small blocks, large ones and all. Peaks are exact; only where several streams allocate are those
 * of all figures but allocated_bytes, reserved_bytes and segment upper bounds (sums of the streams'
 * peaks). Those of inactive_split are of the moments when somebody asked. */
struct MemoryStats {
  Stat allocation[3], segment[3], active[3], inactive_split[3];
  Stat allocated_bytes[3], reserved_bytes[3], active_bytes[3], inactive_split_bytes[3];
  Stat requested_bytes[3];
  Stat oversize_allocations, oversize_segments;
  int64_t max_split_size = -1; /* -1: no limit */
  int64_t num_alloc_retries = 0, num_ooms = 0, num_sync_all_streams = 0;
  int64_t num_device_alloc = 0, num_device_free = 0;
  int64_t gc_passes = 0, gc_reclaimed_bytes = 0;
};

/* All zero for a device that was not used. */
MemoryStats memory_stats(int device);
/* Parts of it, without a walk over the blocks. */
struct MemoryUse {
  int64_t allocated = 0, max_allocated = 0, reserved = 0, max_reserved = 0;
};
MemoryUse memory_use(int device);
void reset_peak_stats(int device);
void reset_accumulated_stats(int device);

}  // namespace vt_cuda
#endif
