# Gradients of fused operators under create_graph: those of the reference. Part of engine.pyx.

cdef int identity_backward(Node node, PyObject** grads, PyObject** out) except -1:
    if node.edges[0].target is not NULL:
        incref(grads[0])
        out[0] = grads[0]
    return 0


cdef Tensor identity(Tensor t):
    """The same values as another step of the graph, so that a derivative can stop there."""
    cdef Tensor out = tensor_alias(t)
    cdef Node node = node_new(identity_backward, b"IdentityBackward0", 1, 0, 1)
    node_edge(node, 0, t)
    set_history(out, node, 0)
    return out


cdef int reference_backward(Node node, object reference, tuple inputs, tuple positions,
                            PyObject** grads, PyObject** out) except -1:
    cdef uint32_t excluded = vt_tls.excluded
    cdef list arguments = list(inputs), wanted = [], edges = [], roots = [], gradients = []
    cdef Tensor t
    cdef int j, k
    vt_tls.excluded &= ~<uint32_t>KEYS_AUTOGRAD
    try:
        for j in range(node.nedges):
            if not edge_wanted(node, j):
                continue
            k = positions[j]
            t = identity(<Tensor>inputs[k])
            arguments[k] = t
            wanted.append(t)
            edges.append(j)
        results = reference(*arguments)
        if not isinstance(results, tuple):
            results = (results,)
        for j in range(node.noutputs):
            if grads[j] is not NULL and needs_grad(<Tensor>results[j]):
                roots.append(results[j])
                gradients.append(<object>grads[j])
        derivatives = run_backward(tuple(roots), tuple(gradients), True, True, tuple(wanted), False)
        for j, derivative in zip(edges, derivatives):
            if derivative is not None:
                incref(<PyObject*>derivative)
                out[j] = <PyObject*>derivative
    finally:
        vt_tls.excluded = excluded
    return 0
