"""Indexing by ints, slices, None and Ellipsis: geometry only, no autograd."""
from vibetensor.core.tensor cimport Tensor


# The view `input[index]`, or None where the index holds anything but exact ints, slices, None and
# Ellipsis. Raises IndexError for an index that does not fit.
cdef Tensor basic_view(Tensor input, object index)
# `index` with the bounds of its slices made plain ints, so that it means the same when used later.
cdef object freeze_index(object index)
