"""The backward pass.

Note [Graph tasks]: each backward is a task of its own, run by the thread that called it. A node
keeps what a task needs of it in itself: how many gradients are still to come, and their sums. The
task that meets a node first writes its number there and so claims it; when the node has run, the
claim ends. The GIL makes this safe, but a backward gives the GIL away inside operators and hooks,
so other tasks (other threads, or a backward inside a hook) may meet a claimed node. They then keep
their own counts and sums in a side table. In the ordinary case there is no side table and nothing
is allocated.

Note [Leaves]: a leaf has no node; its gradient is accumulated as it arrives. Only where something
must happen once per backward (hooks, or the gradient being asked for by `inputs=`) are its arrivals
counted, in a table.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from vibetensor.autograd.basics cimport *
from vibetensor.autograd.gradients cimport accumulate_leaf, conform, conforms, sum_into
from vibetensor.autograd.hooks cimport (
    gradient_tuple, run_accumulated_hooks, run_gradient_hooks, run_post_hooks, run_pre_hooks,
    run_tensor_hooks,
)
from vibetensor.autograd.node cimport *
from vibetensor.autograd.ready_queue cimport ReadyQueue, queue_pop, queue_push
from vibetensor.core.tensor cimport *

cdef extern from "Python.h":
    void incref "Py_INCREF"(PyObject*) noexcept
    void decref "Py_DECREF"(PyObject*) noexcept
    bint likely "__builtin_expect"(bint, long) noexcept
    bint unlikely "!!__builtin_expect"(bint, long) noexcept

# Node.dependencies: how many gradients are still to come, and under `inputs=` these bits.
cdef enum:
    RUNS = 1 << 30       # some wanted gradient lies behind the node
    CAPTURED = 1 << 29   # the gradient of one of its outputs is wanted
    SEEN = 1 << 28
    COUNT = (1 << 28) - 1


cdef class NodeState:
    """The side-table entry of a node that another live task has claimed."""

    cdef int32_t dependencies
    cdef int noutputs
    cdef PyObject** grads

    def __dealloc__(self):
        if self.grads is not NULL:
            drop_all(self.grads, self.noutputs)
            free(self.grads)


cdef class LeafState:
    """A leaf whose arrivals are counted (Note [Leaves])."""

    cdef Tensor leaf
    cdef int32_t dependencies
    cdef PyObject* grad     # owned sum or NULL
    cdef bint accumulates
    cdef list wanted        # places in the result

    def __dealloc__(self):
        drop_all(&self.grad, 1)


cdef struct Frame:
    PyObject* node
    int edge


cdef class GraphTask:
    """One backward pass. Objects are reused, with their arrays."""

    cdef uint64_t id
    cdef PyObject* next         # the task that was live when this one began
    cdef ReadyQueue queue
    cdef PyObject** stack
    cdef Py_ssize_t stack_capacity
    cdef PyObject** out         # what the running node returns
    cdef Py_ssize_t out_capacity
    cdef vt_edge* roots         # owned
    cdef Py_ssize_t num_roots, roots_capacity
    cdef bint retain
    cdef bint selective         # `inputs=` was given: only part of the graph runs
    cdef uint64_t oldest        # under `inputs=`: no older node leads to a wanted gradient
    cdef dict side              # {address of node: NodeState} or None
    cdef dict leaves            # {address of leaf: LeafState} or None
    cdef dict captures          # {address of node: [(output number, place in the result)]} or None
    cdef list results
    cdef int device             # of the running node where it runs on a stream of its own, else -1
    cdef void* caller           # that device's current stream when the backward was called

    def __dealloc__(self):
        free(self.queue.entries)
        free(self.stack)
        free(self.out)
        free(self.roots)


cdef uint64_t next_task = 1
cdef PyObject* live = NULL      # the tasks under way, linked by `next`
cdef list idle = []


cdef inline void drop_all(PyObject** p, int n) noexcept:
    cdef PyObject* o
    cdef int i
    for i in range(n):
        o = p[i]
        if o is not NULL:
            p[i] = NULL
            decref(o)


cdef bint is_live(uint64_t task) noexcept:
    cdef PyObject* p = live
    while p is not NULL:
        if (<GraphTask>p).id == task:
            return True
        p = (<GraphTask>p).next
    return False


cdef GraphTask begin_task(Py_ssize_t num_roots):
    global next_task, live
    cdef GraphTask task = idle.pop() if idle else GraphTask.__new__(GraphTask)
    if task.roots_capacity < num_roots:
        task.roots = <vt_edge*>grow(task.roots, num_roots, sizeof(vt_edge))
        task.roots_capacity = num_roots
    task.num_roots = 0
    task.selective = False
    task.device = -1
    task.queue.size = 0
    task.id = next_task
    next_task += 1
    task.next = live
    live = <PyObject*>task
    return task


cdef void end_task(GraphTask task) noexcept:
    global live
    cdef PyObject** link = &live
    cdef PyObject* root
    cdef Py_ssize_t i
    while link[0] is not <PyObject*>task:
        link = &(<GraphTask>link[0]).next
    link[0] = task.next
    task.side = task.leaves = task.captures = None
    task.results = None
    for i in range(task.num_roots):
        root = task.roots[i].target
        task.roots[i].target = NULL
        decref(root)
    task.num_roots = 0
    if len(idle) < 16:
        idle.append(task)


cdef void* grow(void* p, Py_ssize_t n, size_t size) except NULL:
    p = realloc(p, n * size)
    if p is NULL:
        raise MemoryError()
    return p


cdef inline int reserve_stack(GraphTask task, Py_ssize_t n) except -1:
    if unlikely(n > task.stack_capacity, 0):
        task.stack = <PyObject**>grow(task.stack, 2 * n + 64, sizeof(PyObject*))
        task.stack_capacity = 2 * n + 64
    return 0


include "plan.pxi"
include "streams.pxi"


# --- sending gradients ----------------------------------------------------------------------------

cdef int send_leaf(GraphTask task, PyObject* source, int index, Tensor leaf, PyObject* g) except -1:
    cdef vt_meta meta
    cdef LeafState state = None
    if is_counted(task, <PyObject*>leaf):
        if task.leaves is not None:
            state = task.leaves.get(<size_t><PyObject*>leaf)
        if state is None and task.selective:
            drop_all(&g, 1)
            return 0
    if g is not NULL:
        meta.dtype = leaf.dtype
        meta.device_type = leaf.device_type
        meta.device_index = leaf.device_index
        meta.ndim = leaf.ndim
        meta.sizes = leaf.sizes
        if unlikely(not conforms(g, &meta), 0):
            g = conform(g, &meta, source, index)
        if state is None:
            return accumulate_leaf(leaf, g)
        sum_into(&state.grad, g)
    if state is not None:
        state.dependencies -= 1
        if state.dependencies == 0:
            finish_leaf(task, state)
    return 0


cdef int finish_leaf(GraphTask task, LeafState state) except -1:
    """All gradients of a counted leaf have arrived."""
    cdef Tensor leaf = state.leaf
    cdef NodeHooks h = None if leaf.accumulate is NULL else <NodeHooks>leaf.accumulate
    cdef PyObject* g
    if state.grad is NULL:
        return 0
    grad = <object>state.grad
    drop_all(&state.grad, 1)
    if leaf.hooks is not NULL:
        grad = run_gradient_hooks(<object>leaf.hooks, grad)
    if state.wanted is not None:
        for place in state.wanted:
            task.results[place] = grad
    if not state.accumulates:
        return 0
    grad_outputs = (grad,)
    g = <PyObject*>grad
    incref(g)
    if h is not None and h.pre is not None:
        grad = None
        run_pre_hooks(h.pre, &g, 1)
        grad_outputs = gradient_tuple(&g, 1)
    grad = None
    if h is None or h.post is None:
        grad_outputs = None  # so that the gradient can be stolen
    if g is not NULL:
        accumulate_leaf(leaf, g)
    if h is not None:
        if h.accumulated is not None:
            run_accumulated_hooks(h.accumulated, leaf)
        if h.post is not None:
            run_post_hooks(h.post, NULL, 0, grad_outputs)
    return 0


cdef int send(GraphTask task, PyObject* source, int index, vt_edge* e, PyObject* g) except -1:
    """Hands on the gradient `g` (the caller's reference; NULL for an undefined one) along an "
    "edge."""
    cdef PyObject* target = e.target
    cdef PyObject** slot
    cdef int32_t* word
    if e.leaf:
        if unlikely(task.device >= 0 and apart_from_caller(task, g), 0):
            return send_leaf_to_caller(task, source, index, <Tensor>target, g)
        return send_leaf(task, source, index, <Tensor>target, g)
    if likely((<Node>target).task == task.id, 1):
        word = &(<Node>target).dependencies
        slot = &(<Node>target).grads[e.input_nr]
    else:
        word = find_word(task, target)
        slot = NULL if word is NULL else &find_state(task, target).grads[e.input_nr]
    if task.selective and (word is NULL or not word[0] & (RUNS | CAPTURED)):
        drop_all(&g, 1)
        return 0
    if unlikely(g is not NULL and (<Node>target).device >= 0, 0):
        receive(<Node>target, slot, g, e.input_nr, source, index)
    elif g is not NULL:
        if unlikely(not conforms(g, &(<Node>target).metas[e.input_nr]), 0):
            g = conform(g, &(<Node>target).metas[e.input_nr], source, index)
        if likely(slot[0] is NULL, 1):
            slot[0] = g
        else:
            sum_into(slot, g)
    word[0] -= 1
    if word[0] & COUNT == 0:
        queue_push(&task.queue, (<Node>target).seq, target)
    return 0


# --- running --------------------------------------------------------------------------------------

cdef bint any_defined(PyObject** p, int n) noexcept:
    cdef int i
    for i in range(n):
        if p[i] is not NULL:
            return True
    return False


cdef int capture(GraphTask task, PyObject* node, PyObject** grads) except -1:
    for number, place in task.captures[<size_t>node]:
        if grads[<int>number] is not NULL:
            if apart_from_caller(task, grads[<int>number]):
                pass_on(grads[<int>number], task.device, task.caller)
            task.results[place] = <object>grads[<int>number]
    return 0


cdef uint64_t unneeded_edges(GraphTask task, Node node) except? 0xFFFFFFFFFFFFFFFF:
    """The edges, as bits, that lead to nothing that was asked for."""
    cdef uint64_t mask = 0
    cdef int32_t* word
    cdef vt_edge* e
    cdef int i
    for i in range(min(node.nedges, 64)):
        e = &node.edges[i]
        if e.target is NULL:
            continue
        if e.leaf:
            if <size_t>e.target not in task.leaves:
                mask |= <uint64_t>1 << i
            continue
        word = find_word(task, e.target)
        if word is NULL or not word[0] & (RUNS | CAPTURED):
            mask |= <uint64_t>1 << i
    return mask


cdef int call_node(GraphTask task, PyObject* p, PyObject** grads, int32_t word) except -1:
    """Hooks and the backward function of one node; leaves what it returns in task.out."""
    cdef Node node = <Node>p
    cdef NodeHooks h = None
    cdef tuple grad_outputs = None
    if unlikely(node.hooks is not NULL, 0):
        h = <NodeHooks>node.hooks
    if task.selective:
        # As in PyTorch, a gradient on its way through is captured before the tensor's hooks see it.
        if word & CAPTURED and word & RUNS:
            capture(task, p, grads)
        if h is not None:
            run_tensor_hooks(node, grads)
        if word & CAPTURED and not word & RUNS:
            capture(task, p, grads)
        if not word & RUNS:
            return 0
    elif h is not None:
        run_tensor_hooks(node, grads)
    if h is not None and h.pre is not None:
        run_pre_hooks(h.pre, grads, node.noutputs)
    if h is not None and h.post is not None:
        grad_outputs = gradient_tuple(grads, node.noutputs)
    if any_defined(grads, node.noutputs) or node.heap & NODE_RUNS_UNDEFINED:
        if not task.selective:
            node.fn(node, grads, task.out)
        else:
            vt_tls.unneeded = unneeded_edges(task, node)
            try:
                node.fn(node, grads, task.out)
            finally:
                vt_tls.unneeded = 0
    if grad_outputs is not None:
        run_post_hooks(h.post, task.out, node.nedges, grad_outputs)
    return 0


cdef int run_node(GraphTask task, PyObject* node) except -1:
    cdef PyObject** grads
    cdef PyObject* g
    cdef int32_t word
    cdef int i, n = (<Node>node).nedges
    cdef NodeState state = None
    if likely((<Node>node).task == task.id, 1):
        grads = (<Node>node).grads
        word = (<Node>node).dependencies
    else:
        state = find_state(task, node)
        grads = state.grads
        word = state.dependencies
    if unlikely(n > task.out_capacity, 0):
        task.out = <PyObject**>grow(task.out, n + 16, sizeof(PyObject*))
        memset(task.out + task.out_capacity, 0, (n + 16 - task.out_capacity) * sizeof(PyObject*))
        task.out_capacity = n + 16
    # No clean-up here after an error: `abandon` finds all that this function may leave behind.
    if likely((<Node>node).hooks is NULL and not task.selective, 1) and (
        any_defined(grads, (<Node>node).noutputs) or (<Node>node).heap & NODE_RUNS_UNDEFINED
    ):
        (<Node>node).fn(<Node>node, grads, task.out)
    else:
        call_node(task, node, grads, word)
    drop_all(grads, (<Node>node).noutputs)
    if state is None:
        (<Node>node).task = 0
    if task.selective and not word & RUNS:
        return 0
    if not task.retain:
        node_release(node)
    for i in range(n):
        g = task.out[i]
        task.out[i] = NULL
        if (<Node>node).edges[i].target is not NULL:
            send(task, node, i, &(<Node>node).edges[i], g)
        elif g is not NULL:
            decref(g)
    return 0


cdef int abandon(GraphTask task) except -1:
    """After an error: gives up the claims on nodes that did not run to their end, and all gradients
    on their way."""
    cdef set seen = set()
    cdef list stack = []
    cdef Node node
    cdef Py_ssize_t i
    drop_all(task.out, <int>task.out_capacity)
    for i in range(task.num_roots):
        if not task.roots[i].leaf:
            stack.append(<Node>task.roots[i].target)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.task == task.id:
            node.task = 0
            drop_all(node.grads, node.noutputs)
        for i in range(node.nedges):
            if node.edges[i].target is not NULL and not node.edges[i].leaf:
                stack.append(<Node>node.edges[i].target)
    return 0


cdef int execute(GraphTask task, tuple gradients) except -1:
    cdef Py_ssize_t i
    cdef PyObject* g
    cdef PyObject* node
    count_dependencies(task)
    for i in range(task.num_roots):
        g = NULL
        if gradients[i] is not None:
            g = <PyObject*>gradients[i]
            incref(g)
        send(task, NULL, <int>i, &task.roots[i], g)
    while task.queue.size > 0:
        node = queue_pop(&task.queue)
        if unlikely((<Node>node).device >= 0, 0):
            run_on_stream(task, node)
        else:
            run_node(task, node)
    return 0


cdef list run_backward(tuple roots, tuple gradients, bint retain_graph, bint create_graph,
                       tuple inputs, bint accumulate):
    cdef uint32_t excluded = vt_tls.excluded
    cdef uint64_t unneeded = vt_tls.unneeded  # of the node whose backward runs this one
    cdef uint32_t autocast = vt_autocast_exchange(0)  # gradients have the dtypes of the forward
    cdef uint32_t retaining = vt_tls.retaining
    cdef GraphTask task
    cdef Tensor t
    cdef vt_edge* e
    cdef PyObject* node
    cdef list results
    task = begin_task(len(roots))
    vt_tls.unneeded = 0
    try:
        for i in range(len(roots)):
            t = <Tensor>roots[i]
            node = gradient_fn(t)
            e = &task.roots[i]
            e.leaf = node is NULL
            e.target = <PyObject*>t if node is NULL else node
            e.input_nr = 0 if node is NULL else t.output_nr
            incref(e.target)
            task.num_roots += 1
        task.retain = retain_graph
        vt_tls.retaining = retain_graph
        if create_graph:
            vt_tls.excluded &= ~<uint32_t>KEYS_AUTOGRAD
        else:
            vt_tls.excluded |= KEYS_AUTOGRAD
        if inputs is not None:
            want_inputs(task, inputs, accumulate)
        execute(task, gradients)
        results = task.results
    except BaseException:
        abandon(task)
        raise
    finally:
        vt_tls.excluded = excluded
        vt_tls.unneeded = unneeded
        vt_autocast_exchange(autocast)
        vt_tls.retaining = retaining
        end_task(task)
    return results


include "reference.pxi"
