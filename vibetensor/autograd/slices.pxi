# The place of a view in its base, as three linear maps and the node of a write through a view.
# Part of node.pyx.
#
# A view is placed by bytes, so a view of another dtype (the real part of a complex tensor) needs no
# rule of its own: the gradient of the base is laid out in memory as the base is, and seen as the
# view sees the base.

cdef enum:
    SLICE_SCATTER = 0   # gradient of the view -> gradient of the base, zero elsewhere
    SLICE_GATHER = 1    # gradient of the base -> its part at the view
    SLICE_CLEAR = 2     # gradient of the base -> the same with zeros at the view


cdef class SliceGeometry:
    """Sizes, strides and places of a base and of one view of it."""

    cdef int64_t* dims          # base sizes, base strides, view sizes, view strides
    cdef int base_ndim, view_ndim
    cdef uint8_t base_dtype, view_dtype
    cdef int64_t offset         # of the view's first element from the base's, in bytes
    cdef int64_t low, high      # the bytes that either touches, from the base's first element

    def __dealloc__(self):
        free(self.dims)

    @staticmethod
    cdef SliceGeometry of(Tensor view):
        cdef SliceGeometry s = SliceGeometry.__new__(SliceGeometry)
        cdef Tensor base = <Tensor>view.base
        cdef int nb = base.ndim, nv = view.ndim
        cdef int64_t low = 0, high = 0
        s.dims = <int64_t*>malloc((2 * (nb + nv) + 1) * sizeof(int64_t))
        if s.dims is NULL:
            raise MemoryError()
        memcpy(s.dims, base.sizes, nb * sizeof(int64_t))
        memcpy(s.dims + nb, base.strides, nb * sizeof(int64_t))
        memcpy(s.dims + 2 * nb, view.sizes, nv * sizeof(int64_t))
        memcpy(s.dims + 2 * nb + nv, view.strides, nv * sizeof(int64_t))
        s.base_ndim = nb
        s.view_ndim = nv
        s.base_dtype = base.dtype
        s.view_dtype = view.dtype
        s.offset = view.data - base.data
        s.low = s.high = 0
        if base.numel > 0:
            extent(nb, base.sizes, base.strides, &low, &high)
            s.low = low * itemsize(base.dtype)
            s.high = (high + 1) * itemsize(base.dtype)
        if view.numel > 0:
            extent(nv, view.sizes, view.strides, &low, &high)
            s.low = min(s.low, s.offset + low * itemsize(view.dtype))
            s.high = max(s.high, s.offset + (high + 1) * itemsize(view.dtype))
        return s

    cdef Tensor empty_base(self, Tensor like, bint zero):
        """A tensor laid out as the base, in memory of its own on the device of `like`."""
        cdef int64_t width = itemsize(self.base_dtype)
        cdef int64_t n = (self.high - self.low + width - 1) // width
        cdef Tensor block = tensor_new(1, &n, self.base_dtype, like.device_type, like.device_index)
        cdef Tensor out
        if zero:
            zero_(block)
        out = tensor_alias_dims(block, self.base_ndim)
        memcpy(out.sizes, self.dims, self.base_ndim * sizeof(int64_t))
        memcpy(out.strides, self.dims + self.base_ndim, self.base_ndim * sizeof(int64_t))
        out.data = block.data - self.low
        tensor_update(out)
        return out

    cdef Tensor copy_base(self, Tensor grad):
        cdef Tensor out = self.empty_base(grad, False)
        copy_(out, grad)
        return out

    cdef Tensor part(self, Tensor whole):
        """The view's place in `whole`, which is laid out as the base."""
        cdef Tensor out = tensor_alias_dims(whole, self.view_ndim)
        cdef int64_t* dims = self.dims + 2 * self.base_ndim
        memcpy(out.sizes, dims, self.view_ndim * sizeof(int64_t))
        memcpy(out.strides, dims + self.view_ndim, self.view_ndim * sizeof(int64_t))
        out.data = whole.data + self.offset
        out.dtype = self.view_dtype
        tensor_update(out)
        return out

    cdef bint laid_out(self, Tensor t) noexcept:
        """Whether `t` is laid out as the base and covers all that the view needs."""
        cdef int i
        if t.ndim != self.base_ndim or t.dtype != self.base_dtype:
            return False
        for i in range(t.ndim):
            if t.strides[i] != self.dims[self.base_ndim + i] and t.sizes[i] != 1:
                return False
        return t.numel > 0 and t.data - t.storage.data + self.low >= 0 and \
            t.data - t.storage.data + self.high <= <int64_t>t.storage.nbytes


cdef int accumulate_overlapping(Tensor place, Tensor g) except -1:
    """place += g, where several indices of `place` may name one element."""
    cdef Tensor p, q
    cdef int64_t i
    cdef int d, k
    if internal_overlap(place.ndim, place.sizes, place.strides) == 0:
        add_(place, g)
        return 0
    for d in range(place.ndim):
        if place.strides[d] == 0 and place.sizes[d] > 1:
            # All indices along an expanded dimension are one element: sum them first.
            p = tensor_alias(place)
            p.sizes[d] = 1
            tensor_update(p)
            return accumulate_overlapping(p, sum_to(g, p.ndim, p.sizes))
    d = 0
    while place.sizes[d] == 1:
        d += 1
    for i in range(place.sizes[d]):
        p = tensor_alias_dims(place, place.ndim - 1)
        q = tensor_alias_dims(g, place.ndim - 1)
        for k in range(place.ndim - 1):
            p.sizes[k] = q.sizes[k] = place.sizes[k + (k >= d)]
            p.strides[k] = place.strides[k + (k >= d)]
            q.strides[k] = g.strides[k + (k >= d)]
        p.data = place.data + i * place.strides[d] * itemsize(place.dtype)
        q.data = g.data + i * g.strides[d] * itemsize(g.dtype)
        tensor_update(p)
        tensor_update(q)
        accumulate_overlapping(p, q)
    return 0


