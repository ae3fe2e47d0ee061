/* How the CUDA runtime joins the tensor library: the table of core/backend.h and the kernel registry. */
#ifndef VT_CUDA_BACKEND_H
#define VT_CUDA_BACKEND_H

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills vt_backends[VT_CUDA] and the CUDA column of vt_kernels. The driver is initialised. */
void vt_cuda_install_backend(void);
/* Marks the backend as not ready, when the driver is exchanged (tests). */
void vt_cuda_remove_backend(void);

/* Of the generated registry: registers the kernels. */
void vt_cuda_register_kernels(void);

/* kernels/pointwise.cpp and kernels/copy.cpp: the plan of core/iter.h on ctx->stream. */
vt_status vt_cuda_pointwise(const vt_iter *it, int functor, int dtype, const vt_value *params,
                            vt_context *ctx);
vt_status vt_cuda_pointwise_flat(int functor, int dtype, int noperands, char *const *data,
                                 int64_t numel, const vt_value *params, vt_context *ctx);
vt_status vt_cuda_copy(const vt_iter *it, vt_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
