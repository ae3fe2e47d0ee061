/* The pool CPU storages come from.
 *
 * Header and data lie in one block. Blocks below 1 MiB come in size classes, four per doubling, with a
 * bounded free list each; larger ones are kept in a list that is searched for the best fit. Freshly
 * mapped memory costs a page fault per 4 KiB, far more than most operators, so even very large blocks
 * are kept. The GIL guards all of it. */
#define _GNU_SOURCE
#include "vibetensor/core/storage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)

enum {
  HEADER = sizeof(vt_storage),
  UNIT = 64, /* block sizes and the alignment of the data, in bytes */
  NUM_CLASSES = 52,
  CLASS_BIG = 255,
  MAX_CACHED_BIG = 256 /* entries in the list of big blocks */
};
static const size_t BIG = (size_t)1 << 20;
static const size_t HUGE_PAGE = (size_t)2 << 20;
/* Bytes one free list keeps. A training step frees and asks again for all of its activations. */
static const size_t CLASS_BUDGET = (size_t)16 << 20;

vt_memory_stats vt_cpu_memory;

/* A block on a free list links to the next one through `context`. What the system gave is remembered
 * in the reserved fields, which outlive the storage. */
#define NEXT(s) ((s)->context)
#define BASE(s) ((s)->reserved[0])
#define CAPACITY(s) ((size_t)(s)->reserved[1])
#define SET_CAPACITY(s, bytes) ((s)->reserved[1] = (void *)(bytes))

static vt_storage *free_list[NUM_CLASSES];
static uint32_t free_room[NUM_CLASSES]; /* blocks that may still be put on it */

static vt_storage *big_cache[MAX_CACHED_BIG]; /* oldest first */
static int big_count;
static size_t big_bytes;

_Static_assert(sizeof(vt_storage) == UNIT, "the data follows the header at a cache line");

/* Sizes in units: 1, 2, 3, 4, then 5, 6, 7, 8, then 10, 12, 14, 16, then 20, ... */
static inline unsigned class_of(size_t bytes) {
  size_t u = (bytes - 1) / UNIT;
  if (u < 4) return (unsigned)u;
  unsigned octave = 63 - (unsigned)__builtin_clzll(u);
  return (octave - 1) * 4 + ((u >> (octave - 2)) & 3);
}

static size_t class_bytes(unsigned c) {
  if (c < 4) return (size_t)(c + 1) * UNIT;
  return ((size_t)(c % 4 + 5) << (c / 4 - 1)) * UNIT;
}

static size_t big_budget(void) {
  static size_t budget;
  if (budget == 0) {
    size_t quarter = (size_t)sysconf(_SC_PHYS_PAGES) / 4 * (size_t)sysconf(_SC_PAGESIZE);
    size_t most = (size_t)256 << 20;
    budget = quarter < most ? quarter : most;
  }
  return budget;
}

__attribute__((constructor)) static void set_up(void) {
  for (unsigned c = 0; c < NUM_CLASSES; c++) {
    free_room[c] = (uint32_t)(CLASS_BUDGET / class_bytes(c));
  }
}

static void note_reserved(size_t bytes) { vt_cpu_memory.reserved += (int64_t)bytes; }

/* `bytes` of new memory, a multiple of UNIT, aligned to UNIT. Over-allocating malloc's block is several
 * times cheaper than posix_memalign. */
static vt_storage *take_from_heap(size_t bytes) {
  char *base = malloc(bytes + UNIT - 16);
  if (base == NULL) return NULL;
  vt_storage *s = (vt_storage *)(((uintptr_t)base + UNIT - 1) & ~(uintptr_t)(UNIT - 1));
  BASE(s) = base;
  SET_CAPACITY(s, bytes);
  note_reserved(bytes);
  return s;
}

