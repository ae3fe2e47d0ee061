/* Storage: a reference-counted block of memory with a version counter, and the pool CPU blocks come
 * from. All of it is touched under the GIL only; a release from another thread takes the GIL first. */
#ifndef VT_STORAGE_H
#define VT_STORAGE_H

#include "vibetensor/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vt_storage {
  intptr_t refcount;
  char *data;
  size_t nbytes;
  uint32_t version; /* bumped by every in-place write */
  uint8_t device_type;
  int8_t device_index;
  uint8_t size_class; /* of the block that holds this header (and the data, for pooled memory) */
  uint8_t flags;
  void (*deleter)(struct vt_storage *); /* releases foreign memory; NULL for pooled memory */
  void *context;                        /* the deleter's */
  void *reserved[2];
} vt_storage; /* 64 bytes; pooled data follows it, aligned to 64 */

enum {
  VT_STORAGE_READONLY = 1,
  VT_STORAGE_PINNED = 2, /* page-locked host memory */
  VT_STORAGE_OWN = 4     /* of our own allocator although it has a deleter: a backend's */
};

typedef struct vt_memory_stats {
  int64_t allocated;      /* bytes of live storages, as asked for */
  int64_t peak_allocated; /* its maximum since the last reset */
  int64_t reserved;       /* bytes taken from the system, the cache included */
  int64_t num_allocs;     /* blocks handed out so far */
} vt_memory_stats;

extern vt_memory_stats vt_cpu_memory;

/* A CPU storage with one reference, its contents undefined; NULL when memory ran out. */
vt_storage *vt_storage_new(size_t nbytes);
/* A storage over foreign memory; `deleter` runs once, when the last reference goes. */
vt_storage *vt_storage_wrap(void *data, size_t nbytes, uint8_t device_type, int8_t device_index,
                            void (*deleter)(vt_storage *), void *context);
/* The last reference went: releases the memory. */
void vt_storage_free(vt_storage *s);
/* Gives cached blocks back to the system. */
void vt_cpu_empty_cache(void);

/* Whether nobody outside the library can hold the memory. */
static inline int vt_storage_is_own(const vt_storage *s) {
  return s->deleter == NULL || (s->flags & VT_STORAGE_OWN) != 0;
}

static inline void vt_storage_incref(vt_storage *s) { s->refcount++; }
static inline void vt_storage_decref(vt_storage *s) {
  if (--s->refcount == 0) vt_storage_free(s);
}

#ifdef __cplusplus
}
#endif
#endif
