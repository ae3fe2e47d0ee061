"""Exceptions with PyTorch's types and texts. Every function here raises, always."""
from libc.stdint cimport int64_t

from vibetensor.core.types cimport vt_context, vt_status


# What a kernel reported, as an exception. `dtype` is the code the kernel was asked for, or -1.
cdef int raise_status(str op, vt_status status, vt_context* ctx, int dtype) except -1
# TypeError: an argument of the wrong type. `position` counts from 1; 0 for keyword-only arguments.
cdef int wrong_type(str op, str argument, int position, str expected, object got) except -1
# ValueError-like choice of a string: gelu(): approximate must be one of ['none', 'tanh'], got 'x'.
cdef int wrong_choice(str op, str argument, tuple choices, object got) except -1
# NotImplementedError: no kernel for this dtype on this device.
cdef int unsupported_dtype(str op, int device_type, int dtype) except -1
# IndexError: a dimension outside [-ndim, ndim - 1].
cdef int wrong_dim(int64_t dim, int64_t ndim) except -1
# IndexError: an index outside a dimension.
cdef int index_out_of_bounds(int64_t index, int64_t dim, int64_t size) except -1
# RuntimeError: two sizes that do not broadcast; the sizes of a and b at `dim`.
cdef int broadcast_mismatch(int64_t a, int64_t b, int64_t dim) except -1
# RuntimeError: operands on two devices, by name.
cdef int device_mismatch(str op, object a, object b) except -1
# RuntimeError: memory for `nbytes` could not be had.
cdef int out_of_memory(str op, int64_t nbytes) except -1
# RuntimeError: a write to memory that was imported as read-only.
cdef int read_only() except -1
# RuntimeError: an in-place result that the output's dtype cannot hold.
cdef int cannot_cast_result(int source, int target) except -1
# RuntimeError: an in-place result of another shape than the output.
cdef int output_shape_mismatch(tuple output, tuple broadcast) except -1
# OutOfMemoryError with the backend's own text, after its allocator returned NULL.
cdef int backend_out_of_memory(int device_type) except -1
# RuntimeError and its kin: what a backend function reported. `op` says what was being done.
cdef int raise_backend_status(str op, int device_type, vt_status status, vt_context* ctx) except -1
