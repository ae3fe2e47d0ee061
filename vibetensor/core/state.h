/* The process-wide tables and the thread-local dispatch masks: plain C data that every extension
 * module reaches through one shared library, so that none has a copy of its own. */
#ifndef VT_STATE_H
#define VT_STATE_H

#include "vibetensor/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Dispatch keys, low to high; the highest one set in the arguments picks the entry. */
enum {
  VT_KEY_META = 0,
  VT_KEY_CPU = 1,
  VT_KEY_CUDA = 2,
  VT_KEY_FABRIC = 3,
  VT_KEY_AUTOGRAD = 4,
  VT_KEY_FUNCTIONALIZE = 5,
  VT_KEY_FORWARD_AD = 6,
  VT_KEY_AUTOCAST = 7,
  VT_KEY_VMAP = 8,
  VT_KEY_TRACE = 9,
  VT_KEY_PYTHON = 10,
  VT_NUM_KEYS = 16
};

#define VT_MAX_OPS 1024
#define VT_MAX_FUNCTORS 512

/* Entries: functions over Tensors, called under the GIL, of the operator's own C signature. */
extern void *vt_entries[VT_MAX_OPS][VT_NUM_KEYS];
/* Kernels: nogil functions over arrays. */
extern vt_kernel vt_kernels[VT_MAX_OPS][VT_NUM_DEVICE_TYPES];
/* Inner loops of the pointwise functors on the CPU, by compute dtype. */
extern vt_loop vt_cpu_loops[VT_MAX_FUNCTORS][VT_NUM_DTYPES];
/* vt_cpu_casts[to][from]: a loop of one input. */
extern vt_loop vt_cpu_casts[VT_NUM_DTYPES][VT_NUM_DTYPES];

typedef struct vt_tls_state {
  uint32_t included;  /* keys added to every dispatch */
  uint32_t excluded;  /* keys taken from every dispatch; no_grad sets the Autograd bit */
  uint32_t inference; /* 1 inside inference_mode */
  uint32_t retaining; /* 1 inside a backward that keeps the graph */
  uint64_t
      unneeded; /* edges of the node that runs whose gradients nobody asked for (of the first 64) */
  uint32_t castable;                           /* `included`, with Autocast where it is on */
  uint8_t autocast_devices;                    /* where it is on, as bits by device type */
  uint8_t autocast_uncached;                   /* 1: every use of a weight casts it anew */
  uint8_t autocast_dtype[VT_NUM_DEVICE_TYPES]; /* the low precision */
  int32_t autocast_nesting;
  void *casts; /* what was cast since the outermost region began (core/autocast.pyx) */
} vt_tls_state;

extern __thread vt_tls_state vt_tls __attribute__((tls_model("initial-exec")));

static inline int vt_top_key(uint32_t keys) { return 31 - __builtin_clz(keys | 1u); }
static inline uint32_t vt_effective_keys(uint32_t keys) {
  return (keys | vt_tls.included) & ~vt_tls.excluded;
}
/* The same for operators on a list of autocast. For all others the Autocast key does not exist, so that
 * neither pays for it. */
static inline uint32_t vt_castable_keys(uint32_t keys) {
  return (keys | vt_tls.castable) & ~vt_tls.excluded;
}
/* Switches autocast on for these device types and off for all others; what was before. */
static inline uint32_t vt_autocast_exchange(uint32_t devices) {
  uint32_t before = vt_tls.autocast_devices;
  vt_tls.autocast_devices = (uint8_t)devices;
  vt_tls.castable = vt_tls.included | (devices ? 1u << VT_KEY_AUTOCAST : 0u);
  return before;
}
static inline int vt_grad_enabled(void) { return !(vt_tls.excluded & (1u << VT_KEY_AUTOGRAD)); }

/* "softmax": the operator of a number; "operator" for one that is none (generated). */
const char *vt_op_name(int op);

/* Fills the loop and kernel tables with the best variant for this processor (generated registry). */
void vt_cpu_register(void);
/* "baseline", "x86-64-v3" or "x86-64-v4": what vt_cpu_register chose. */
const char *vt_cpu_capability(void);

#ifdef __cplusplus
}
#endif
#endif
