# Before a backward runs: which nodes take part, and how many gradients each waits for.
# Part of engine.pyx.

cdef NodeState find_state(GraphTask task, PyObject* node):
    return None if task.side is None else task.side.get(<size_t>node)


cdef int32_t* find_word(GraphTask task, PyObject* node) noexcept:
    """The node's dependency word in this task; NULL if the task has not met the node."""
    cdef NodeState state
    if (<Node>node).task == task.id:
        return &(<Node>node).dependencies
    if task.side is None:
        return NULL
    state = find_state(task, node)
    return NULL if state is None else &state.dependencies


cdef int32_t* claim(GraphTask task, PyObject* node) except NULL:
    """The node's dependency word in this task, zero at first sight."""
    cdef NodeState state
    cdef int32_t* word = find_word(task, node)
    if word is not NULL:
        return word
    if (<Node>node).task == 0 or not is_live((<Node>node).task):
        (<Node>node).task = task.id
        (<Node>node).dependencies = 0
        return &(<Node>node).dependencies
    state = NodeState.__new__(NodeState)
    state.noutputs = (<Node>node).noutputs
    state.grads = <PyObject**>grow(NULL, state.noutputs + 1, sizeof(PyObject*))
    memset(state.grads, 0, state.noutputs * sizeof(PyObject*))
    if task.side is None:
        task.side = {}
    task.side[<size_t>node] = state
    return &state.dependencies


cdef LeafState count_leaf(GraphTask task, Tensor leaf):
    """The entry of a leaf whose arrivals are counted; None for any other."""
    cdef LeafState state = None
    if task.leaves is not None:
        state = task.leaves.get(<size_t><PyObject*>leaf)
    if state is None and not task.selective and (
        leaf.hooks is not NULL or leaf.accumulate is not NULL
    ):
        state = LeafState.__new__(LeafState)
        state.leaf = leaf
        state.accumulates = True
        if task.leaves is None:
            task.leaves = {}
        task.leaves[<size_t><PyObject*>leaf] = state
    return state


cdef inline bint is_counted(GraphTask task, PyObject* leaf) noexcept:
    return (
        task.leaves is not None or task.selective
        or (<Tensor>leaf).hooks is not NULL or (<Tensor>leaf).accumulate is not NULL
    )


cdef Py_ssize_t visit(GraphTask task, vt_edge* e, Py_ssize_t n) except -1:
    """Counts one edge; a node seen for the first time goes on the stack at `n`. Returns the new "
    "n."""
    cdef int32_t* word
    cdef LeafState state
    if e.target is NULL:
        return n
    if e.leaf:
        if is_counted(task, e.target):
            state = count_leaf(task, <Tensor>e.target)
            if state is not None:
                state.dependencies += 1
        return n
    if task.selective:
        word = find_word(task, e.target)
        if word is NULL or not word[0] & (RUNS | CAPTURED):
            return n
    else:
        word = claim(task, e.target)
    word[0] += 1
    if word[0] & COUNT == 1 and (not task.selective or word[0] & RUNS):
        task.stack[n] = e.target
        n += 1
    return n


cdef int count_dependencies(GraphTask task) except -1:
    cdef uint64_t id = task.id
    cdef bint selective = task.selective
    cdef PyObject* target
    cdef vt_edge* edges
    cdef Py_ssize_t n = 0
    cdef int i, count
    reserve_stack(task, task.num_roots)
    for i in range(task.num_roots):
        n = visit(task, &task.roots[i], n)
    while n > 0:
        n -= 1
        edges = (<Node>task.stack[n]).edges
        count = (<Node>task.stack[n]).nedges
        reserve_stack(task, n + count)
        for i in range(count):
            target = edges[i].target
            if target is NULL:
                continue
            if likely(not edges[i].leaf and not selective, 1):  # `visit`, in the ordinary cases
                if (<Node>target).task == id:
                    (<Node>target).dependencies += 1
                    continue
                if likely((<Node>target).task == 0 and task.side is None, 1):
                    (<Node>target).task = id
                    (<Node>target).dependencies = 1
                    task.stack[n] = target
                    n += 1
                    continue
            n = visit(task, &edges[i], n)
    return 0


cdef int mark_from(GraphTask task, PyObject* root) except -1:
    """Marks with RUNS what lies between `root` and the wanted gradients. Depth first, without
    recursion; a node is finished after all that it leads to."""
    cdef Frame* frames = NULL
    cdef Py_ssize_t depth = 0, capacity = 0
    cdef PyObject* node = root
    cdef vt_edge* e
    cdef int32_t* word = claim(task, root)
    cdef int32_t* below
    if word[0] & SEEN:
        return 0
    try:
        while True:
            if node is not NULL:  # enter it
                if depth == capacity:
                    capacity = 2 * capacity + 64
                    frames = <Frame*>grow(frames, capacity, sizeof(Frame))
                claim(task, node)[0] |= SEEN
                frames[depth].node = node
                frames[depth].edge = 0
                depth += 1
                node = NULL
            word = claim(task, frames[depth - 1].node)
            if frames[depth - 1].edge == (<Node>frames[depth - 1].node).nedges:
                depth -= 1
                if depth == 0:
                    return 0
                if word[0] & (RUNS | CAPTURED):
                    claim(task, frames[depth - 1].node)[0] |= RUNS
                continue
            e = &(<Node>frames[depth - 1].node).edges[frames[depth - 1].edge]
            frames[depth - 1].edge += 1
            if e.target is NULL:
                continue
            if e.leaf:
                if <size_t>e.target in task.leaves:
                    word[0] |= RUNS
                continue
            if (<Node>e.target).seq < task.oldest:
                continue
            below = claim(task, e.target)
            if not below[0] & SEEN:
                node = e.target
            elif below[0] & (RUNS | CAPTURED):
                word[0] |= RUNS
    finally:
        free(frames)


cdef int want_inputs(GraphTask task, tuple inputs, bint accumulate) except -1:
    """Notes which gradients are wanted, and marks the part of the graph that must run."""
    cdef Tensor t
    cdef LeafState state
    cdef PyObject* node
    cdef Py_ssize_t i
    task.selective = True
    task.leaves = {}
    task.captures = {}
    task.results = [None] * len(inputs)
    task.oldest = <uint64_t>-1
    for i in range(len(inputs)):
        t = <Tensor>inputs[i]
        node = gradient_fn(t)
        if node is NULL:
            state = task.leaves.get(<size_t><PyObject*>t)
            if state is None:
                state = LeafState.__new__(LeafState)
                state.leaf = t
                state.accumulates = accumulate
                state.wanted = []
                task.leaves[<size_t><PyObject*>t] = state
            state.wanted.append(i)
            task.oldest = 0
        else:
            task.oldest = min(task.oldest, (<Node>node).seq)
            claim(task, node)[0] |= CAPTURED
            task.captures.setdefault(<size_t>node, []).append((t.output_nr, i))
    for i in range(task.num_roots):
        if not task.roots[i].leaf:
            mark_from(task, task.roots[i].target)
    return 0
