/* Ranges for NVIDIA's profilers. NVTX is a header that looks for a profiler in the environment; in
 * its absence, or where the toolkit of the build lacks the header, every call does nothing. */
#include "vibetensor/cuda/nvtx.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

int vt_nvtx_push(const char *message) { return nvtxRangePushA(message); }
int vt_nvtx_pop(void) { return nvtxRangePop(); }
uint64_t vt_nvtx_start(const char *message) { return nvtxRangeStartA(message); }
void vt_nvtx_end(uint64_t range) { nvtxRangeEnd(range); }
void vt_nvtx_mark(const char *message) { nvtxMarkA(message); }

#else

int vt_nvtx_push(const char *) { return -1; }
int vt_nvtx_pop(void) { return -1; }
uint64_t vt_nvtx_start(const char *) { return 0; }
void vt_nvtx_end(uint64_t) {}
void vt_nvtx_mark(const char *) {}

#endif
