"""The Node type: memory, edges, saved values, hooks (see node.pxd).

History of tensors and of views lies in history.pxi, the node of a write into a view in slices.pxi.
"""
import weakref
from collections import OrderedDict

from cpython.object cimport PyTypeObject, visitproc
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from vibetensor.autograd.basics cimport *
from vibetensor.core.dtype cimport dtype_scalar_name
from vibetensor.core.geometry cimport extent, internal_overlap
from vibetensor.core.tensor cimport *

cdef extern from "autograd/node_object.h":
    void vt_node_type_setup(object type, void (*dealloc)(PyObject*) noexcept,
                            int (*traverse)(PyObject*, visitproc, void*) noexcept,
                            int (*clear)(PyObject*) noexcept)
    int vt_node_type_set(object type, object name, object value) except -1
    int vt_visit(PyObject* o, visitproc visit, void* arg) noexcept

cdef extern from "Python.h":
    void incref "Py_INCREF"(PyObject*) noexcept
    void decref "Py_DECREF"(PyObject*) noexcept
    void PyObject_GC_UnTrack(PyObject*) noexcept
    bint PyObject_GC_IsTracked(PyObject*) noexcept
    PyTypeObject* Py_TYPE(PyObject*) noexcept
    bint likely "__builtin_expect"(bint, long) noexcept

cdef enum:
    FREE_LIST = 4096  # nodes; about 1.4 MB
    MAX_COUNT = 65535  # edges, saved values, outputs of one node


include "node_memory.pxi"


# --- creation -------------------------------------------------------------------------------------

cdef Node node_new(backward_fn fn, const char* name, int nedges, int nsaved, int noutputs):
    global free_nodes, free_count
    cdef Node node
    cdef PyObject* p = free_nodes
    if likely(p is not NULL, 1):
        free_nodes = <PyObject*>(<Node>p).seq
        free_count -= 1
        node = <Node>p  # the reference taken here is its only one
    else:
        node = Node.__new__(Node)
        PyObject_GC_UnTrack(<PyObject*>node)
    node.fn = fn
    node.name = name
    node_stamp(node)
    node.task = 0
    node.dependencies = 0
    node.nedges = node.nsaved = node.noutputs = 0
    node.released = 0
    node.device = -1
    node.output_mask = 0
    if likely(nedges <= INLINE_EDGES, 1):
        node.nedges = <uint16_t>nedges
    else:
        node_reserve_edges(node, nedges)
    if likely(nsaved <= INLINE_SAVED, 1):
        node.nsaved = <uint16_t>nsaved
    else:
        node_reserve_saved(node, nsaved)
    if likely(noutputs <= 1, 1):
        node.noutputs = <uint16_t>noutputs
    else:
        node_reserve_outputs(node, noutputs)
    return node


cdef void node_stamp(Node node) noexcept:
    global next_seq
    node.seq = next_seq
    next_seq += 1


cdef int check_count(Node node, int n, str what) except -1:
    if n > MAX_COUNT:
        raise RuntimeError(f"{node.name.decode()}: at most {MAX_COUNT} {what}, got {n}")
    return 0


cdef void* zeroed(size_t n, size_t size) except NULL:
    cdef void* p = calloc(n, size)
    if p is NULL:
        raise MemoryError()
    return p


cdef int node_reserve_edges(Node node, int n) except -1:
    check_count(node, n, "inputs")
    if n > INLINE_EDGES:
        node.edges = <vt_edge*>zeroed(n, sizeof(vt_edge))
        node.heap |= NODE_HEAP_EDGES
    node.nedges = <uint16_t>n
    return 0


cdef int node_reserve_saved(Node node, int n) except -1:
    cdef PyObject** saved
    cdef uint32_t* versions
    check_count(node, n, "saved values")
    if n > INLINE_SAVED:
        saved = <PyObject**>zeroed(n, sizeof(PyObject*))
        versions = <uint32_t*>calloc(n, sizeof(uint32_t))
        if versions is NULL:
            free(saved)
            raise MemoryError()
        node.saved = saved
        node.saved_version = versions
        node.heap |= NODE_HEAP_SAVED
    node.nsaved = <uint16_t>n
    return 0


cdef int node_reserve_outputs(Node node, int n) except -1:
    cdef vt_meta* metas
    cdef PyObject** grads
    check_count(node, n, "outputs")
    if n > 1:
        metas = <vt_meta*>zeroed(n, sizeof(vt_meta))
        grads = <PyObject**>calloc(n, sizeof(PyObject*))
        if grads is NULL:
            free(metas)
            raise MemoryError()
        node.metas = metas
        node.grads = grads
        node.heap |= NODE_HEAP_OUTPUTS
    node.noutputs = <uint16_t>n
    return 0


