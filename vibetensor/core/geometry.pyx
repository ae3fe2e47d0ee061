"""Arithmetic of shapes and strides (see geometry.pxd)."""

cdef extern from "Python.h":
    bint __builtin_mul_overflow(int64_t a, int64_t b, int64_t* r) nogil
    bint __builtin_add_overflow(int64_t a, int64_t b, int64_t* r) nogil


cdef int broadcast_shapes(int na, const int64_t* a, int nb, const int64_t* b, int64_t* out) noexcept nogil:
    cdef int n = na if na > nb else nb
    cdef int i
    cdef int64_t sa, sb
    for i in range(n):
        sa = a[i - (n - na)] if i >= n - na else 1
        sb = b[i - (n - nb)] if i >= n - nb else 1
        if sa == sb or sb == 1:
            out[i] = sa
        elif sa == 1:
            out[i] = sb
        else:
            return -1 - i
    return n


cdef int64_t product(int n, const int64_t* sizes) noexcept nogil:
    cdef int64_t p = 1
    cdef int i
    for i in range(n):
        if __builtin_mul_overflow(p, sizes[i], &p):
            return -1
    return p


cdef void contiguous_strides(int n, const int64_t* sizes, int64_t* strides) noexcept nogil:
    cdef int64_t step = 1
    cdef int i
    for i in range(n - 1, -1, -1):
        strides[i] = step
        if sizes[i] > 1:
            step *= sizes[i]


cdef bint view_strides(int n, const int64_t* sizes, const int64_t* strides, int64_t numel,
                       int new_n, const int64_t* new_sizes, int64_t* new_strides) noexcept nogil:
    # Walks from the last dimension. A run of old dimensions that are contiguous with each other
    # (a chunk) can be cut into any new dimensions of the same product; a chunk border can not
    # lie inside a new dimension.
    cdef int view_d = new_n - 1
    cdef int d
    cdef int64_t chunk_stride, chunk = 1, view_chunk = 1
    if numel == 0 or n == 0:
        contiguous_strides(new_n, new_sizes, new_strides)
        return True
    chunk_stride = strides[n - 1]
    for d in range(n - 1, -1, -1):
        chunk *= sizes[d]
        if d == 0 or (sizes[d - 1] != 1 and strides[d - 1] != chunk * chunk_stride):
            while view_d >= 0 and (view_chunk < chunk or new_sizes[view_d] == 1):
                new_strides[view_d] = view_chunk * chunk_stride
                view_chunk *= new_sizes[view_d]
                view_d -= 1
            if view_chunk != chunk:
                return False
            if d > 0:
                chunk_stride = strides[d - 1]
                chunk = 1
                view_chunk = 1
    return view_d == -1


cdef bint extent(int n, const int64_t* sizes, const int64_t* strides, int64_t* low, int64_t* high) noexcept nogil:
    cdef int i
    cdef int64_t step
    low[0] = 0
    high[0] = 0
    for i in range(n):
        if sizes[i] <= 1:
            continue
        if __builtin_mul_overflow(sizes[i] - 1, strides[i], &step):
            return False
        if step < 0:
            if __builtin_add_overflow(low[0], step, &low[0]):
                return False
        elif __builtin_add_overflow(high[0], step, &high[0]):
            return False
    return True


cdef int internal_overlap(int n, const int64_t* sizes, const int64_t* strides) noexcept nogil:
    cdef int order[64]
    cdef int i, j, k
    cdef int64_t reach = 0, s
    cdef int m = 0
    for i in range(n):
        if sizes[i] == 0:
            return 0
        if sizes[i] > 1:
            if strides[i] == 0:
                return 1
            order[m] = i
            m += 1
    for i in range(1, m):  # by absolute stride, smallest first
        k = order[i]
        s = strides[k] if strides[k] > 0 else -strides[k]
        j = i - 1
        while j >= 0 and (strides[order[j]] if strides[order[j]] > 0 else -strides[order[j]]) > s:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = k
    for i in range(m):
        k = order[i]
        s = strides[k] if strides[k] > 0 else -strides[k]
        if s <= reach:
            return 2
        reach += s * (sizes[k] - 1)
    return 0
