/* What _triton.pyx, which knows Python and the compiler, and triton_kernel.cpp, which knows the driver,
 * tell each other. Plain C. */
#ifndef VT_CUDA_TRITON_API_H
#define VT_CUDA_TRITON_API_H

#include "vibetensor/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a host descriptor's memory is read; see TensorMapLayout. */
typedef struct vt_triton_descriptor {
  int dtype, swizzle, element_bytes, rank;
  unsigned box[5];
} vt_triton_descriptor;

/* Machine code and what a launch must know of it. */
typedef struct vt_triton_image {
  const void *cubin; /* may be NULL with the simulated driver */
  const char *name;  /* of the kernel in it */
  int num_warps, num_ctas;
  unsigned shared;
  int cooperative, dependent;
  size_t global_scratch; /* bytes per block */
  size_t argument_bytes; /* with the two pointers for scratch memory */
  uint64_t pointers;
  int num_descriptors;
  const vt_triton_descriptor *descriptors;
  int num_parameters; /* 0 without descriptors */
  const unsigned short *parameters;
} vt_triton_image;

/* Finds the image of a kernel (source and text of the specialisation, UTF-8) and hands it to
 * vt_triton_deliver, else says why not by vt_triton_fail or, where there is no code and no compiler,
 * by vt_triton_missing. Takes the GIL. */
typedef void (*vt_triton_finder)(const char *source, const char *spec, int major, int minor,
                                 int simulated, void *request);
void vt_triton_set_finder(vt_triton_finder finder);
void vt_triton_deliver(void *request, const vt_triton_image *image);
void vt_triton_fail(void *request, const char *message);
void vt_triton_missing(void *request);

/* Whether operators may use Triton's kernels. */
void vt_triton_enable(int enabled);
int vt_triton_is_enabled(void);

/* --- kernels of users ------------------------------------------------------------------------------- */

/* Loads an image on the current device. The code lives as long as the process. */
typedef struct vt_triton_code vt_triton_code;
vt_status vt_triton_load(const vt_triton_image *image, int device, vt_triton_code **code);
/* Enqueues on the device's current stream; the device is the current one. */
vt_status vt_triton_launch(const vt_triton_code *code, int device, unsigned x, unsigned y,
                           unsigned z, char *arguments, size_t bytes);
/* `n` such launches, or calls of cuLaunchKernel with the same arguments and nothing around them: what
 * the cost of a launch is measured against. */
vt_status vt_triton_repeat(const vt_triton_code *code, int device, unsigned x, char *arguments,
                           size_t bytes, int n, int bare);
/* Encodes the tensor map of the n-th descriptor at `to`. */
vt_status vt_triton_encode(const vt_triton_code *code, int n, void *to, const void *data,
                           const int64_t *sizes, const int64_t *strides);

#ifdef __cplusplus
}
#endif
#endif
