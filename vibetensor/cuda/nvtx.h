/* Ranges for NVIDIA's profilers, for _nvtx.pyx. */
#ifndef VT_CUDA_NVTX_H
#define VT_CUDA_NVTX_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The depth of the range that was begun or ended; negative without a profiler. */
int vt_nvtx_push(const char *message);
int vt_nvtx_pop(void);
uint64_t vt_nvtx_start(const char *message);
void vt_nvtx_end(uint64_t range);
void vt_nvtx_mark(const char *message);

#ifdef __cplusplus
}
#endif
#endif
