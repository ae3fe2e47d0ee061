/* Between the files of the runtime; for nobody else. */
#ifndef VT_CUDA_INTERNAL_H
#define VT_CUDA_INTERNAL_H

#include "vibetensor/cuda/runtime.h"

namespace vt_cuda {

/* waiting.cpp: the record of a device whose context is current. */
vt_status make_error_record(int device);
void forget_error_record(int device);
/* streams.cpp, launch.cpp: drop what a driver gave, without telling it. */
void forget_streams();
void forget_code();
/* triton_kernel.cpp: the code of Triton's kernels. */
void forget_triton_code();
/* blas.cpp: plans and the library's table. */
void forget_blas();
/* launch.cpp: in the `extra` of a launch, behind CU_LAUNCH_PARAM_END, this address says that an
 * ArgumentUse follows. */
extern const char kUseFollows[];

}  // namespace vt_cuda
#endif
