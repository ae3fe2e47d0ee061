/* The tables by which a call of attention gets its kernels, to look at; and the border between two. */
#ifndef VT_CUDA_ATTENTION_API_H
#define VT_CUDA_ATTENTION_API_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char *step;      /* what the kernel computes */
  const char *family;    /* "hopper" or "plain" */
  const char *precision; /* "half", "tf32", "tf32x3" */
  int causal;            /* 1: causal calls, 0: others, -1: both */
  int head_size;         /* the largest */
  int max_queries, max_keys;
  int queries, keys; /* of a tile */
  int warps, stages; /* warps that compute */
} vt_attention_row;

/* Row i of the tables of a device of this compute capability, in the order in which they are asked. 0: there
   is none. */
int vt_attention_row_at(int i, int major, vt_attention_row *row);

/* From how many queries and keys on the Hopper kernels are taken. */
extern int vt_attention_hopper_min_rows;

#ifdef __cplusplus
}
#endif
#endif
