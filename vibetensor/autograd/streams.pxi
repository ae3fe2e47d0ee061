# Backward on streams. Part of engine.pyx.
#
# Note [Streams of a backward]: a node of a device runs on the stream that its forward ran on, which is
# the thread's current one meanwhile. So the current stream of a gradient's device is always the one that
# made the gradient. Where a gradient goes to a node of another stream, that stream is made to wait for
# this one (by an event, never the host), the allocator learns that it uses the memory, and sums are
# formed there. What leaves the backward (gradients of leaves, gradients asked for) is handed to the
# caller's stream in the same way. Graphs of the host come here never.

cdef inline void* current_stream(int device) noexcept:
    return vt_backends[VT_CUDA].current_stream(device)


cdef int pass_on(PyObject* g, int device, void* consumer) except -1:
    """`consumer`, a stream of `device`, is about to use `g`, which its own current stream made."""
    cdef int made_on = (<Tensor>g).device_index
    cdef void* producer
    if (<Tensor>g).device_type != VT_CUDA:
        return 0
    producer = current_stream(made_on)
    if producer is consumer and made_on == device:
        return 0
    if vt_backends[VT_CUDA].order_streams(device, consumer, made_on, producer) != VT_OK:
        raise RuntimeError(vt_backends[VT_CUDA].last_error().decode())
    vt_backends[VT_CUDA].record_stream((<Tensor>g).storage, consumer)
    return 0


cdef int add_gradient(Node target, PyObject** slot, PyObject* g, int input_nr, PyObject* source,
                      int index) except -1:
    if not conforms(g, &target.metas[input_nr]):
        g = conform(g, &target.metas[input_nr], source, index)
    return sum_into(slot, g)


cdef int receive(Node target, PyObject** slot, PyObject* g, int input_nr, PyObject* source,
                 int index) except -1:
    """Adds `g` (the caller's reference) to a gradient buffer of a node of a device, on its stream."""
    cdef int device = target.device
    cdef void* before = current_stream(device)
    if before is target.stream:
        return add_gradient(target, slot, g, input_nr, source, index)
    pass_on(g, device, target.stream)
    vt_backends[VT_CUDA].exchange_stream(device, target.stream)
    try:
        add_gradient(target, slot, g, input_nr, source, index)
    finally:
        vt_backends[VT_CUDA].exchange_stream(device, before)
    return 0


cdef inline bint apart_from_caller(GraphTask task, PyObject* g) noexcept:
    """Whether `g` was made on another stream than the caller's."""
    return (
        g is not NULL and task.device >= 0 and (<Tensor>g).device_type == VT_CUDA
        and (<Tensor>g).device_index == task.device
        and current_stream(task.device) is not task.caller
    )


cdef int send_leaf_to_caller(GraphTask task, PyObject* source, int index, Tensor leaf,
                             PyObject* g) except -1:
    """`send_leaf` on the stream of the caller, who will read the leaf's gradient there."""
    cdef int device = task.device
    cdef void* here = current_stream(device)
    pass_on(g, device, task.caller)
    vt_backends[VT_CUDA].exchange_stream(device, task.caller)
    try:
        send_leaf(task, source, index, leaf, g)
    finally:
        vt_backends[VT_CUDA].exchange_stream(device, here)
    return 0


cdef int run_on_stream(GraphTask task, PyObject* node) except -1:
    """`run_node` for a node of a device."""
    cdef int device = (<Node>node).device, outer_device = task.device
    cdef void* outer = task.caller
    cdef void* before = current_stream(device)
    cdef void* stream = (<Node>node).stream
    cdef bint hooked = (<Node>node).hooks is not NULL
    if before is stream:
        return run_node(task, node)
    task.device = device
    task.caller = before
    vt_backends[VT_CUDA].exchange_stream(device, stream)
    try:
        run_node(task, node)
        if hooked:  # what they were shown, or kept, the caller may look at
            vt_backends[VT_CUDA].order_streams(device, before, device, stream)
    finally:
        vt_backends[VT_CUDA].exchange_stream(device, before)
        task.device = outer_device
        task.caller = outer
    return 0
