/* Page-locked host memory, cached. A block that copies may still read or write is kept from reuse
 * until the events on their streams have passed. Callable from any thread, without the GIL. */
#ifndef VT_CUDA_HOST_ALLOCATOR_H
#define VT_CUDA_HOST_ALLOCATOR_H

#include <cuda.h>
#include <stddef.h>

#include "vibetensor/cuda/allocator_stats.h"

namespace vt_cuda {

struct HostBlock;

/* NULL: failed, memory_error() says why. Sizes are rounded up to powers of two. */
HostBlock *host_allocate(size_t bytes);
void *host_block_data(const HostBlock *block);
size_t host_block_size(const HostBlock *block);
/* Work on the stream, enqueued already, uses the block. */
void host_record_stream(HostBlock *block, int device, CUstream stream);
/* The owner is done with it. */
void host_release(HostBlock *block);
/* The block that an address lies in, or NULL: not of this allocator. */
HostBlock *host_find(const void *address);
/* Gives cached blocks back to the system. */
void host_empty_cache();
/* Forgets the cache without a call of the driver (tests); false: blocks are in use. */
bool host_reset();

/* Blocks owned (used and cached), and handed out; as torch.cuda.host_memory_stats names them. */
struct HostMemoryStats {
  Stat allocations, allocated_bytes, active_requests, active_bytes;
  int64_t num_host_alloc = 0, num_host_free = 0;
  struct Time { /* microseconds */
    int64_t total = 0, max = 0, min = 0, count = 0;
  } alloc_time, free_time;
};
HostMemoryStats host_memory_stats();
void host_reset_peak_stats();
void host_reset_accumulated_stats();

}  // namespace vt_cuda
#endif
