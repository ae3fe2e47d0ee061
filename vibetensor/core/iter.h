/* The plan of a pointwise operator: operands broadcast to one shape, unit dimensions dropped,
 * dimensions sorted by stride and coalesced. Built in core/iterator.pyx, run by a device backend. */
#ifndef VT_ITER_H
#define VT_ITER_H

#include "vibetensor/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VT_MAX_OPERANDS 6

/* Operand 0 is the output. Dimension 0 is the innermost. Not initialised beyond ndim and
 * noperands. */
typedef struct vt_iter {
  int32_t noperands;
  int32_t ndim; /* at least 1 */
  int64_t numel;
  uint8_t dtype[VT_MAX_OPERANDS];      /* as stored */
  uint8_t loop_dtype[VT_MAX_OPERANDS]; /* as the loop reads or writes it; cast where they differ */
  uint8_t host[VT_MAX_OPERANDS];       /* one element in host memory: a device takes it by value */
  char *data[VT_MAX_OPERANDS];
  int64_t sizes[VT_MAX_DIMS];
  int64_t strides[VT_MAX_OPERANDS][VT_MAX_DIMS]; /* bytes */
} vt_iter;

/* Runs `loop` over the plan on the CPU, casting blockwise where dtype != loop_dtype, in parallel when
 * it pays. */
void vt_cpu_pointwise(const vt_iter *it, vt_loop loop, const vt_value *params);
/* The same when every operand is contiguous (or a scalar with step 0) and none needs a cast. */
void vt_cpu_pointwise_flat(vt_loop loop, int noperands, char *const *data, const int64_t *steps,
                           int64_t numel, const vt_value *params);

#ifdef __cplusplus
}
#endif
#endif
