/* Types every kernel, on every device, is written against. Plain C; part of the installed headers.
 *
 * A kernel never sees a Python object: it gets arrays (address, sizes, strides, dtype) and values
 * (numbers and lists), and returns a status. */
#ifndef VIBETENSOR_TYPES_H
#define VIBETENSOR_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The highest rank of a tensor. */
#define VT_MAX_DIMS 64

/* Element types. The codes are part of the ABI: append, never renumber. */
typedef enum vt_dtype {
  VT_BOOL = 0,
  VT_U8 = 1,
  VT_I8 = 2,
  VT_I16 = 3,
  VT_I32 = 4,
  VT_I64 = 5,
  VT_F16 = 6,
  VT_BF16 = 7,
  VT_F32 = 8,
  VT_F64 = 9,
  VT_C64 = 10,
  VT_C128 = 11,
  VT_NUM_DTYPES = 12, /* implemented */
  VT_F8_E4M3 = 12,    /* reserved */
  VT_F8_E5M2 = 13     /* reserved */
} vt_dtype;

typedef enum vt_device_type {
  VT_CPU = 0,
  VT_CUDA = 1,
  VT_META = 2,
  VT_NUM_DEVICE_TYPES = 3
} vt_device_type;

/* A strided array, borrowed for the duration of one kernel call.
 * Element (i0, i1, ...) lies at data + itemsize * sum(i_k * strides[k]); strides may be zero or
 * negative. An optional tensor that was not given has data == NULL and ndim == -1. */
typedef struct vt_array {
  char *data;
  const int64_t *sizes;
  const int64_t *strides; /* in elements */
  int64_t numel;
  int32_t ndim;
  uint8_t dtype; /* vt_dtype */
  uint8_t device_type;
  int8_t device_index;
  uint8_t contiguous; /* row-major without gaps */
} vt_array;

typedef enum vt_value_kind {
  VT_VALUE_NONE = 0, /* None */
  VT_VALUE_INT = 1,  /* int, bool, dtype code, choice index */
  VT_VALUE_FLOAT = 2,
  VT_VALUE_COMPLEX = 3,
  VT_VALUE_INTS = 4,  /* list[int] */
  VT_VALUE_ARRAYS = 5 /* list[Tensor] */
} vt_value_kind;

/* A number or a list, borrowed for the duration of one kernel call. Of an INT value `re` is set
 * too, of a FLOAT value `i` is not. */
typedef struct vt_value {
  vt_value_kind kind;
  int64_t n; /* length of a list */
  int64_t i; /* INT */
  double re; /* FLOAT, COMPLEX and INT (rounded) */
  double im; /* COMPLEX, else 0 */
  const int64_t *ints;
  const vt_array *arrays;
} vt_value;

/* What a kernel reports. The caller, which holds the GIL, turns it into an exception. */
typedef enum vt_status {
  VT_OK = 0,
  VT_ERROR_OUT_OF_MEMORY = 1, /* RuntimeError */
  VT_ERROR_DTYPE = 2,         /* NotImplementedError: no kernel for this dtype */
  VT_ERROR_INDEX = 3,         /* IndexError: detail[0] = index, [1] = dimension, [2] = its size */
  VT_ERROR_VALUE = 4,         /* RuntimeError with context->message */
  VT_ERROR_ZERO_DIVISION = 5, /* RuntimeError "ZeroDivisionError" */
  VT_ERROR_BOUNDS = 6         /* as VT_ERROR_INDEX, where PyTorch raises RuntimeError */
} vt_status;

/* Where a kernel runs, and where it leaves the detail of an error. */
typedef struct vt_context {
  void *stream; /* CUstream; NULL on the CPU */
  int64_t detail[3];
  const char *message;  /* static, or the thread's until its next error */
  int32_t op;           /* number of the operator; -1 where none is meant */
  int32_t device_index; /* -1 on the CPU */
} vt_context;

/* Every kernel but the pointwise loops has this one signature. `arrays` holds the tensor arguments
 * in the order of the declaration, then the outputs; `values` the other arguments. */
typedef vt_status (*vt_kernel)(const vt_array *arrays, const vt_value *values, vt_context *context);

/* Inner loop of a pointwise operator on the CPU, two-dimensional, over n1 rows of n0 elements.
 * ptrs[0] is the output, ptrs[1..] the inputs; strides[k] and strides[nptrs + k] are the inner and
 * outer strides of operand k in bytes. All inputs have the dtype that the loop was chosen for. */
typedef void (*vt_loop)(char *const *ptrs, const int64_t *strides, int64_t n0, int64_t n1,
                        const vt_value *params);

#ifdef __cplusplus
}
#endif
#endif
