/* What the tensor layer asks of a device that is not the host: memory, streams, copies, plans.
 * The table of a device type is filled when its runtime is first used; until then `ready` is 0 and
 * nothing else may be touched. Kernels of single operators are not here but in `vt_kernels`.
 *
 * All functions may be called with or without the GIL, and none takes it. Where one fails it
 * returns a status (or NULL) and `last_error` has the text, per thread. */
#ifndef VT_BACKEND_H
#define VT_BACKEND_H

#include "core/iter.h"
#include "core/storage.h"
#include "vibetensor/types.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { VT_HOST = -1 }; /* as a device index: host memory */

typedef struct vt_backend {
  int ready;
  const char *(*last_error)(void);

  /* --- devices and streams, per thread --- */
  int (*device_count)(void);
  int (*current_device)(void);
  void *(*current_stream)(int device);
  /* Makes `stream` the device's current one on this thread, and returns the one before. */
  void *(*exchange_stream)(int device, void *stream);
  /* What `producer` was given so far comes before what `consumer` will be given. No host wait. */
  vt_status (*order_streams)(int consumer_device, void *consumer, int producer_device,
                             void *producer);

  /* Before any work: makes the device's context current and fills ctx->stream, ctx->device_index;
   * the other fields of ctx are the caller's. `leave` is its other half. */
  vt_status (*enter)(int device, vt_context *ctx);
  void (*leave)(vt_context *ctx);

  /* --- memory --- */
  /* A storage for the device's current stream; NULL when memory ran out. */
  vt_storage *(*allocate)(int device, size_t nbytes);
  /* Whether the thread's last failed allocation lacked memory (and did not fail for another reason). */
  int (*lacked_memory)(void);
  /* The memory is also used on `stream`: not reused before that stream has passed this point. Of
   * foreign memory nothing is known, and nothing is done. */
  void (*record_stream)(vt_storage *s, void *stream);
  /* Page-locked host memory: a CPU storage with VT_STORAGE_PINNED, for copies that do not block. */
  vt_storage *(*allocate_pinned)(size_t nbytes);
  /* Whether an address of the host is page-locked, whoever locked it. */
  int (*is_pinned)(const void *address);
  /* The device that memory nobody has told us about lies on; VT_HOST if it is none's. */
  int (*device_of)(const void *address);

  /* --- work, on ctx->stream --- */
  vt_status (*pointwise)(const vt_iter *it, int functor, int dtype, const vt_value *params,
                         vt_context *ctx);
  /* The same for operands without gaps, of one shape, none of which needs a cast; data[0] is the
   * output. */
  vt_status (*pointwise_flat)(int functor, int dtype, int noperands, char *const *data,
                              int64_t numel, const vt_value *params, vt_context *ctx);
  /* Operand 1 into operand 0, converting it; both on this device, or operand 1 by value (host[1]). */
  vt_status (*copy)(const vt_iter *it, vt_context *ctx);
  /* Contiguous bytes to and from the host (VT_HOST) or between devices. On return the host side may
   * be read or written, unless it is pinned and `non_blocking` is set. The pinned storage the host
   * side lies in, or NULL, is kept from reuse until the copy is done. */
  vt_status (*copy_bytes)(char *dst, int dst_device, const char *src, int src_device, size_t bytes,
                          vt_storage *pinned, int non_blocking, vt_context *ctx);
  /* Waits for ctx->stream, then reports what kernels on it found wrong: VT_ERROR_INDEX with
   * ctx->detail and, in ctx->op, the operator. Errors are reported once. */
  vt_status (*wait)(vt_context *ctx);
} vt_backend;

extern vt_backend vt_backends[VT_NUM_DEVICE_TYPES];

#ifdef __cplusplus
}
#endif
#endif