cdef int node_set_meta(Node node, int output_nr, Tensor t) except -1:
    cdef vt_meta* m = &node.metas[output_nr]
    cdef int64_t* sizes = node.inline_sizes
    if output_nr > 0 or t.ndim > INLINE_META:
        if output_nr > 0 or node.heap & NODE_HEAP_SIZES:
            free(m.sizes)
            m.sizes = NULL
            if output_nr == 0:
                node.heap &= ~NODE_HEAP_SIZES
        sizes = <int64_t*>malloc((t.ndim + 1) * sizeof(int64_t))
        if sizes is NULL:
            raise MemoryError()
        if output_nr == 0:
            node.heap |= NODE_HEAP_SIZES
    m.sizes = sizes
    m.dtype = t.dtype
    m.device_type = t.device_type
    m.device_index = t.device_index
    m.ndim = t.ndim
    memcpy(sizes, t.sizes, t.ndim * sizeof(int64_t))
    if t.device_type == VT_CUDA and node.device < 0:
        node.device = t.device_index
        node.stream = vt_backends[VT_CUDA].current_stream(t.device_index)
    return 0


# --- edges and saved values -----------------------------------------------------------------------

cdef int node_edge(Node node, int i, Tensor t) except -1:
    cdef PyObject* target
    cdef vt_edge* e
    if t is None or not needs_grad(t):
        return 0
    e = &node.edges[i]
    target = t.grad_fn if t.base is NULL else gradient_fn(t)
    if target is NULL:
        if not t.flags & F_REQUIRES_GRAD:
            return 0  # a view made under no_grad: its gradient goes nowhere
        target = <PyObject*>t
        e.leaf = 1
        e.input_nr = 0
    else:
        e.leaf = 0
        e.input_nr = t.output_nr
    incref(target)
    e.target = target
    return 0


cdef int node_save(Node node, int slot, Tensor t) except -1:
    if t is None:
        return 0
    if t.flags & F_INFERENCE:
        raise RuntimeError(
            "Inference tensors cannot be saved for backward. Please do not use Tensors created in "
            "inference mode in computation tracked by autograd. To work around this, you can make "
            "a clone to get a normal tensor and use it in autograd, or use `vibetensor.no_grad()` "
            "instead of `vibetensor.inference_mode()`."
        )
    if t.device_type == VT_CUDA:
        # The backward runs on this stream too, and may be the last to hold the memory.
        vt_backends[VT_CUDA].record_stream(
            t.storage, vt_backends[VT_CUDA].current_stream(t.device_index))
    incref(<PyObject*>t)
    node.saved[slot] = <PyObject*>t
    node.saved_version[slot] = t.storage.version
    return 0


cdef int node_save_output(Node node, int slot, Tensor t) except -1:
    if t is None:
        return 0  # an output that was not asked for
    cdef Tensor alias = tensor_alias(t)
    alias.output_nr = t.output_nr
    node_save(node, slot, alias)
    node.output_mask |= <uint32_t>1 << slot
    return 0


cdef void node_save_object(Node node, int slot, object value) noexcept:
    incref(<PyObject*>value)
    node.saved[slot] = <PyObject*>value


cdef int raise_released() except -1:
    raise RuntimeError(
        "Trying to backward through the graph a second time (or directly access saved tensors "
        "after "
        "they have already been freed). Saved intermediate values of the graph are freed when you "
        "call .backward() or autograd.grad(). Specify retain_graph=True if you need to backward "
        "through the graph a second time or if you need to access saved tensors after calling "
        "backward."
    )


cdef int check_version(Tensor t, uint32_t version) except -1:
    if t.storage.version == version:
        return 0
    source = ""
    if t.grad_fn is not NULL:
        source = f", which is output {t.output_nr} of {(<Node>t.grad_fn).name.decode()},"
    raise RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: [vibetensor.{dtype_scalar_name(t.dtype)}Tensor "
        f"{list(tensor_shape(t))}]{source} "
        f"is at version {t.storage.version}; expected version {version} instead. Hint: an operator "
        "wrote into it after it was saved; use the out-of-place form of that operator, or save a "
        "clone() of the tensor."
    )


cdef Tensor node_saved(Node node, int slot):
    cdef PyObject* p = node.saved[slot]
    if p is NULL:
        if node.released:
            raise_released()
        return None
    cdef Tensor t = <Tensor>p
    if t.storage.version != node.saved_version[slot]:
        if node.output_mask >> slot & 1:
            t = unpack_output(node, t)  # so that the error names the node
        check_version(t, node.saved_version[slot])
    if node.output_mask >> slot & 1 and vt_grad_enabled():
        return unpack_output(node, t)
    return t


cdef object node_saved_object(Node node, int slot):
    cdef PyObject* p = node.saved[slot]
    if p is NULL:
        raise_released()
    return <object>p


cdef bint holds_tensors(PyObject* p) noexcept:
    """A tensor, or a list or tuple with one in it."""
    if isinstance(<object>p, Tensor):
        return True
    if isinstance(<object>p, (tuple, list)):
        for item in <object>p:
            if isinstance(item, Tensor):
                return True
    return False


