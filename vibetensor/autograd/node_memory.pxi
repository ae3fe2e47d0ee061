# How nodes are allocated, freed and shown to the cycle collector. Part of node.pyx.
#
# A dead node in the free list has all pointers NULL and its arrays pointing at their inline room,
# so that taking one out sets a dozen words. The link of both lists below is the field `seq`.

cdef PyObject* free_nodes = NULL
cdef int free_count = 0
cdef PyObject* pending = NULL   # nodes whose last reference went while another was being freed
cdef bint releasing = False
cdef uint64_t next_seq = 1


cdef inline void drop(PyObject** field) noexcept:
    cdef PyObject* p = field[0]
    if p is not NULL:
        field[0] = NULL
        decref(p)


cdef void drop_contents(PyObject* o) noexcept:
    """Gives up everything that `o` owns but its memory. Borrowed access only: it may be dead."""
    cdef int i
    if (<Node>o).fn == copy_slices_backward and (<Node>o).saved[0] is not NULL:
        (<Node>(<Node>o).saved[0]).grads[0] = NULL
    for i in range((<Node>o).nedges):
        drop(&(<Node>o).edges[i].target)
    for i in range((<Node>o).nsaved):
        drop(&(<Node>o).saved[i])
    if (<Node>o).heap & NODE_WRAPPED:
        (<Node>o).grads[0] = NULL
    for i in range((<Node>o).noutputs):
        drop(&(<Node>o).grads[i])
    drop(&(<Node>o).hooks)


cdef void free_heap(PyObject* o) noexcept:
    """Gives back the arrays on the heap; the node points at its inline room again."""
    cdef int i
    if (<Node>o).heap & NODE_HEAP_EDGES:
        free((<Node>o).edges)
        (<Node>o).edges = (<Node>o).inline_edges
    if (<Node>o).heap & NODE_HEAP_SAVED:
        free((<Node>o).saved)
        free((<Node>o).saved_version)
        (<Node>o).saved = (<Node>o).inline_saved
        (<Node>o).saved_version = (<Node>o).inline_version
    if (<Node>o).heap & NODE_HEAP_SIZES:
        free((<Node>o).metas[0].sizes)
    if (<Node>o).heap & NODE_HEAP_OUTPUTS:
        for i in range(1, (<Node>o).noutputs):
            free((<Node>o).metas[i].sizes)
        free((<Node>o).metas)
        free((<Node>o).grads)
        (<Node>o).metas = (<Node>o).inline_meta
        (<Node>o).grads = (<Node>o).inline_grads
    (<Node>o).heap = 0


cdef void finish(PyObject* o) noexcept:
    """Frees one dead node."""
    global free_nodes, free_count
    cdef PyTypeObject* type
    drop_contents(o)
    if (<Node>o).heap:
        free_heap(o)
    type = Py_TYPE(o)
    if type is not <PyTypeObject*>Node:
        type.tp_free(o)
        decref(<PyObject*>type)  # taken in dealloc
    elif free_count < FREE_LIST:
        (<Node>o).seq = <uint64_t>free_nodes
        free_nodes = o
        free_count += 1
    else:
        type.tp_free(o)


cdef void dealloc(PyObject* o) noexcept:
    """Frees a node and, without recursion, all that only it kept alive: a chain of a million nodes
    is freed in a loop."""
    global pending, releasing
    if PyObject_GC_IsTracked(o):
        PyObject_GC_UnTrack(o)
    if Py_TYPE(o) is not <PyTypeObject*>Node:
        incref(<PyObject*>Py_TYPE(o))  # a Python type may die before the node is finished
    if releasing:
        # `fn` and the rest of the contents are still needed; `seq` is not.
        (<Node>o).seq = <uint64_t>pending
        pending = o
        return
    releasing = True
    finish(o)
    while pending is not NULL:
        o = pending
        pending = <PyObject*>(<Node>o).seq
        finish(o)
    releasing = False


cdef int traverse(PyObject* o, visitproc visit, void* arg) noexcept:
    cdef int i, e
    if (<Node>o).edges is NULL:
        return 0  # half made
    for i in range((<Node>o).nedges):
        e = vt_visit((<Node>o).edges[i].target, visit, arg)
        if e:
            return e
    for i in range((<Node>o).nsaved):
        e = vt_visit((<Node>o).saved[i], visit, arg)
        if e:
            return e
    if not (<Node>o).heap & NODE_WRAPPED:
        for i in range((<Node>o).noutputs):
            e = vt_visit((<Node>o).grads[i], visit, arg)
            if e:
                return e
    return vt_visit((<Node>o).hooks, visit, arg)


cdef int clear(PyObject* o) noexcept:
    drop_contents(o)
    return 0
