"""The tables by which attention gets its kernels, as tuples; see vibetensor.backends.cuda.attention."""


cdef extern from "vibetensor/cuda/attention_api.h" nogil:
    ctypedef struct vt_attention_row:
        const char* step
        const char* family
        const char* precision
        int causal, head_size, max_queries, max_keys, queries, keys, warps, stages
    int vt_attention_row_at(int i, int major, vt_attention_row* row)
    int vt_attention_hopper_min_rows


def rows(int major):
    """All rows for devices of this major compute capability."""
    cdef vt_attention_row r
    cdef int i = 0
    found = []
    while vt_attention_row_at(i, major, &r):
        found.append((
            r.step.decode(), r.family.decode(), r.precision.decode(),
            None if r.causal < 0 else bool(r.causal), r.head_size, r.max_queries, r.max_keys,
            r.queries, r.keys, r.warps, r.stages,
        ))
        i += 1
    return found


def hopper_min_rows():
    return vt_attention_hopper_min_rows


def set_hopper_min_rows(int rows):
    global vt_attention_hopper_min_rows
    vt_attention_hopper_min_rows = rows
