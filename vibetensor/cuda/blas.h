// Dense products on the device through cuBLASLt: one call, one plan. What cuBLASLt cannot read in
// place (any strides, broadcast inputs) is the business of kernels/gemm.h, which calls this.
//
// Note [Matrix products by plan]
// A plan is what cuBLASLt needs besides addresses: descriptors, and the algorithm that its
// heuristic picks. It depends on shapes, leading dimensions, dtypes, epilogue, alignment and device,
// which together are the key of a table. The table only grows, so that a lookup takes no lock; a new
// plan is added under one. The workspace is scratch memory of the caching allocator, taken for the
// call: it is reused by the stream's next call, needs no care under capture, and two threads on one
// stream cannot share it.
#ifndef VT_CUDA_BLAS_H
#define VT_CUDA_BLAS_H

#include "vibetensor/cuda/blas_api.h"
#include "vibetensor/cuda/cublaslt.h"
#include "vibetensor/types.h"

namespace vt_cuda {

// A factor as each dtype needs it.
struct GemmFactor {
  double re, im;
};

// A matrix as cuBLASLt reads it: rows one after the other, `ld` elements apart, or, transposed,
// columns one after the other.
struct GemmOperand {
  const void *data;
  int64_t ld;
  int64_t batch; /* elements from one product to the next; 0: the same matrix for all */
  bool transposed;
};

// D (m x n) = epilogue(alpha A (m x k) B (k x n) + beta C), `batch` times. C and D lie in rows. All
// sizes are at least 1.
struct Gemm {
  int dtype;     /* of A and B */
  int out_dtype; /* of C and D: `dtype`, or float32 for half types */
  int64_t m, n, k, batch;
  GemmOperand a, b;
  const void *c; /* may be D; not read when beta is 0 */
  int64_t c_ld, c_batch;
  void *d;
  int64_t d_ld, d_batch;
  GemmFactor alpha, beta;
  uint32_t epilogue; /* LtEpilogue */
  /* n elements of out_dtype, 16-byte aligned: read, or, by an epilogue with BGrad, written (BGradB
   * writes m: the sums of the rows of A). */
  const void *bias;
  void *aux; /* m x n of out_dtype in rows, aux_ld a multiple of 8 */
  int64_t aux_ld;
};

// What a product came to.
enum class GemmResult {
  kDone,
  kUnsupported, /* cuBLASLt has no algorithm for it: nothing was enqueued */
  kFailed       /* the status is in `*status` */
};

GemmResult run_gemm(const Gemm &g, vt_context *ctx, vt_status *status);

// Whether a product of this dtype can be run at all.
bool is_blas_dtype(int dtype);

// Drops plans, handles and the library's table, so that another driver can be used. Only for tests.
void forget_blas();

}  // namespace vt_cuda

#endif