cdef void node_release(PyObject* node) noexcept:
    cdef int i
    if (<Node>node).fn == copy_slices_backward:
        (<Node>node).released = 1
        if (<Node>node).saved[0] is not NULL:
            (<Node>(<Node>node).saved[0]).grads[0] = NULL
            drop(&(<Node>node).saved[0])
        return
    for i in range((<Node>node).nsaved):
        if (<Node>node).saved[i] is not NULL and holds_tensors((<Node>node).saved[i]):
            (<Node>node).released = 1
            drop(&(<Node>node).saved[i])


# --- hooks ----------------------------------------------------------------------------------------

cdef class NodeHooks:
    pass


cdef NodeHooks node_hooks(Node node):
    cdef NodeHooks h
    if node.hooks is NULL:
        h = NodeHooks.__new__(NodeHooks)
        incref(<PyObject*>h)
        node.hooks = <PyObject*>h
        vt_track(<PyObject*>node)
    return <NodeHooks>node.hooks


cdef NodeHooks leaf_hooks(Tensor t):
    cdef NodeHooks h
    if t.accumulate is NULL:
        h = NodeHooks.__new__(NodeHooks)
        incref(<PyObject*>h)
        t.accumulate = <PyObject*>h
        vt_track(<PyObject*>t)
    return <NodeHooks>t.accumulate


cdef object new_hook_dict():
    return OrderedDict()  # unlike dict, it can be referred to weakly


cdef object add_hook(object hooks, object hook):
    from vibetensor.utils.hooks import RemovableHandle

    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


# --- the types ------------------------------------------------------------------------------------

cdef class Node:
    """A step of the backward pass: what ``tensor.grad_fn`` gives.

    Made by the operators, never by hand.
    """

    def __cinit__(self):
        self.edges = self.inline_edges
        self.saved = self.inline_saved
        self.saved_version = self.inline_version
        self.metas = self.inline_meta
        self.grads = self.inline_grads
        self.device = -1

    def __init__(self):
        raise TypeError(f"{type(self).__name__} cannot be created directly")

    @property
    def next_functions(self):
        """The nodes that this one sends gradients to: a tuple of ``(node, input number)``, with
        ``(None, 0)`` for inputs that need no gradient."""
        cdef int i
        return tuple(
            [(edge_object(&self.edges[i]), self.edges[i].input_nr) for i in range(self.nedges)]
        )

    @property
    def metadata(self):
        """A dictionary for the user's own notes."""
        cdef NodeHooks h = hooks_of(self)
        if h.metadata is None:
            h.metadata = {}
        return h.metadata

    def _sequence_nr(self):
        return self.seq

    def register_hook(self, fn):
        """Calls ``fn(grad_inputs, grad_outputs)`` after each run of the node.

        Both are tuples of tensors or None: what the node sent on, and what it received. A tuple
        that `fn` returns takes the place of ``grad_inputs``. Returns a handle with ``remove()``.
        """
        cdef NodeHooks h = hooks_of(self)
        if h.post is None:
            h.post = new_hook_dict()
        return add_hook(h.post, fn)

    def register_prehook(self, fn):
        """Calls ``fn(grad_outputs)`` before each run of the node; a tuple that it returns takes
        their place. Returns a handle with ``remove()``."""
        cdef NodeHooks h = hooks_of(self)
        if h.pre is None:
            h.pre = new_hook_dict()
        return add_hook(h.pre, fn)

    def __repr__(self):
        return f"<{self.name.decode()} object at {<size_t><PyObject*>self:#x}>"


def name(Node self not None):
    """The name, such as ``"MulBackward0"``."""
    return self.name.decode()


vt_node_type_setup(Node, dealloc, traverse, clear)
vt_node_type_set(Node, "name", name)  # a C field has the name, so the class body cannot


cdef class AccumulateGrad(Node):
    """Stands for the place where gradients of a leaf end: ``variable.grad``.

    The engine needs no such object; ``next_functions`` makes one when it is asked for.
    """

    cdef Tensor leaf
    cdef object __weakref__

    @property
    def variable(self):
        """The leaf tensor."""
        return self.leaf


cdef NodeHooks hooks_of(Node node):
    if isinstance(node, AccumulateGrad):
        return leaf_hooks((<AccumulateGrad>node).leaf)
    return node_hooks(node)


cdef AccumulateGrad accumulate_handle(Tensor t):
    cdef NodeHooks h = leaf_hooks(t)
    cdef AccumulateGrad a = None if h.handle is None else h.handle()
    if a is None:
        a = AccumulateGrad.__new__(AccumulateGrad)
        a.name = b"AccumulateGrad"
        a.leaf = t
        h.handle = weakref.ref(a)
    return a


cdef object edge_object(vt_edge* e):
    if e.target is NULL:
        return None
    return accumulate_handle(<Tensor>e.target) if e.leaf else <Node>e.target


include "history.pxi"
include "slices.pxi"
