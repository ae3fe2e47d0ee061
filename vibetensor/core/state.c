#include "vibetensor/core/backend.h"
#include "vibetensor/core/state.h"

void *vt_entries[VT_MAX_OPS][VT_NUM_KEYS];
vt_kernel vt_kernels[VT_MAX_OPS][VT_NUM_DEVICE_TYPES];
vt_loop vt_cpu_loops[VT_MAX_FUNCTORS][VT_NUM_DTYPES];
vt_loop vt_cpu_casts[VT_NUM_DTYPES][VT_NUM_DTYPES];
__thread vt_tls_state vt_tls = {
    .autocast_dtype = {[VT_CPU] = VT_BF16, [VT_CUDA] = VT_F16, [VT_META] = VT_BF16}};
vt_backend vt_backends[VT_NUM_DEVICE_TYPES];
