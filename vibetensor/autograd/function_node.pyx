"""The node of a Python Function, which is also the ``ctx`` that its methods get.

Note [Function cycles]: a context may hold the very tensors it made (``ctx.out = out``), so such a
node and its outputs are known to the cycle collector.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t

from vibetensor.autograd.basics cimport *
from vibetensor.autograd.node cimport *
from vibetensor.core.dtype cimport is_complex_code, is_floating_code
from vibetensor.core.tensor cimport *

cdef extern from "Python.h":
    void incref "Py_INCREF"(PyObject*) noexcept
    void decref "Py_DECREF"(PyObject*) noexcept


cdef class FunctionNode(Node):
    """The context of one call of a :class:`~vibetensor.autograd.Function`."""

    cdef tuple to_save              # until the call has ended
    cdef tuple dirty
    cdef tuple non_differentiable_tensors
    cdef list saved_outputs         # per saved tensor: whether it is an output of this node
    cdef list edge_of_input         # per argument: its edge, or -1 for no tensor
    cdef bytes label
    cdef bint materialize
    cdef readonly tuple needs_input_grad
    """Per argument of forward: whether its gradient is wanted."""

    def __cinit__(self):
        self.fn = function_backward
        self.heap = NODE_RUNS_UNDEFINED
        self.materialize = True
        self.name = b""

    def save_for_backward(self, *tensors):
        """Saves tensors (or None) for :attr:`saved_tensors`, checked for writes in place."""
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {i} is of type "
                    f"{type(t).__name__}"
                )
        self.to_save = tensors

    def mark_dirty(self, *tensors):
        """Declares inputs that forward writes in place. They must be among its outputs."""
        self.dirty = check_tensors("mark_dirty", tensors)

    def mark_non_differentiable(self, *tensors):
        """Declares outputs that need no gradient."""
        self.non_differentiable_tensors = check_tensors("mark_non_differentiable", tensors)

    def set_materialize_grads(self, bint value):
        """Whether backward gets zeros (the default) or None where no gradient arrived."""
        self.materialize = value

    @property
    def saved_tensors(self):
        """What ``save_for_backward`` was given. Raises when it was freed or written since."""
        cdef list result = []
        cdef Tensor t
        cdef int i
        if self.released:
            raise_released()
        for i in range(self.nsaved):
            t = None
            if self.saved[i] is not NULL:
                t = <Tensor>self.saved[i]
                if self.saved_outputs[i]:
                    t = unpack_output(self, t)
                check_version(t, self.saved_version[i])
            result.append(t)
        return tuple(result)


cdef tuple check_tensors(str method, tuple tensors):
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(
                f"{method} can only accept variables, but argument {i} is of type "
                f"{type(t).__name__}"
            )
    return tensors


cdef bint among(object t, tuple tensors) noexcept:
    if tensors is not None:
        for other in tensors:
            if other is t:
                return True
    return False


# --- the call -------------------------------------------------------------------------------------

def apply(function, tuple args, dict kwargs, setup_context):
    """Runs `function`, a Function class, and records it. `setup_context` is None for a forward that
    takes the context itself."""
    cdef FunctionNode node
    cdef uint32_t excluded = vt_tls.excluded
    cdef bint recorded
    cls = function._backward_cls
    node = cls.__new__(cls)
    node.label = cls.__name__.encode()
    node.name = node.label
    recorded = connect(node, args) and vt_grad_enabled()
    vt_tls.excluded |= KEYS_AUTOGRAD
    try:
        if setup_context is None:
            result = function.forward(node, *args, **kwargs)
        else:
            result = function.forward(*args, **kwargs)
            setup_context(node, args, result)
    finally:
        vt_tls.excluded = excluded
    single = not isinstance(result, tuple)
    outputs = wrap_outputs(node, args, (result,) if single else result, recorded)
    if recorded:
        save(node, outputs)
    node.to_save = node.dirty = node.non_differentiable_tensors = None
    return outputs[0] if single else outputs


cdef bint connect(FunctionNode node, tuple args) except -1:
    """Gives the node one edge per tensor among the arguments; whether any of them needs grad."""
    cdef list needs = [False] * len(args), edges = [-1] * len(args)
    cdef int n = 0
    cdef bint any_needs = False
    cdef Py_ssize_t i
    node_stamp(node)
    for i in range(len(args)):
        if isinstance(args[i], Tensor):
            edges[i] = n
            n += 1
            if needs_grad(<Tensor>args[i]):
                needs[i] = any_needs = True
    node.needs_input_grad = tuple(needs)
    node.edge_of_input = edges
    if any_needs and vt_grad_enabled():
        node_reserve_edges(node, n)
        for i in range(len(args)):
            if needs[i]:
                node_edge(node, edges[i], <Tensor>args[i])
    return any_needs


cdef int save(FunctionNode node, tuple outputs) except -1:
    cdef tuple tensors = node.to_save
    cdef int i
    if tensors is None:
        return 0
    node_reserve_saved(node, <int>len(tensors))
    node.saved_outputs = [False] * len(tensors)
    for i in range(node.nsaved):
        t = tensors[i]
        if t is not None and among(t, outputs) and (
            (<Tensor>t).grad_fn is <PyObject*>node or node.heap & NODE_WRAPPED
        ):
            alias = tensor_alias(<Tensor>t)  # no reference cycle
            alias.output_nr = (<Tensor>t).output_nr
            node.saved_outputs[i] = True
            node_save(node, i, alias)
        else:
            node_save(node, i, <Tensor>t)
    return 0


cdef Tensor view_as_self(Tensor t):
    """A new tensor for an input that forward returned as it is."""
    cdef Tensor v = tensor_alias(t)
    cdef uint32_t excluded = vt_tls.excluded
    vt_tls.excluded |= KEYS_AUTOGRAD
    set_view(v, t)
    vt_tls.excluded = excluded
    return v


cdef tuple wrap_outputs(FunctionNode node, tuple args, tuple results, bint recorded):
    """The outputs with their history; inputs returned unchanged become views of themselves."""
    cdef list outputs = list(results)
    cdef Tensor t
    cdef Py_ssize_t i
    cdef int differentiable = 0
    cdef bint is_input, modified, wants_history
    for t in node.dirty or ():
        if not among(t, results):
            raise RuntimeError(
                "Some elements marked as dirty during the forward method were not returned as "
                "output. The inputs that are modified inplace must all be outputs of the Function."
            )
        bump_version(t)
    if recorded:
        node_reserve_outputs(node, <int>len(outputs))
    for i in range(len(outputs)):
        if not isinstance(outputs[i], Tensor):
            continue
        t = <Tensor>outputs[i]
        is_input = among(t, args)
        modified = among(t, node.dirty)
        wants_history = (
            recorded and not among(t, node.non_differentiable_tensors)
            and (is_floating_code(t.dtype) or is_complex_code(t.dtype))
        )
        differentiable += wants_history
        if not wants_history:
            if recorded:
                node_set_meta(node, <int>i, t)  # backward gets zeros of this shape for it
            if needs_grad(t):
                if is_input:
                    t = tensor_alias(t)
                elif t.base is NULL:
                    t.detach_()
            elif is_input and not modified:
                t = view_as_self(t)
        elif is_input and modified:
            write_history(node, args, t, <int>i, len(outputs))
        else:
            if is_input:
                t = view_as_self(t)
            set_history(t, node, <int>i)
        if wants_history:
            vt_track(<PyObject*>t)  # Note [Function cycles]
        if t.base is not NULL and not (is_input and modified):
            t.flags = (t.flags & ~F_VIEW_FLAGS) | F_VIEW_FUNCTION
        outputs[i] = t
    if differentiable > 1:
        for i in range(len(outputs)):
            if isinstance(outputs[i], Tensor):
                t = <Tensor>outputs[i]
                if t.base is not NULL and t.flags & F_VIEW_FUNCTION:
                    t.flags = (t.flags & ~F_VIEW_FLAGS) | F_VIEW_MULTI
    return tuple(outputs)


cdef int write_history(FunctionNode node, tuple args, Tensor t, int output_nr,
                       Py_ssize_t n) except -1:
    """History of an input that forward wrote in place."""
    cdef Py_ssize_t i = 0
    if needs_grad(t) and gradient_fn(t) is NULL:
        raise RuntimeError(
            "a leaf Variable that requires grad has been used in an in-place operation."
        )
    check_inplace(t, b"apply")
    if t.base is not NULL and n > 1:
        raise RuntimeError(
            "If your Function modifies inplace an input that is a view of another Tensor, your "
            "Function cannot return more than one Tensor. This is not supported by the current "
            "autograd engine. You should either make sure the input is not a view (using .clone() "
            "for example) or make your Function only return one Tensor (potentially splitting it "
            "into two Functions: one doing the inplace that returns a single Tensor and a second "
            "one "
            "that does the other operations)."
        )
    while args[i] is not t:
        i += 1
    return rebase_edge(t, node, output_nr, node.edge_of_input[i])


# --- the backward ---------------------------------------------------------------------------------

cdef Tensor zeros_of(const vt_meta* m):
    cdef Tensor t = tensor_new(m.ndim, m.sizes, m.dtype, m.device_type, m.device_index)
    zero_(t)
    return t


cdef int function_backward(Node n, PyObject** grads, PyObject** out) except -1:
    cdef FunctionNode node = <FunctionNode>n
    cdef list args = [node]
    cdef tuple result
    cdef Py_ssize_t i, expected = len(node.edge_of_input)
    cdef int edge
    name = node.label.decode()
    for i in range(node.noutputs):
        if grads[i] is not NULL:
            args.append(<object>grads[i])
        elif node.materialize and node.metas[i].sizes is not NULL:
            args.append(zeros_of(&node.metas[i]))
        else:
            args.append(None)
    returned = backward_of(type(node)._forward_cls)(*args)
    args = None
    result = returned if isinstance(returned, tuple) else (returned,)
    if len(result) > expected and all([r is None for r in result[expected:]]):
        result = result[:expected]
    if len(result) != expected:
        raise RuntimeError(
            f"function {name} returned an incorrect number of gradients (expected {expected}, got "
            f"{len(result)})"
        )
    for i in range(expected):
        edge = node.edge_of_input[i]
        r = result[i]
        if edge < 0:
            if r is not None:
                raise RuntimeError(
                    f"function {name} returned a gradient different than None at position {i + 1}, "
                    "but the corresponding forward input was not a Variable"
                )
        elif r is not None:
            if not isinstance(r, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(r).__name__})")
            if node.edges[edge].target is not NULL:
                incref(<PyObject*>r)
                out[edge] = <PyObject*>r
    return 0


cdef object backward_of(function):
    """The user's backward or vjp."""
    from vibetensor.autograd.function import Function

    backward, vjp = function.backward, function.vjp
    if backward is not Function.backward and vjp is not Function.vjp:
        raise RuntimeError(
            "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You "
            "should "
            "only implement one of them."
        )
    return vjp if vjp is not Function.vjp else backward


# --- once_differentiable --------------------------------------------------------------------------

cdef int once_backward(Node node, PyObject** grads, PyObject** out) except -1:
    raise RuntimeError(
        "trying to differentiate twice a function that was marked with @once_differentiable"
    )


def refuse_second_derivative(Tensor t not None):
    """The same values as `t`, with a history that raises when backward reaches it."""
    cdef Tensor out = tensor_alias(t)
    set_history(out, node_new(once_backward, b"Error", 0, 0, 1), 0)
    return out
