/* What Python asks of the runtime, through _driver.pyx, _runtime.pyx and _graphs.pyx. Plain C: handles
 * are addresses, and a function that fails has its text in vt_cuda_last_error(). */
#ifndef VT_CUDA_RUNTIME_API_H
#define VT_CUDA_RUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

#include "vibetensor/types.h"

#ifdef __cplusplus
extern "C" {
#endif

const char *vt_cuda_last_error(void);

/* --- the driver table --- */
int vt_cuda_num_driver_functions(void);
const char *vt_cuda_driver_name(int number);
void vt_cuda_set_driver_function(int number, void *function);
int vt_cuda_simulated(void);
vt_status vt_cuda_driver_version(int *version);

/* --- start --- */
vt_status vt_cuda_initialise(void);
int vt_cuda_is_initialised(void);
void vt_cuda_set_fatbin_folder(const char *path);
/* Drops everything of the driver in use, so that another can fill the table (tests). 0: something
 * is in use, and nothing happened. */
int vt_cuda_forget_everything(void);

/* --- devices --- */
int vt_cuda_device_count(void);
int vt_cuda_current_device(void);
vt_status vt_cuda_set_device(int device);
vt_status vt_cuda_synchronize(int device);
vt_status vt_cuda_memory_info(int device, size_t *free_bytes, size_t *total_bytes);
vt_status vt_cuda_can_access_peer(int device, int peer, int *can);
vt_status vt_cuda_enable_peer_access(int device, int peer, int *enabled);
/* The field of launch.h's Properties with this name; -1 where there is none. */
int64_t vt_cuda_property(int device, const char *name);
vt_status vt_cuda_use_device(int device);
const char *vt_cuda_device_name(int device);
const unsigned char *vt_cuda_device_uuid(int device);

/* --- streams --- */
void *vt_cuda_current_stream(int device);
void *vt_cuda_exchange_stream(int device, void *stream);
vt_status vt_cuda_pool_stream(int device, int priority, void **stream);
vt_status vt_cuda_greatest_priority(int device, int *priority);
vt_status vt_cuda_stream_priority(int device, void *stream, int *priority);
vt_status vt_cuda_stream_done(int device, void *stream, int *done);
vt_status vt_cuda_stream_synchronize(int device, void *stream);
vt_status vt_cuda_order_streams(int consumer_device, void *consumer, int producer_device,
                                void *producer);
int vt_cuda_stream_capturing(int device, void *stream);

/* --- events --- */
vt_status vt_cuda_event_create(int device, int timing, int blocking, int interprocess,
                               void **event);
void vt_cuda_event_destroy(int device, void *event);
vt_status vt_cuda_event_record(void *event, int device, void *stream, int external);
vt_status vt_cuda_event_wait(void *event, int device, void *stream, int external);
vt_status vt_cuda_event_done(int device, void *event, int *done);
vt_status vt_cuda_event_synchronize(int device, void *event);
vt_status vt_cuda_event_elapsed(int device, void *start, void *end, float *milliseconds);
/* 64 bytes. */
vt_status vt_cuda_event_ipc_handle(int device, void *event, char *handle);
vt_status vt_cuda_event_open(int device, const char *handle, void **event);

/* --- graphs --- */
typedef struct vt_cuda_pool {
  uint64_t first, second;
} vt_cuda_pool;
enum { VT_CAPTURE_GLOBAL = 0, VT_CAPTURE_THREAD_LOCAL = 1, VT_CAPTURE_RELAXED = 2 };
vt_cuda_pool vt_cuda_new_pool(void);
/* From here on, work on the device's current stream becomes part of a graph, and memory for it comes
 * from the pool. */
vt_status vt_cuda_capture_begin(int device, vt_cuda_pool pool, int mode);
/* The graph, NULL of a capture that failed (which is over then as well). `thread_stream` is the
 * stream that it began on. The pool stays in use until vt_cuda_release_pool. */
vt_status vt_cuda_capture_end(int device, void *stream, vt_cuda_pool pool, void **graph);
vt_status vt_cuda_graph_instantiate(int device, void *graph, void **exec);
vt_status vt_cuda_graph_launch(int device, void *exec, void *stream);
vt_status vt_cuda_graph_num_nodes(void *graph, size_t *n);
vt_status vt_cuda_graph_print(void *graph, const char *path);
void vt_cuda_graph_destroy(int device, void *graph, void *exec);
void vt_cuda_release_pool(int device, vt_cuda_pool pool);
/* A few bytes of the host, in the stream's order; they may change once it has returned. */
vt_status vt_cuda_write(int device, void *stream, void *data, const void *host, size_t bytes);

/* --- counters --- */
typedef struct vt_cuda_counters {
  uint64_t launches, host_syncs, graph_launches;
} vt_cuda_counters;
vt_cuda_counters vt_cuda_get_counters(void);

/* A kernel on the current stream that keeps it busy; for tests of order. */
vt_status vt_cuda_sleep(int64_t cycles);
/* Launches a kernel that does nothing n times, and does nothing else; to measure launches against. */
vt_status vt_cuda_bare_launches(int n);

#ifdef __cplusplus
}
#endif
#endif
