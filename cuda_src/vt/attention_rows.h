// The parameters of the softmax inside attention: which rows of which scores.
#ifndef VT_ATTENTION_ROWS_H
#define VT_ATTENTION_ROWS_H

#include <stdint.h>

// Scores of `rows` rows, `ld` elements apart. The queries that share a head of keys are a unit: its
// rows are heads x queries. A launch has `unit_rows` rows of each unit from `first_row` on.
struct vt_attention_rows {
  int64_t ld;
  uint32_t rows, unit_rows, first_row, first_unit;
  uint32_t queries, keys;
  uint32_t kv_heads, group; /* group: heads in a unit */
  int64_t mask_stride[4];   /* batch, head, query, key */
  int64_t lse_stride[3];
  int32_t mask_kind; /* 0 none, 1 boolean (true: take part), 2 added, of the dtype of the queries */
  int32_t high;      /* query i sees keys 0 .. i + high */
};

// What the backward pass takes besides.
struct vt_attention_grad_mask {
  void *data; /* or NULL */
  int64_t stride[4];
};

#endif
