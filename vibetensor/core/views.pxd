"""Geometry of the view operators: each makes an alias of its input with other sizes and strides.

No autograd here: the generated entries record the view and its history.
"""
from libc.stdint cimport int64_t

from vibetensor.core.tensor cimport Tensor


cdef int wrap_dim(int64_t dim, int ndim) except -1
# The same for a dimension that may also name a new one behind the last (unsqueeze, stack).
cdef int wrap_new_dim(int64_t dim, int ndim) except -1

cdef Tensor as_strided_view(Tensor input, tuple size, tuple stride, object storage_offset)
cdef Tensor view_view(Tensor input, tuple size)
# The same of `n` sizes, of which one may be -1: it is replaced in place.
cdef Tensor view_by_sizes(Tensor input, int n, int64_t* sizes)
cdef Tensor view_dtype_view(Tensor input, int dtype)
cdef Tensor permute_view(Tensor input, tuple dims)
cdef Tensor transpose_view(Tensor input, int64_t dim0, int64_t dim1)
cdef Tensor t_view(Tensor input)
cdef Tensor expand_view(Tensor input, tuple size)
cdef Tensor squeeze_view(Tensor input, object dim)
cdef Tensor unsqueeze_view(Tensor input, int64_t dim)
cdef Tensor select_view(Tensor input, int64_t dim, int64_t index)
cdef Tensor slice_view(Tensor input, int64_t dim, object start, object end, int64_t step)
cdef Tensor narrow_view(Tensor input, int64_t dim, int64_t start, int64_t length)
cdef Tensor flatten_view(Tensor input, int64_t start_dim, int64_t end_dim)
cdef Tensor diagonal_view(Tensor input, int64_t offset, int64_t dim1, int64_t dim2)
cdef Tensor view_as_real_view(Tensor input)
cdef Tensor alias_view(Tensor input)
cdef tuple split_view(Tensor input, tuple sizes, int64_t dim)
cdef tuple unbind_view(Tensor input, int64_t dim)

# Sizes of reshape/view with -1 resolved.
cdef tuple infer_size(Tensor input, tuple size)
# Whether view_view would succeed.
cdef bint can_view(Tensor input, tuple size) except -1
# The new shape of flatten(start_dim, end_dim).
cdef tuple flatten_size(Tensor input, int64_t start_dim, int64_t end_dim)
