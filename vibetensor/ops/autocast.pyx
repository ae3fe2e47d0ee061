"""What the generated autocast entries call (see autocast.pxd)."""
from cpython.ref cimport PyObject

from vibetensor.core.autocast cimport keep_cast, kept_cast
from vibetensor.core.tensor cimport F_REQUIRES_GRAD, Tensor
from vibetensor.core.types cimport *
from vibetensor.ops.entries cimport op_to_dtype


cdef bint autocast_begin(AutocastCall* call, uint32_t keys, int on_cpu, int on_cuda) noexcept:
    call.device_type = VT_CUDA if keys & KEYS_CUDA else VT_CPU
    call.policy = on_cuda if call.device_type == VT_CUDA else on_cpu
    if call.policy == AUTOCAST_NONE or not vt_tls.autocast_devices >> call.device_type & 1:
        return False
    if call.policy == AUTOCAST_LOWER or call.policy == AUTOCAST_WIDEST:
        call.dtype = vt_tls.autocast_dtype[call.device_type]
    elif call.policy == AUTOCAST_PARAMETERS:
        call.dtype = -1
    else:
        call.dtype = VT_F32
    call.outer = vt_autocast_exchange(0)
    return True


cdef inline bint eligible(AutocastCall* call, Tensor t) noexcept:
    return VT_F16 <= t.dtype <= VT_F32 and t.device_type == call.device_type


cdef void autocast_meet(AutocastCall* call, Tensor t) noexcept:
    if t is None or not eligible(call, t):
        return
    if call.dtype < 0:
        call.dtype = t.dtype
    elif t.dtype != call.dtype and call.policy >= AUTOCAST_WIDEST:
        call.dtype = VT_F32


cdef Tensor autocast_tensor(AutocastCall* call, Tensor t):
    cdef Tensor cast
    cdef PyObject* kept
    if t is None or t.dtype == call.dtype or call.dtype < 0 or not eligible(call, t):
        return t
    # A weight: a leaf in float32 that requires grad, and no view.
    if (
        call.policy != AUTOCAST_LOWER or not t.flags & F_REQUIRES_GRAD or t.grad_fn is not NULL
        or t.base is not NULL or t.dtype != VT_F32 or vt_tls.autocast_uncached
    ):
        return op_to_dtype(t, call.dtype)
    kept = kept_cast(t, call.dtype)
    if kept is not NULL:
        return <Tensor>kept
    cast = op_to_dtype(t, call.dtype)
    keep_cast(t, cast)
    return cast


cdef tuple autocast_tensors(AutocastCall* call, tuple tensors):
    return tuple([autocast_tensor(call, <Tensor>t) for t in tensors])


cdef int autocast_result_dtype(AutocastCall* call, Tensor first, int dtype) noexcept:
    return VT_F32 if dtype < 0 and eligible(call, first) else dtype


cdef Tensor autocast_result(AutocastCall* call, Tensor result, Tensor first):
    if call.policy == AUTOCAST_PARAMETERS and eligible(call, first):
        return op_to_dtype(result, first.dtype)
    return result
