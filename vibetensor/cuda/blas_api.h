/* What Python asks of blas.cpp, through _blas.pyx. Plain C. */
#ifndef VT_CUDA_BLAS_API_H
#define VT_CUDA_BLAS_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether float32 (and complex64) products may round their inputs to TF32. Process-wide, as in
 * PyTorch: set by set_float32_matmul_precision and backends.cuda.matmul.allow_tf32. */
extern int vt_cuda_allow_tf32;

/* Finds the library: writes its path, at most `size` bytes with the final zero, and returns 1, or 0.
 * Called without a lock held when the first product is asked for. */
typedef int (*vt_cuda_path_finder)(char *path, size_t size);
void vt_cuda_set_blas_finder(vt_cuda_path_finder finder);

typedef struct vt_cuda_blas_stats {
  int64_t plans;       /* in the table */
  int64_t misses;      /* lookups that made a plan */
  int64_t calls;       /* products enqueued */
  int64_t unsupported; /* products refused by the heuristic */
} vt_cuda_blas_stats;
void vt_cuda_blas_get_stats(vt_cuda_blas_stats *stats);

/* cublasLtGetVersion(), or 0 with the reason in *why. */
size_t vt_cuda_blas_version(const char **why);

#ifdef __cplusplus
}
#endif
#endif
