# History of tensors: who made them, whose views they are, and what a write in place does to that.
# Part of node.pyx.
#
# Note [Views]: a view made outside inference_mode keeps its base, which is never itself a view, and
# the storage version at which its grad_fn was formed. A write in place through one view changes the
# base and every other view; it only gives the base a new grad_fn (a copy-slices node) and bumps the
# version. The other views notice the version when they are asked for their grad_fn, and then form a
# new one: a slice of the base's. So a write costs the same however many views there are.

cdef bint needs_grad(Tensor t) noexcept:
    return t.flags & F_REQUIRES_GRAD != 0 or (
        t.base is not NULL and (<Tensor>t.base).flags & F_REQUIRES_GRAD != 0
    )


cdef int set_history(Tensor t, Node node, int output_nr) except -1:
    node_set_meta(node, output_nr, t)
    attach(t, node, output_nr)
    return 0


cdef void attach(Tensor t, Node node, int output_nr) noexcept:
    cdef PyObject* old = t.grad_fn
    incref(<PyObject*>node)
    t.grad_fn = <PyObject*>node
    t.output_nr = <uint16_t>output_nr
    t.flags |= F_REQUIRES_GRAD
    t.keyset |= KEYS_AUTOGRAD
    if t.base is not NULL:
        t.view_version = t.storage.version
    if old is not NULL:
        decref(old)


cdef int replace_history(Tensor t, Node node, int output_nr) except -1:
    """Gives `t`, which may have a history, a new one. Hooks stay with the old grad_fn; retain_grad
    moves, because it is about the tensor."""
    cdef NodeHooks h
    cdef PyObject* old = t.grad_fn
    if t.flags & F_RETAINS_GRAD and old is not NULL and (<Node>old).hooks is not NULL:
        h = <NodeHooks>(<Node>old).hooks
        reference = None if h.retained is None else h.retained.pop(<int>t.output_nr, None)
        if reference is not None:
            h = node_hooks(node)
            if h.retained is None:
                h.retained = {}
            h.retained[output_nr] = reference
    return set_history(t, node, output_nr)


cdef int set_view(Tensor view, Tensor source) except -1:
    cdef PyObject* base
    cdef uint16_t how = 0
    if source.flags & F_INFERENCE:
        return 0
    if vt_tls.inference:
        how = F_VIEW_NO_GRAD | F_VIEW_FUNCTION  # this pair means: made in inference mode
    elif not vt_grad_enabled():
        how = F_VIEW_NO_GRAD
    base = source.base if source.base is not NULL else <PyObject*>source
    incref(base)
    view.base = base
    view.view_version = view.storage.version
    view.keyset |= KEYS_AUTOGRAD
    view.flags |= how if how else source.flags & F_VIEW_FLAGS
    return 0


cdef PyObject* gradient_fn(Tensor t) except? NULL:
    cdef Node node
    cdef Tensor base
    if t.base is NULL or t.view_version == t.storage.version:
        return t.grad_fn
    if t.grad_fn is NULL and not (<Tensor>t.base).flags & F_REQUIRES_GRAD:
        return NULL
    if t.flags & F_VIEW_FLAGS:
        refuse_view(t, "its base or another view of its base has been")
    base = <Tensor>t.base
    node = slice_node(SLICE_SCATTER, b"AsStridedBackward0", base, SliceGeometry.of(t))
    # An edge never leads to a node with a higher number, and the node that is being made for a use
    # of this view has its number already.
    node.seq = 0 if base.grad_fn is NULL else (<Node>base.grad_fn).seq
    replace_history(t, node, 0)
    return t.grad_fn


cdef int refuse_view(Tensor t, str modified) except -1:
    """Raises what PyTorch says of a view whose way of making forbids writes in place."""
    cdef int how = t.flags & F_VIEW_FLAGS
    made_by = ""
    if t.grad_fn is not NULL:
        made_by = f"Output {t.output_nr} of {operator_name(<Node>t.grad_fn)} is a view"
    inference = how == F_VIEW_NO_GRAD | F_VIEW_FUNCTION
    if how & F_VIEW_NO_GRAD or not made_by:
        mode = "inference" if inference else "no_grad"
        start = f"{made_by} of a view which was created in" if made_by else "A view was created in"
        where = "in normal mode" if inference else "with grad mode enabled"
        text = f"{start} {mode} mode and {modified} modified inplace {where}."
    else:
        text = f"{made_by} and {modified} modified inplace."
    if how & F_VIEW_NO_GRAD:
        block = "inference_mode" if inference else "no_grad"
        text += (
            " Given that this use case is ambiguous and error-prone, it is forbidden. You can "
            "clarify "
            f"your code by moving both the view and the inplace either both inside the {block} "
            "block "
            "(if you don't want the inplace to be tracked) or both outside (if you want the "
            "inplace "
            "to be tracked)."
        )
    elif how & F_VIEW_MULTI:
        text += (
            " This view is the output of a function that returns multiple views. Such functions do "
            "not allow the output views to be modified inplace. You should replace the inplace "
            "operation by an out-of-place one."
        )
    else:
        text += (
            " This view was created inside a custom Function (or because an input was returned "
            "as-is) "
            "and the autograd logic to handle view+inplace would override the custom backward "
            "associated with the custom Function, leading to incorrect gradients. This behavior is "
            "forbidden. You can fix this by cloning the output of the custom Function."
        )
    raise RuntimeError(text)


cdef str operator_name(Node node):
    """'Mul' for MulBackward0: PyTorch's texts about views name the operator."""
    return node.name.decode().split("Backward")[0]


cdef int check_inplace(Tensor t, const char* op) except -1:
    if t.flags & F_INFERENCE and not vt_tls.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. You can make "
            "a "
            "clone to get a normal tensor before doing inplace update."
        )
    if t.base is not NULL:
        if t.flags & F_VIEW_FLAGS:
            refuse_view(t, "is being")
        if needs_grad(t) and is_leaf(<Tensor>t.base):
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an in-place "
                "operation."
            )
    if needs_grad(t) and is_leaf(t):
        raise RuntimeError(
            "a leaf Variable that requires grad is being used in an in-place operation."
        )
    return 0


cdef inline bint is_leaf(Tensor t) except -1:
    return gradient_fn(t) is NULL


cdef int rebase_history(Tensor t, Node node, int output_nr) except -1:
    if t.base is NULL:
        return replace_history(t, node, output_nr)
    return rebase_edge(t, node, output_nr, 0)


cdef int rebase_edge(Tensor t, Node node, int output_nr, int edge) except -1:
    cdef Tensor base
    if t.base is NULL:
        return replace_history(t, node, output_nr)
    if node.noutputs != 1:
        raise RuntimeError("Functions which modify views in-place must return a single Variable")
    node_set_meta(node, 0, t)
    base = <Tensor>t.base
    replace_history(base, copy_slices_node(base, t, node, edge), 0)
    # Whether the version was bumped already or not, no later version equals this one.
    t.view_version = t.storage.version - 1
    return 0
