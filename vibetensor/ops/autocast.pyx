"""What the generated autocast entries call (see autocast.pxd)."""
from cpython.ref cimport Py_INCREF, PyObject

from vibetensor.autograd.node cimport Node, edge_wanted, node_edge, node_new, set_history
from vibetensor.core.autocast cimport cast_beside, is_weight, keep_cast, kept_cast
from vibetensor.core.tensor cimport Tensor, tensor_empty_like
from vibetensor.core.types cimport *
from vibetensor.ops.entries cimport op__cast_tensors_, op_to_dtype


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


cdef int pass_gradient(Node node, PyObject** grads, PyObject** out) except -1:
    """The gradient of a cast weight, as it came: the engine takes it in the dtype of the weight."""
    if grads[0] is not NULL and edge_wanted(node, 0):
        Py_INCREF(<object>grads[0])
        out[0] = grads[0]
    return 0


cdef Tensor cast_weight(Tensor t, int dtype):
    """Casts a weight, and what else the region will ask for (see Note [Casts])."""
    cdef tuple weights = cast_beside(t)
    cdef tuple casts = tuple([tensor_empty_like(<Tensor>w, dtype) for w in weights])
    cdef Tensor cast
    cdef Node node
    op__cast_tensors_(casts, weights)
    for i in range(len(weights)):
        cast = <Tensor>casts[i]
        if vt_grad_enabled():
            node = node_new(pass_gradient, "ToCopyBackward0", 1, 0, 1)
            node_edge(node, 0, <Tensor>weights[i])
            set_history(cast, node, 0)
            node.metas[0].dtype = VT_F32
        keep_cast(<Tensor>weights[i], cast, i == 0)
    return <Tensor>casts[0]


cdef Tensor autocast_tensor(AutocastCall* call, Tensor t):
    cdef PyObject* kept
    if t is None or t.dtype == call.dtype or call.dtype < 0 or not eligible(call, t):
        return t
    if call.policy != AUTOCAST_LOWER or not is_weight(t) or vt_tls.autocast_uncached:
        return op_to_dtype(t, call.dtype)
    kept = kept_cast(t, call.dtype)
    return cast_weight(t, call.dtype) if kept is NULL else <Tensor>kept


cdef tuple autocast_tensors(AutocastCall* call, tuple tensors):
    return tuple([autocast_tensor(call, <Tensor>t) for t in tensors])


cdef int autocast_result_dtype(AutocastCall* call, Tensor first, int dtype) noexcept:
    return VT_F32 if dtype < 0 and eligible(call, first) else dtype


cdef Tensor autocast_result(AutocastCall* call, Tensor result, Tensor first):
    if call.policy == AUTOCAST_PARAMETERS and eligible(call, first):
        return op_to_dtype(result, first.dtype)
    return result