/* `bytes` mapped at a multiple of the huge page size. */
static vt_storage *take_huge(size_t bytes) {
  char *base =
      mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return NULL;
  char *start = (char *)(((uintptr_t)base + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
  size_t before = (size_t)(start - base);
  if (before > 0) munmap(base, before);
  if (before < HUGE_PAGE) munmap(start + bytes, HUGE_PAGE - before);
  madvise(start, bytes, MADV_HUGEPAGE);
  vt_storage *s = (vt_storage *)start;
  BASE(s) = NULL;
  SET_CAPACITY(s, bytes);
  note_reserved(bytes);
  return s;
}

static void give_back(vt_storage *s) {
  size_t bytes = CAPACITY(s);
  vt_cpu_memory.reserved -= (int64_t)bytes;
  if (BASE(s) == NULL) {
    munmap(s, bytes);
  } else {
    free(BASE(s));
  }
}

static void drop_big(int i) {
  vt_storage *s = big_cache[i];
  big_bytes -= CAPACITY(s);
  big_count--;
  memmove(big_cache + i, big_cache + i + 1, (size_t)(big_count - i) * sizeof(big_cache[0]));
}

/* The smallest cached block of `bytes` to 5/4 of it, or NULL. */
static vt_storage *find_big(size_t bytes) {
  int best = -1;
  size_t best_capacity = bytes + bytes / 4 + 1;
  for (int i = 0; i < big_count; i++) {
    size_t capacity = CAPACITY(big_cache[i]);
    if (capacity >= bytes && capacity < best_capacity) {
      best = i;
      best_capacity = capacity;
    }
  }
  if (best < 0) return NULL;
  vt_storage *s = big_cache[best];
  drop_big(best);
  return s;
}

static void keep_big(vt_storage *s) {
  size_t bytes = CAPACITY(s), budget = big_budget();
  if (bytes > budget) {
    give_back(s);
    return;
  }
  while (big_bytes + bytes > budget || big_count == MAX_CACHED_BIG) {
    vt_storage *oldest = big_cache[0];
    drop_big(0);
    give_back(oldest);
  }
  big_cache[big_count++] = s;
  big_bytes += bytes;
}

static vt_storage *take_big(size_t bytes) {
  /* Rounded up so that slightly different sizes share blocks; whole huge pages where that is little. */
  size_t granule = bytes >= 16 * BIG ? HUGE_PAGE : BIG / 4;
  bytes = (bytes + granule - 1) / granule * granule;
  vt_storage *s = find_big(bytes);
  if (s == NULL) s = bytes >= HUGE_PAGE ? take_huge(bytes) : take_from_heap(bytes);
  return s;
}

/* A block of memory for a storage whose free list is empty or that has none. */
static __attribute__((noinline)) vt_storage *take(size_t nbytes, unsigned size_class) {
  if (nbytes > (size_t)INT64_MAX / 2) return NULL;
  size_t bytes = nbytes + HEADER;
  for (int attempt = 0; attempt < 2; attempt++) {
    vt_storage *s =
        size_class == CLASS_BIG ? take_big(bytes) : take_from_heap(class_bytes(size_class));
    if (s != NULL) {
      s->data = (char *)s + HEADER;
      s->size_class = (uint8_t)size_class;
      s->deleter = NULL;
      return s;
    }
    vt_cpu_empty_cache();
  }
  return NULL;
}

vt_storage *vt_storage_new(size_t nbytes) {
  unsigned c = CLASS_BIG;
  vt_storage *s;
  if (LIKELY(nbytes <= BIG - HEADER)) {
    c = class_of(nbytes + HEADER);
    s = free_list[c];
    if (LIKELY(s != NULL)) {
      free_list[c] = NEXT(s);
      free_room[c]++;
      goto found;
    }
  }
  s = take(nbytes, c);
  if (s == NULL) return NULL;
found:
  s->refcount = 1;
  s->nbytes = nbytes;
  s->version = 0;
  s->device_type = VT_CPU;
  s->device_index = -1;
  s->flags = 0;
  s->context = NULL;
  vt_cpu_memory.num_allocs++;
  vt_cpu_memory.allocated += (int64_t)nbytes;
  if (vt_cpu_memory.allocated > vt_cpu_memory.peak_allocated) {
    vt_cpu_memory.peak_allocated = vt_cpu_memory.allocated;
  }
  return s;
}

vt_storage *vt_storage_wrap(void *data, size_t nbytes, uint8_t device_type, int8_t device_index,
                            void (*deleter)(vt_storage *), void *context) {
  vt_storage *s = vt_storage_new(0);
  if (s == NULL) return NULL;
  vt_cpu_memory.num_allocs--; /* a header only */
  s->data = data;
  s->nbytes = nbytes;
  s->device_type = device_type;
  s->device_index = device_index;
  s->deleter = deleter;
  s->context = context;
  return s;
}

static void keep_or_give_back(vt_storage *s) {
  unsigned c = s->size_class;
  if (LIKELY(c < NUM_CLASSES && free_room[c] > 0)) {
    NEXT(s) = free_list[c];
    free_list[c] = s;
    free_room[c]--;
    return;
  }
  if (c == CLASS_BIG) {
    keep_big(s);
  } else {
    give_back(s);
  }
}

static __attribute__((noinline)) void free_foreign(vt_storage *s) {
  void (*deleter)(vt_storage *) = s->deleter;
  s->deleter = NULL; /* it may look at the storage, but runs once */
  deleter(s);
  s->data = (char *)s + HEADER;
  keep_or_give_back(s);
}

void vt_storage_free(vt_storage *s) {
  if (!LIKELY(s->deleter == NULL)) {
    free_foreign(s);
    return;
  }
  vt_cpu_memory.allocated -= (int64_t)s->nbytes;
  keep_or_give_back(s);
}

void vt_cpu_empty_cache(void) {
  for (int c = 0; c < NUM_CLASSES; c++) {
    vt_storage *s = free_list[c];
    while (s != NULL) {
      vt_storage *next = NEXT(s);
      give_back(s);
      free_room[c]++;
      s = next;
    }
    free_list[c] = NULL;
  }
  while (big_count > 0) {
    vt_storage *s = big_cache[big_count - 1];
    drop_big(big_count - 1);
    give_back(s);
  }
}
