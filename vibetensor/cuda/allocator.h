/* The caching allocator of device memory.
 *
 * Every stream of a device has an arena of its own (arena.h): memory given back is reusable at once by
 * the same stream, whose work is in order, and by nobody else. Arenas have a lock each, so streams
 * never wait for each other; only taking memory from the driver goes through a lock of the device
 * (growth.cpp). Memory that other streams used too waits for events (cross_stream.cpp).
 *
 * Nothing here knows of Python. All functions may be called from any thread, with or without the
 * GIL. */
#ifndef VT_CUDA_ALLOCATOR_H
#define VT_CUDA_ALLOCATOR_H

#include <cuda.h>
#include <stddef.h>
#include <stdint.h>

namespace vt_cuda {

struct Block;

/* Memory for `stream` of `device`, aligned to 512 bytes. NULL: memory ran out even after everything
 * cached was given back, or the driver failed; memory_error() says which and why. Zero bytes are a
 * block like any other. */
Block *allocate(int device, CUstream stream, size_t bytes);
void *block_data(const Block *block);
/* The bytes of the block, which may be more than was asked for. */
size_t block_size(const Block *block);
int block_device(const Block *block);
CUstream block_stream(const Block *block);
/* Reusable at once on its own stream; elsewhere used memory after the events recorded now. */
void release(Block *block);
/* The memory is also used on `stream` (of `stream_device`, -1: the block's). */
void record_stream(Block *block, CUstream stream, int stream_device = -1);

/* Of this thread's last failed allocate(). */
const char *memory_error();
/* Whether it was a lack of memory (and not, say, a context that an earlier kernel destroyed). */
bool memory_error_is_oom();

/* The same by address, for other libraries: NULL on failure. free_raw is false for an address that
 * alloc_raw did not give. */
void *alloc_raw(int device, CUstream stream, size_t bytes);
bool free_raw(void *data);

/* Gives all cached memory that is not part of a used segment back to the driver, of one device or
 * (-1) of all. */
void empty_cache(int device = -1);

/* The share of the device's memory that this process may reserve. */
bool set_memory_fraction(int device, double fraction);
double memory_fraction(int device);

/* Another device's kernels may touch this device's memory (memory mapped by expandable segments has
 * to be told; the rest follows cuCtxEnablePeerAccess). */
bool allow_peer(int device, int peer);

/* Forgets all devices without a call to the driver, when the table is exchanged (tests). All blocks
 * must have been released; false: some were not, and nothing happened. */
bool reset_allocator();

/* --- Private pools: memory of its own for a graph, or for a part of a program ---------------------
 *
 * A pool exists as long as its use count is above zero or memory of it is in use. While allocations
 * are routed to it, it grows like any other. What is given back stays in the pool, for the next
 * graph that shares it. */
struct PoolId {
  uint64_t first = 0, second = 0;
  bool operator==(const PoolId &o) const { return first == o.first && second == o.second; }
  bool operator<(const PoolId &o) const {
    return first != o.first ? first < o.first : second < o.second;
  }
};

/* A handle that nobody has yet: (0, n). */
PoolId new_pool_id();
/* Creates the pool or adds one to its use count. */
bool retain_pool(int device, PoolId pool, bool use_on_oom = false, bool no_split = false);
/* Takes one off. At zero nothing replays the pool's memory any more: what is free goes back. */
void release_pool(int device, PoolId pool);
int pool_use_count(int device, PoolId pool);

/* From now on allocations for `stream`, and for every stream that is part of the same capture, come
 * from the pool, whose use count grows by one (release_pool is the other half, when the graph goes).
 * Call it before or after cuStreamBeginCapture, from any thread. */
bool begin_allocate_to_pool(int device, PoolId pool, CUstream stream);
/* The same for all allocations of the calling thread on the device. */
bool begin_allocate_thread_to_pool(int device, PoolId pool);
/* Ends the latest begin for the pool. */
void end_allocate_to_pool(int device, PoolId pool);

}  // namespace vt_cuda
#endif
