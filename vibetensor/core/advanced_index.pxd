"""Taking an index with tensors, lists, arrays or masks apart into a basic index and tensors."""
from vibetensor.core.tensor cimport Tensor


cdef class AdvancedIndex:
    cdef tuple basic     # the basic index to apply first, or None where it changes nothing
    cdef list masks      # [(dimension of the view, bool Tensor), ...] not expanded so far, or None
    cdef list indices    # [(dimension of the view, int64 Tensor), ...]
    cdef tuple tensors   # after expand_masks: a Tensor or None per dimension; None if there is none

    # Replaces the masks by the positions of their true elements and fills `tensors`.
    cdef int expand_masks(self, Tensor view) except -1
    # Whether one mask is all there is.
    cdef bint is_one_mask(self)
    # That mask with dimensions of size one, so that it broadcasts against `view`.
    cdef Tensor broadcast_mask(self, Tensor view)


cdef AdvancedIndex parse_advanced(Tensor self, object index)
