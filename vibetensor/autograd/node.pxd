"""The autograd graph: one Node type, and the calls by which generated code records a node.

A node stands for the backward of one operator call. An edge points straight to the Node that made
an input, or to the leaf Tensor itself. Nodes are freed iteratively, never recursively.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from vibetensor.core.tensor cimport Tensor
from vibetensor.core.types cimport *


cdef enum:
    INLINE_EDGES = 3
    INLINE_SAVED = 4
    INLINE_META = 6   # sizes of output 0 kept inline up to this rank
    NODE_WORDS = 8    # saved ints and floats

# grads[i]: gradient of output i, borrowed, NULL where none arrived. out[j]: gradient of input j, to
# be filled with an owned Tensor where edge j is wanted (node.edges[j].target not NULL); else NULL.
ctypedef int (*backward_fn)(Node node, PyObject** grads, PyObject** out) except -1

ctypedef union vt_word:
    int64_t i
    double d

ctypedef struct vt_edge:
    PyObject* target    # owned Node, or leaf Tensor, or NULL: no gradient wanted
    uint16_t input_nr   # which output of the target node
    uint8_t leaf        # target is a Tensor

# What a node must receive for one of its outputs: the engine casts and sums gradients to this.
ctypedef struct vt_meta:
    uint8_t dtype
    uint8_t device_type
    int8_t device_index
    uint8_t ndim
    int64_t* sizes      # -> inline room of the node, or the heap

cdef class Node:
    cdef backward_fn fn
    cdef const char* name           # "MulBackward0"
    cdef uint64_t seq               # creation order; the ready queue runs the highest first
    cdef vt_edge* edges
    cdef vt_meta* metas
    cdef PyObject** saved           # owned Tensors or other objects
    cdef uint32_t* saved_version
    cdef PyObject** grads           # the gradient buffer: one per output, owned
    cdef PyObject* hooks            # owned NodeHooks or NULL
    cdef uint64_t task              # graph task that claims dependencies and grads
    cdef int32_t dependencies
    cdef uint16_t nedges, nsaved, noutputs
    cdef uint8_t released           # saved values freed by a backward without retain_graph
    cdef uint8_t heap               # NODE_* bits below
    cdef int8_t device              # where the forward ran and the backward runs; -1: the host
    cdef void* stream               # the stream of that device
    cdef uint32_t output_mask       # bit k: saved[k] is an output of this node (a detached alias)
    cdef vt_word words[8]           # saved ints and floats
    cdef vt_edge inline_edges[3]
    cdef PyObject* inline_saved[4]
    cdef uint32_t inline_version[4]
    cdef PyObject* inline_grads[1]
    cdef vt_meta inline_meta[1]
    cdef int64_t inline_sizes[6]

# Whether a backward function must compute the gradient for edge `i`: it leads somewhere, and under
# `inputs=` to something that was asked for.
cdef inline bint edge_wanted(Node node, int i) noexcept:
    return node.edges[i].target is not NULL and not (i < 64 and vt_tls.unneeded >> i & 1)
# True when gradients must flow to `t` (follows a view to its base).
cdef bint needs_grad(Tensor t) noexcept
# A node with `nedges` empty edges, `nsaved` empty slots, `noutputs` outputs.
cdef Node node_new(backward_fn fn, const char* name, int nedges, int nsaved, int noutputs)
# Points edge `i` at whatever made `t` (nothing where t is None or needs no gradient).
cdef int node_edge(Node node, int i, Tensor t) except -1
# Saves an input, with its version; `t` may be None. Raises for an inference tensor. The allocator learns
# that the current stream will use it.
cdef int node_save(Node node, int slot, Tensor t) except -1
# Saves one of the node's own outputs, as a detached alias (no reference cycle). Call after
# set_history.
cdef int node_save_output(Node node, int slot, Tensor t) except -1
# Saves any other object (a tuple, a number, None).
cdef void node_save_object(Node node, int slot, object value) noexcept
# Unpacks: raises when the graph was released, or the tensor modified in place since.
cdef Tensor node_saved(Node node, int slot)
cdef object node_saved_object(Node node, int slot)
# `t` becomes output `output_nr` of `node` and requires grad. For a tensor made just now.
cdef int set_history(Tensor t, Node node, int output_nr) except -1
# The same for a tensor that `node` wrote in place: on a view, the base gets a copy-slices node.
cdef int rebase_history(Tensor t, Node node, int output_nr) except -1
# Raises if `t` may not be written in place under autograd (a leaf that requires grad, a view made
# where PyTorch forbids it). Call before the write; only when grad mode is on and the operator's
# result will require grad.
cdef int check_inplace(Tensor t, const char* op) except -1
# Marks `view` as a view of `source` (or of source's base), in the present grad mode.
cdef int set_view(Tensor view, Tensor source) except -1
# The grad_fn of `t`, formed anew for a view whose base was modified in place; NULL for a leaf.
cdef PyObject* gradient_fn(Tensor t) except? NULL

# --- Private to vibetensor/autograd ---------------------------------------------------------------

# Bits of Node.heap.
cdef enum:
    NODE_HEAP_EDGES = 1
    NODE_HEAP_SAVED = 2
    NODE_HEAP_OUTPUTS = 4
    NODE_HEAP_SIZES = 8         # the sizes of output 0
    NODE_RUNS_UNDEFINED = 16    # runs even where no gradient arrived at all (a Python Function)
    NODE_WRAPPED = 32           # grads[0] is a borrowed pointer to the copy-slices node around it

# What hangs on a node, or on a leaf (Tensor.accumulate), only when somebody asked for it.
cdef class NodeHooks:
    cdef object pre            # {id: hook(grad_outputs)} or None
    cdef object post           # {id: hook(grad_inputs, grad_outputs)} or None
    cdef dict tensor           # {output number: {id: hook(grad)}} or None
    cdef dict retained         # {output number: weak reference to the tensor} or None
    cdef object accumulated    # leaf only: {id: hook(tensor)} or None
    cdef object handle         # leaf only: weak reference to the AccumulateGrad handed out
    cdef dict metadata

# Gives a node that node_new did not make the next sequence number.
cdef void node_stamp(Node node) noexcept
# Makes room in a node that was created without it.
cdef int node_reserve_edges(Node node, int n) except -1
cdef int node_reserve_saved(Node node, int n) except -1
cdef int node_reserve_outputs(Node node, int n) except -1
# Records what gradient output `output_nr` must receive.
cdef int node_set_meta(Node node, int output_nr, Tensor t) except -1
# Frees the saved tensors; a later backward through them raises.
cdef void node_release(PyObject* node) noexcept
# Raises PyTorch's "backward through the graph a second time".
cdef int raise_released() except -1
# Raises if `t` was written since version `version` of it was saved.
cdef int check_version(Tensor t, uint32_t version) except -1
# `saved`, a detached alias of output `saved.output_nr` of `node`, with its history back.
cdef Tensor unpack_output(Node node, Tensor saved)
# The hooks of a node, made at need; the node becomes known to the cycle collector.
cdef NodeHooks node_hooks(Node node)
# The same for a leaf, whose hooks of its accumulation live with the tensor.
cdef NodeHooks leaf_hooks(Tensor t)
# The Python object that stands for an edge: a Node, an AccumulateGrad, or None.
cdef object edge_object(vt_edge* e)
# rebase_history where the tensor written is input `edge` of the node, not input 0.
cdef int rebase_edge(Tensor t, Node node, int output_nr, int edge) except -1
# Adds a hook to one of the dicts above; returns its handle.
cdef object new_hook_dict()
cdef object add_hook(object hooks, object hook)
