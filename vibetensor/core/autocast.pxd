"""Autocast: its state of this thread, and the casts of weights that the region keeps."""
from cpython.ref cimport PyObject

from vibetensor.core.tensor cimport Tensor

# The kept cast of `t` to `dtype`, borrowed; NULL if there is none, or `t` has changed since.
cdef PyObject* kept_cast(Tensor t, int dtype) noexcept
# Keeps `cast` as the cast of `t`, until the outermost region ends; `used`: by more than foresight.
cdef int keep_cast(Tensor t, Tensor cast, bint used) except -1
# Whether casts of `t` are kept: a leaf in float32 that requires grad, and no view.
cdef bint is_weight(Tensor t) noexcept
# `t`, and behind it the weights to cast with it.
cdef tuple cast_beside(Tensor t)
