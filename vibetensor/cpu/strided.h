/* Runs a function written for contiguous runs over operands of any strides, by copying tiles. */
#ifndef VT_STRIDED_H
#define VT_STRIDED_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Elements per tile; buffers on the stack hold this many elements of the widest type. */
#define VT_TILE 512

/* ptrs[0] is the output; every operand has n elements without gaps. */
typedef void (*vt_run)(char *const *ptrs, int64_t n, const void *params);

/* Calls `run` over n1 rows of n0 elements; `ptrs` and `strides` as of a vt_loop, itemsizes[k] the bytes
 * of an element of operand k (1, 2, 4, 8 or 16). Operands without gaps are used in place. */
void vt_cpu_run_strided(vt_run run, int nptrs, const uint8_t *itemsizes, char *const *ptrs,
                        const int64_t *strides, int64_t n0, int64_t n1, const void *params);

#ifdef __cplusplus
}
#endif
#endif
