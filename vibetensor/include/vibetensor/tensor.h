/* The stable prefix of a Tensor object: what a downstream extension may read without the GIL while
 * it holds a reference. Everything behind it is private and may change in any release.
 * VT_ABI_VERSION grows when the prefix changes; `cimport vibetensor` checks it at import. */
#ifndef VIBETENSOR_TENSOR_H
#define VIBETENSOR_TENSOR_H

#include <Python.h>

#include "vibetensor/types.h"

#define VT_ABI_VERSION 1

typedef struct vt_tensor_prefix {
  PyObject_HEAD char *data; /* address of element [0, ..., 0] */
  int64_t *sizes;           /* ndim of them */
  int64_t *strides;         /* in elements */
  int64_t numel;
  uint8_t ndim;
  uint8_t dtype;       /* vt_dtype */
  uint8_t device_type; /* vt_device_type */
  int8_t device_index;
} vt_tensor_prefix;

#endif
