"""One place for the texts and types of the errors that operators share.

They follow PyTorch's, so that code which catches or matches them keeps working.
"""
from vibetensor.core.dtype cimport dtype_scalar_name
from vibetensor.core.types cimport (
    VT_CPU, VT_CUDA, VT_ERROR_BOUNDS, VT_ERROR_DTYPE, VT_ERROR_INDEX, VT_ERROR_OUT_OF_MEMORY,
    VT_ERROR_VALUE, VT_ERROR_ZERO_DIVISION, vt_backends,
)

cdef tuple _device_names = ("cpu", "cuda", "meta")


class OutOfMemoryError(RuntimeError):
    """Raised when memory on a device cannot be had."""


cdef int raise_status(str op, vt_status status, vt_context* ctx, int dtype) except -1:
    cdef int device_type = VT_CPU if ctx.device_index < 0 else VT_CUDA
    if device_type != VT_CPU and status != VT_ERROR_DTYPE:
        raise_backend_status(op, device_type, status, ctx)
    if status == VT_ERROR_OUT_OF_MEMORY:
        out_of_memory(op, ctx.detail[0])
    if status == VT_ERROR_DTYPE:
        unsupported_dtype(op, device_type, dtype)
    if status == VT_ERROR_INDEX:
        index_out_of_bounds(ctx.detail[0], ctx.detail[1], ctx.detail[2])
    if status == VT_ERROR_BOUNDS:
        raise RuntimeError(
            f"{op.strip('_')}(): index {ctx.detail[0]} is out of bounds for dimension "
            f"{ctx.detail[1]} with size {ctx.detail[2]}"
        )
    if status == VT_ERROR_ZERO_DIVISION:
        raise RuntimeError("ZeroDivisionError")
    if status == VT_ERROR_VALUE and ctx.message is not NULL:
        raise RuntimeError(f"{op}(): {ctx.message.decode()}")
    raise RuntimeError(f"{op}(): kernel failed with status {status}")


cdef int raise_backend_status(str op, int device_type, vt_status status, vt_context* ctx) except -1:
    cdef str text = backend_text(device_type)
    if status == VT_ERROR_OUT_OF_MEMORY:
        raise OutOfMemoryError(text)
    if status == VT_ERROR_INDEX:
        # Found by a kernel that ran some time ago: `op` is only where the host learnt of it.
        raise IndexError(text)
    if ctx.message is not NULL and ctx.message is not vt_backends[device_type].last_error():
        text = f"{op}(): {ctx.message.decode()}"  # a kernel's own text
    raise RuntimeError(text)


cdef str backend_text(int device_type):
    cdef const char* text = NULL
    if vt_backends[device_type].last_error is not NULL:
        text = vt_backends[device_type].last_error()
    return "unknown error" if text is NULL else text.decode(errors="replace")


cdef int backend_out_of_memory(int device_type) except -1:
    if vt_backends[device_type].lacked_memory():
        raise OutOfMemoryError(backend_text(device_type))
    raise RuntimeError(backend_text(device_type))


cdef int wrong_type(str op, str argument, int position, str expected, object got) except -1:
    cdef str place = f" (position {position})" if position > 0 else ""
    raise TypeError(
        f"{op}(): argument '{argument}'{place} must be {expected}, not {type(got).__name__}")


cdef int wrong_choice(str op, str argument, tuple choices, object got) except -1:
    raise RuntimeError(f"{op}(): {argument} must be one of {list(choices)}, got {got!r}")


cdef int unsupported_dtype(str op, int device_type, int dtype) except -1:
    raise NotImplementedError(
        f"\"{op}_{_device_names[device_type]}\" not implemented for '{dtype_scalar_name(dtype)}'")


cdef int wrong_dim(int64_t dim, int64_t ndim) except -1:
    # A 0-d tensor takes dimension 0 and -1, as PyTorch's.
    cdef int64_t n = ndim if ndim > 0 else 1
    raise IndexError(
        f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")


cdef int index_out_of_bounds(int64_t index, int64_t dim, int64_t size) except -1:
    raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {size}")


cdef int broadcast_mismatch(int64_t a, int64_t b, int64_t dim) except -1:
    raise RuntimeError(f"The size of tensor a ({a}) must match the size of tensor b ({b}) at "
                       f"non-singleton dimension {dim}")


cdef int device_mismatch(str op, object a, object b) except -1:
    raise RuntimeError(f"{op}(): expected all tensors to be on the same device, but found at least "
                       f"two devices, {a} and {b}!")


cdef int out_of_memory(str op, int64_t nbytes) except -1:
    raise OutOfMemoryError(f"{op}(): out of memory: you tried to allocate {nbytes} bytes")


cdef int cannot_cast_result(int source, int target) except -1:
    raise RuntimeError(f"result type {dtype_scalar_name(source)} can't be cast to the desired "
                       f"output type {dtype_scalar_name(target)}")


cdef int output_shape_mismatch(tuple output, tuple broadcast) except -1:
    raise RuntimeError(f"output with shape {list(output)} doesn't match the broadcast shape "
                       f"{list(broadcast)}")


cdef int read_only() except -1:
    raise RuntimeError("the memory of the tensor was imported as read-only: it cannot be written in "
                       "place or through out=. Please clone() the tensor before.")
