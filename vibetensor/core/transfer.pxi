# Work on a device that is not the host, and copies between devices. Part of iterator.pyx.

cdef inline vt_status enter_device(int device_type, int device_index, int op, vt_context* ctx) noexcept:
    """Fills `ctx` for work on a device whose backend is ready."""
    ctx.message = NULL
    ctx.op = op
    return vt_backends[device_type].enter(device_index, ctx)


cdef inline int finish_device(const char* name, int device_type, vt_status status, vt_context* ctx,
                              int dtype) except -1:
    vt_backends[device_type].leave(ctx)
    if status != VT_OK:
        ctx.device_index = 0 if ctx.device_index < 0 else ctx.device_index
        raise_status(name.decode(), status, ctx, dtype)
    return 0


cdef int run_plan(const vt_pointwise* op, int device_type, int device_index, const vt_iter* it,
                  int dtype, const vt_value* params) except -1:
    """A pointwise plan on a device. The GIL is kept: a launch takes about as long as giving it up."""
    cdef vt_context ctx
    cdef vt_status status = enter_device(device_type, device_index, -1, &ctx)
    if status == VT_OK:
        status = vt_backends[device_type].pointwise(it, op.functor, dtype, params, &ctx)
    return finish_device(op.name, device_type, status, &ctx, dtype)


cdef Tensor device_flat(const vt_pointwise* op, PyObject** inputs, const vt_value* params, Tensor out):
    """`pointwise` for contiguous operands of one shape, dtype and device, which is not the host."""
    cdef char* data[VT_MAX_OPERANDS]
    cdef vt_context ctx
    cdef vt_status status
    cdef int k, dtype = (<Tensor>inputs[0]).dtype, device_type = out.device_type
    if out.numel == 0:
        return out
    data[0] = out.data
    for k in range(op.ninputs):
        data[k + 1] = (<Tensor>inputs[k]).data
    status = enter_device(device_type, out.device_index, -1, &ctx)
    if status == VT_OK:
        status = vt_backends[device_type].pointwise_flat(op.functor, dtype, op.ninputs + 1, data,
                                                         out.numel, params, &ctx)
    finish_device(op.name, device_type, status, &ctx, dtype)
    return out


# --- copies between devices ------------------------------------------------------------------------

cdef int copy_on_device(Tensor dst, vt_iter* it) except -1:
    cdef vt_context ctx
    cdef vt_status status = enter_device(dst.device_type, dst.device_index, -1, &ctx)
    if status == VT_OK:
        status = vt_backends[dst.device_type].copy(it, &ctx)
    return finish_device(b"copy_", dst.device_type, status, &ctx, dst.dtype)


cdef inline bint same_place(Tensor a, Tensor b) noexcept:
    return a.device_type == b.device_type and a.device_index == b.device_index


cdef bint same_layout(Tensor a, Tensor b) noexcept:
    """Whether the bytes of one, as they lie, are those of the other."""
    cdef int i
    if a.dtype != b.dtype:
        return False
    if a.flags & b.flags & F_CONTIGUOUS:
        return True
    if not tensor_is_dense(a) or not tensor_is_dense(b):
        return False
    for i in range(a.ndim):
        if a.strides[i] != b.strides[i] and a.sizes[i] != 1:
            return False
    return True


cdef int copy_raw(Tensor dst, Tensor src, bint non_blocking) except -1:
    """The bytes of `src` to `dst`, of the same layout on another device."""
    cdef Tensor device = dst if dst.device_type != VT_CPU else src
    cdef vt_storage* pinned = NULL
    cdef vt_context ctx
    cdef vt_status status
    cdef char* to = dst.data
    cdef const char* origin = src.data
    cdef int dst_index = VT_HOST if dst.device_type == VT_CPU else dst.device_index
    cdef int src_index = VT_HOST if src.device_type == VT_CPU else src.device_index
    cdef int device_type = device.device_type
    cdef int device_index = device.device_index
    cdef size_t nbytes = dst.numel * itemsize(dst.dtype)
    if dst_index == VT_HOST and dst.storage.flags & VT_STORAGE_PINNED:
        pinned = dst.storage
    elif src_index == VT_HOST and src.storage.flags & VT_STORAGE_PINNED:
        pinned = src.storage
    status = enter_device(device_type, device_index, -1, &ctx)
    if status == VT_OK:
        with nogil:
            status = vt_backends[device_type].copy_bytes(
                to, dst_index, origin, src_index, nbytes, pinned, non_blocking, &ctx)
    return finish_device(b"copy_", device_type, status, &ctx, dst.dtype)


cdef int transfer(Tensor dst, Tensor src, bint non_blocking) except -1:
    """Copies between devices; `src` has the shape of `dst`, which is not empty."""
    cdef Tensor staged
    if same_layout(dst, src):
        return copy_raw(dst, src, non_blocking)
    if src.device_type == VT_CPU:
        # Sent as it is, converted and laid out there.
        staged = tensor_new(dst.ndim, dst.sizes, src.dtype, dst.device_type, dst.device_index)
        copy_raw(staged, as_contiguous(src), non_blocking and src.flags & F_CONTIGUOUS)
        return copy_into(dst, staged)
    # Converted before it leaves the device.
    staged = as_contiguous(cast(src, dst.dtype))
    if dst.flags & F_CONTIGUOUS:
        return copy_raw(dst, staged, non_blocking)
    src = tensor_new(dst.ndim, dst.sizes, dst.dtype, dst.device_type, dst.device_index)
    copy_raw(src, staged, False)
    return copy_into(dst, src)


cdef int read_element(Tensor t, char* p) except -1:
    """The only element of a tensor on a device; waits for the device."""
    cdef vt_context ctx
    cdef vt_status status = enter_device(t.device_type, t.device_index, -1, &ctx)
    cdef int device_type = t.device_type, device_index = t.device_index, size = itemsize(t.dtype)
    cdef const char* data = t.data
    if status == VT_OK:
        with nogil:
            status = vt_backends[device_type].copy_bytes(p, VT_HOST, data, device_index, size, NULL,
                                                         False, &ctx)
    return finish_device(b"item", device_type, status, &ctx, t.dtype)
