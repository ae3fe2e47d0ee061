/* The allocator in plain C, for the Cython module behind vibetensor.cuda.memory. */
#ifndef VT_CUDA_MEMORY_API_H
#define VT_CUDA_MEMORY_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of the last failure here, of this thread. */
const char *vt_cuda_memory_error(void);
int vt_cuda_memory_error_is_oom(void);

/* --- options --- */
int vt_cuda_set_allocator_options(const char *text); /* 0: refused */
int vt_cuda_check_allocator_options(void);           /* those of the environment; 0: wrong */
/* Valid until the thread's next call. */
const char *vt_cuda_allocator_options(void);
int vt_cuda_expandable_segments(void);
double vt_cuda_gc_threshold(void);
void vt_cuda_set_caching(int on);
int vt_cuda_caching(void);
int vt_cuda_set_memory_fraction(int device, double fraction);
double vt_cuda_memory_fraction(int device);

/* --- memory --- */
void *vt_cuda_alloc_raw(int device, void *stream, size_t bytes);
int vt_cuda_free_raw(void *data);
void vt_cuda_empty_cache(int device);
void vt_cuda_host_empty_cache(void);

/* --- private pools --- */
typedef struct vt_cuda_pool_id {
  uint64_t first, second;
} vt_cuda_pool_id;
vt_cuda_pool_id vt_cuda_new_pool_id(void);
int vt_cuda_retain_pool(int device, vt_cuda_pool_id pool, int use_on_oom, int no_split);
void vt_cuda_drop_pool(int device, vt_cuda_pool_id pool);
int vt_cuda_pool_use_count(int device, vt_cuda_pool_id pool);
int vt_cuda_begin_thread_pool(int device, vt_cuda_pool_id pool);
void vt_cuda_end_pool(int device, vt_cuda_pool_id pool);

/* --- figures --- */
typedef void (*vt_cuda_figure_sink)(void *to, const char *name, int64_t value);
/* All of memory_stats, with PyTorch's names: "allocated_bytes.all.current". */
void vt_cuda_memory_stats(int device, vt_cuda_figure_sink sink, void *to);
void vt_cuda_host_memory_stats(vt_cuda_figure_sink sink, void *to);
typedef struct vt_cuda_memory_use {
  int64_t allocated, max_allocated, reserved, max_reserved;
} vt_cuda_memory_use;
vt_cuda_memory_use vt_cuda_get_memory_use(int device);
void vt_cuda_reset_peak_stats(int device);
void vt_cuda_reset_accumulated_stats(int device);
void vt_cuda_host_reset_peak_stats(void);
void vt_cuda_host_reset_accumulated_stats(void);

/* --- snapshot and history --- */
typedef struct vt_cuda_block_info {
  uint64_t address, size, requested, history;
  const char *state;
} vt_cuda_block_info;
typedef struct vt_cuda_segment_info {
  int device, large, expandable;
  uint64_t address, total_size, allocated_size, active_size, requested_size, stream;
  vt_cuda_pool_id pool;
} vt_cuda_segment_info;
typedef struct vt_cuda_trace_entry {
  const char *action;
  uint64_t address, size, stream, history;
  int64_t device_free, time_us;
  vt_cuda_pool_id pool;
} vt_cuda_trace_entry;
/* A segment, then its blocks, then the next segment. `pool`: NULL for all. */
typedef void (*vt_cuda_segment_sink)(void *to, const vt_cuda_segment_info *segment,
                                     const vt_cuda_block_info *block);
void vt_cuda_memory_snapshot(const vt_cuda_pool_id *pool, vt_cuda_segment_sink sink, void *to);
typedef void (*vt_cuda_trace_sink)(void *to, const vt_cuda_trace_entry *entry);
void vt_cuda_memory_trace(int device, vt_cuda_trace_sink sink, void *to);
uint64_t vt_cuda_allocation_history(uint64_t address);

/* `stacks`: 0 none, 1 of live blocks, 2 of allocations too, 3 of all. `skip`: a bit per action, in the
 * order of vt_cuda_action_name. */
void vt_cuda_record_memory_history(int on, int entries, int stacks, uint64_t max_entries,
                                   unsigned skip, uint64_t (*gather)(void), int clear);
const char *vt_cuda_action_name(int action); /* NULL: there is none */

#ifdef __cplusplus
}
#endif
#endif
