"""``backward`` and ``grad``: checks of the arguments, with PyTorch's texts, around the engine."""
from vibetensor.autograd.basics cimport *
from vibetensor.autograd.engine cimport run_backward
from vibetensor.autograd.node cimport gradient_fn, needs_grad
from vibetensor.core.dtype cimport dtype_object, is_complex_code, is_floating_code
from vibetensor.core.tensor cimport *

cdef extern from "Python.h":
    void incref "Py_INCREF"(PyObject*) noexcept
    void decref "Py_DECREF"(PyObject*) noexcept


cdef Tensor ones_like_scalar(Tensor t):
    cdef Tensor out = tensor_new_like(t, t.dtype)
    if t.device_type == VT_CPU and t.dtype == VT_F32:
        (<float*>out.data)[0] = 1
    else:
        fill_(out, 1)
    return out


cdef object make_gradient(Tensor out, object grad, Py_ssize_t i):
    """The gradient that output number `i` receives: `grad`, or one for a scalar."""
    cdef Tensor g
    if grad is None:
        if not needs_grad(out):
            return None
        if out.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if not is_floating_code(out.dtype):
            raise RuntimeError(
                "grad can be implicitly created only for real scalar outputs but got "
                f"{dtype_object(out.dtype)}"
            )
        return ones_like_scalar(out)
    if not isinstance(grad, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(grad).__name__}")
    g = <Tensor>grad
    if not tensor_same_shape(g, out):
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {g.shape} and output[{i}] has a "
            f"shape of {out.shape}."
        )
    if is_complex_code(g.dtype) != is_complex_code(out.dtype):
        raise RuntimeError(
            "For complex Tensors, both grad_output and output are required to have the same dtype. "
            f"Mismatch in dtype: grad_output[{i}] has a dtype of {dtype_object(g.dtype)} and "
            f"output[{i}] has a dtype of {dtype_object(out.dtype)}."
        )
    return g


cdef tuple as_tuple(object tensors):
    return (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)


cdef tuple check_roots(tuple tensors):
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(f"element {i} of tensors must be a Tensor, got {type(t).__name__}")
        if not needs_grad(<Tensor>t):
            raise RuntimeError(
                f"element {i} of tensors does not require grad and does not have a grad_fn"
            )
    return tensors


cdef tuple make_gradients(tuple tensors, object grads):
    if grads is None:
        grads = (None,) * len(tensors)
    else:
        grads = as_tuple(grads)
    if len(grads) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(grads)} gradients")
    return tuple([make_gradient(<Tensor>t, g, i) for i, (t, g) in enumerate(zip(tensors, grads))])


cdef tuple check_inputs(object inputs, str where):
    cdef tuple result = as_tuple(inputs)
    if not result:
        raise RuntimeError(f"`inputs` argument to `{where}()` cannot be empty.")
    for t in result:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"all inputs have to be Tensors, but got {type(t).__name__}")
        if not needs_grad(<Tensor>t):
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    return result


cdef int accumulate(tuple tensors, tuple grads, bint retain, bint create, object inputs) except -1:
    cdef tuple wanted = None
    if inputs is not None:
        wanted = check_inputs(inputs, "backward")
        for t in wanted:
            if gradient_fn(<Tensor>t) is not NULL:
                t.retain_grad()
    check_roots(tensors)
    run_backward(tensors, grads, retain, create, wanted, True)
    return 0


cdef int tensor_backward(Tensor t, object gradient, object retain_graph, bint create_graph,
                         object inputs) except -1:
    cdef bint retain = create_graph if retain_graph is None else retain_graph
    cdef tuple roots = (t,)
    check_roots(roots)
    return accumulate(roots, (make_gradient(t, gradient, 0),), retain, create_graph, inputs)


def backward(tensors, grad_tensors=None, retain_graph=None, bint create_graph=False, *,
             inputs=None):
    """Adds the gradients of `tensors` to ``.grad`` of the leaves they were computed from.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensors
    grad_tensors : Tensor, None, or a sequence of them
        The gradient that each of `tensors` receives, of its shape. None for a scalar means 1.
    retain_graph : bool, optional
        Keep what the graph saved, so that it can be used again. By default as `create_graph`.
    create_graph : bool
        Record the backward pass itself, for higher derivatives.
    inputs : Tensor or sequence of Tensors, optional
        Accumulate into these only.

    >>> import vibetensor as vt
    >>> x = vt.ones(2, requires_grad=True)
    >>> vt.autograd.backward((x * x).sum())
    >>> x.grad
    tensor([2., 2.])
    """
    cdef tuple roots = as_tuple(tensors)
    check_roots(roots)
    accumulate(
        roots, make_gradients(roots, grad_tensors),
        create_graph if retain_graph is None else retain_graph, create_graph, inputs,
    )


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, bint create_graph=False,
         allow_unused=None, bint materialize_grads=False):
    """The gradients of `outputs` with respect to `inputs`, as a tuple; no ``.grad`` changes.

    Only the part of the graph between the two runs.

    Parameters
    ----------
    outputs, inputs : Tensor or sequence of Tensors
        `inputs` may be leaves or results of other operators.
    grad_outputs : Tensor, None, or a sequence of them
        The gradient that each output receives; None for a scalar means 1.
    retain_graph, create_graph : bool
        As for :func:`backward`.
    allow_unused : bool, optional
        Give None for an input that the outputs do not depend on, instead of raising RuntimeError.
    materialize_grads : bool
        Give zeros instead of None.

    >>> import vibetensor as vt
    >>> x = vt.tensor(3., requires_grad=True)
    >>> vt.autograd.grad(x * x, x)
    (tensor(6.),)
    """
    cdef Tensor t, zeros
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
            "allow_unused=False."
        )
    if allow_unused is None:
        allow_unused = materialize_grads
    cdef tuple roots = as_tuple(outputs), wanted = check_inputs(inputs, "grad")
    check_roots(roots)
    cdef list results = run_backward(
        roots, make_gradients(roots, grad_outputs),
        create_graph if retain_graph is None else retain_graph, create_graph, wanted, False,
    )
    for i in range(len(results)):
        if results[i] is not None:
            continue
        if not allow_unused:
            raise RuntimeError(
                f"The differentiated Tensor at index {i} appears to not have been used in the "
                "graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
        if materialize_grads:
            t = <Tensor>wanted[i]
            zeros = tensor_empty_like(t, t.dtype)
            zero_(zeros)
            results[i] = zeros
    return tuple(results)


def undefined_grad(outputs, inputs, gradients):
    """The gradients (or None) of `inputs` where None among `gradients` means that no gradient
    arrived at that output. For ``gradcheck``."""
    cdef tuple roots = check_roots(as_tuple(outputs))
    return run_backward(roots, tuple(gradients), True, False, check_inputs(inputs, "grad"), False)