cdef Tensor slice_compute(SliceGeometry s, int kind, Tensor g):
    cdef Tensor out, place
    if kind == SLICE_GATHER:
        return clone(s.part(g if s.laid_out(g) else s.copy_base(g)))
    if kind == SLICE_CLEAR:
        out = s.copy_base(g)
        zero_(s.part(out))
        return out
    out = s.empty_base(g, True)
    place = s.part(out)
    if internal_overlap(place.ndim, place.sizes, place.strides) == 0:
        copy_(place, g)
    else:
        accumulate_overlapping(place, g)
    return out


cdef Tensor slice_apply(SliceGeometry s, int kind, Tensor g):
    """One of the three maps, differentiable: each is the transpose of another."""
    cdef uint32_t excluded = vt_tls.excluded
    cdef Tensor out
    vt_tls.excluded |= KEYS_AUTOGRAD
    try:
        out = slice_compute(s, kind, g)
    finally:
        vt_tls.excluded = excluded
    if vt_grad_enabled() and needs_grad(g):
        kind = SLICE_CLEAR if kind == SLICE_CLEAR else SLICE_GATHER - kind
        set_history(out, slice_node(kind, b"SliceBackward0", g, s), 0)
    return out


cdef Node slice_node(int kind, const char* name, Tensor input, SliceGeometry s):
    """A node whose backward is the map `kind`."""
    cdef Node node = node_new(slice_backward, name, 1, 1, 1)
    node_edge(node, 0, input)
    node_save_object(node, 0, s)
    node.words[0].i = kind
    return node


cdef int slice_backward(Node node, PyObject** grads, PyObject** out) except -1:
    cdef Tensor g
    if node.edges[0].target is not NULL:
        g = slice_apply(<SliceGeometry>node.saved[0], <int>node.words[0].i, <Tensor>grads[0])
        incref(<PyObject*>g)
        out[0] = <PyObject*>g
    return 0


# --- copy-slices ----------------------------------------------------------------------------------

cdef Node copy_slices_node(Tensor base, Tensor view, Node written, int edge):
    """The grad_fn of `base` after `written` wrote into `view`.

    Input `edge` of `written` is the old value of the view, in whose place this node has the old
    value of the base. The edges of `written` stay as they are: its backward reads shapes from them.
    """
    cdef Node node = node_new(copy_slices_backward, b"CopySlices", written.nedges, 2, 1)
    cdef int i
    for i in range(written.nedges):
        if written.edges[i].target is NULL:
            continue
        if i == edge:
            node_edge(node, i, base)
        else:
            node.edges[i] = written.edges[i]
            incref(node.edges[i].target)
    node.words[0].i = edge
    node_save_object(node, 0, written)
    node_save_object(node, 1, SliceGeometry.of(view))
    # For unpack_output; the engine never fills the buffer of a wrapped node.
    written.grads[0] = <PyObject*>node
    written.heap |= NODE_WRAPPED
    return node


cdef int copy_slices_backward(Node node, PyObject** grads, PyObject** out) except -1:
    cdef bint owned = sole_owner(grads[0])
    cdef Tensor grad = <Tensor>grads[0], whole = None, place, part, result
    cdef SliceGeometry s = <SliceGeometry>node.saved[1]
    cdef int edge = <int>node.words[0].i
    cdef bint differentiable = vt_grad_enabled()
    cdef PyObject* arrived
    if node.saved[0] is NULL:
        raise_released()
    cdef Node written = <Node>node.saved[0]
    if differentiable:
        part = slice_apply(s, SLICE_GATHER, grad)
    else:
        if owned and s.laid_out(grad):
            whole = grad
        else:
            whole = s.copy_base(grad)
        place = s.part(whole)
        part = clone(place)  # the written operator may pass it on, and `place` changes below
    grad = None
    arrived = <PyObject*>part
    written.fn(written, &arrived, out)
    if not edge_wanted(node, edge):
        return 0
    # A gradient that did not arrive is zero: the operator overwrote the view.
    part = None if out[edge] is NULL else <Tensor>out[edge]
    drop(&out[edge])
    if differentiable:
        result = slice_apply(s, SLICE_CLEAR, <Tensor>grads[0])
        if part is not None:
            result = add(result, slice_apply(s, SLICE_SCATTER, part))
    else:
        result = whole
        if part is None:
            zero_(place)
        else:
            copy_(place, part)
    incref(<PyObject*>result)
    out[edge] = <PyObject*>result
    return 0


cdef Tensor unpack_output(Node node, Tensor saved):
    cdef Tensor t = tensor_alias(saved)
    cdef Node wrapper, link
    if not node.heap & NODE_WRAPPED:
        attach(t, node, saved.output_nr)
        return t
    # The output is a view that was written in place: its history is a slice of the base's.
    if node.grads[0] is NULL:
        raise_released()
    wrapper = <Node>node.grads[0]
    link = node_new(slice_backward, b"AsStridedBackward0", 1, 1, 1)
    incref(<PyObject*>wrapper)
    link.edges[0].target = <PyObject*>wrapper
    link.edges[0].leaf = 0
    link.edges[0].input_nr = 0
    node_save_object(link, 0, <object>wrapper.saved[1])
    link.words[0].i = SLICE_SCATTER
    set_history(t, link, 0)
    return t
