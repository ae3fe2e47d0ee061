"""``make_graphed_callables``: parts of a network as graphs, inside an ordinary training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import vibetensor as vt
from vibetensor.autograd import Function
from vibetensor.core.tensor import Tensor
from vibetensor.cuda.graphs import CUDAGraph, graph, graph_pool_handle
from vibetensor.cuda.streams import Stream, StreamContext, current_stream
from vibetensor.nn import Module


class _Part:
    """One callable with its graphs and the tensors that these read and write."""

    def __init__(self, function: Callable[..., Any], args: tuple[Tensor, ...]) -> None:
        self.function = function
        self.args = args
        self.parameters = tuple(function.parameters()) if isinstance(function, Module) else ()
        self.inputs = args + self.parameters
        self.wanted = tuple(i for i in self.inputs if i.requires_grad)
        self.forward, self.backward = CUDAGraph(), CUDAGraph()
        self.outputs: tuple[Tensor, ...] = ()
        self.single = False
        self.grad_outputs: tuple[Tensor | None, ...] = ()
        self.grad_inputs: tuple[Tensor | None, ...] = ()

    def call(self) -> tuple[Tensor, ...]:
        result = self.function(*self.args)
        self.single = isinstance(result, Tensor)
        return (result,) if self.single else tuple(result)

    def gradients(
        self, outputs: tuple[Tensor, ...], grad_outputs: tuple[Tensor | None, ...], unused: bool
    ) -> tuple[Any, ...]:
        """Of the inputs that want one."""
        pairs = [(o, g) for o, g in zip(outputs, grad_outputs, strict=True) if o.requires_grad]
        if not pairs or not self.wanted:
            return ()
        return vt.autograd.grad(
            outputs=[o for o, _ in pairs],
            inputs=list(self.wanted),
            grad_outputs=[g for _, g in pairs],
            allow_unused=unused,
        )


def make_graphed_callables(
    callables: Any,
    sample_args: Any,
    num_warmup_iters: int = 3,
    allow_unused_input: bool = False,
    pool: tuple[int, int] | None = None,
) -> Any:
    """Make graphs of the forward and the backward of modules or functions.

    What is returned takes part in autograd. It takes tensors like the samples, and its results are
    overwritten by its next call.

    Parameters
    ----------
    callables : Module, function, or tuple of them
        Of tensors. A module is changed in place, and runs as a graph only in the mode (training or
        evaluation) that it is in now. Of a tuple, the members have to be called in this order.
    sample_args : tuple of Tensor, or tuple of such tuples
        Arguments for each.
    num_warmup_iters : int
        How often each runs before it is captured.
    allow_unused_input : bool
        Whether inputs may have no part in the outputs.
    pool : tuple, optional
        The memory pool of all these graphs.
    """
    several = isinstance(callables, (list, tuple))
    functions: Sequence[Any] = callables if several else (callables,)
    samples: Sequence[Any] = sample_args if several else (sample_args,)
    parts = []
    for function, args in zip(functions, samples, strict=True):
        _check(function, args)
        parts.append(_Part(function, tuple(args)))
    _warm_up(parts, num_warmup_iters, allow_unused_input)
    pool = pool if pool is not None else graph_pool_handle()
    for part in parts:
        with graph(part.forward, pool=pool):
            part.outputs = part.call()
    # In the order in which backward will run, so that memory is shared the same way.
    for part in reversed(parts):
        part.grad_outputs = tuple(
            vt.empty_like(o) if o.requires_grad else None for o in part.outputs
        )
        gradients: tuple[Any, ...] = ()
        if any(g is not None for g in part.grad_outputs):
            with graph(part.backward, pool=pool):
                gradients = part.gradients(part.outputs, part.grad_outputs, allow_unused_input)
        found = iter(gradients)
        part.grad_inputs = tuple(
            next(found, None) if i.requires_grad else None for i in part.inputs
        )
        part.outputs = tuple(o.detach() for o in part.outputs)
    graphed = tuple(_replacement(part) for part in parts)
    return graphed if several else graphed[0]


def _check(function: Any, args: Any) -> None:
    if not all(isinstance(a, Tensor) for a in args):
        raise TypeError(
            "In the beta API, sample_args for each callable must contain only Tensors. "
            "Other types are not allowed."
        )
    if not isinstance(function, Module):
        return
    if function._forward_hooks or function._forward_pre_hooks:
        raise RuntimeError(
            "Modules must not have hooks registered at the time they are passed. However, "
            "registering hooks on modules after passing them through make_graphed_callables is "
            "allowed."
        )
    if any(b.requires_grad for b in function.buffers()):
        raise RuntimeError(
            "In any Module passed to make_graphed_callables, only parameters may be trainable. "
            "All buffers must have ``requires_grad=False``."
        )


def _warm_up(parts: list[_Part], times: int, unused: bool) -> None:
    outer, side = current_stream(), Stream()
    vt.cuda.synchronize()
    side.wait_stream(outer)
    with StreamContext(side):
        for part in parts:
            for _ in range(times):
                outputs = part.call()
                part.gradients(outputs, tuple(vt.empty_like(o) for o in outputs), unused)
    outer.wait_stream(side)
    vt.cuda.synchronize()


def _replacement(part: _Part) -> Any:
    """The callable that replays the graphs of a part."""
    num_args = len(part.args)

    class Graphed(Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
            for static, given in zip(part.args, inputs[:num_args], strict=True):
                if static.data_ptr() != given.data_ptr():
                    static.copy_(given)
            part.forward.replay()
            return tuple(o.detach() for o in part.outputs)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
            for static, given in zip(part.grad_outputs, grads, strict=True):
                if static is None:
                    continue
                if given is None:
                    static.zero_()
                elif static.data_ptr() != given.data_ptr():
                    static.copy_(given)
            part.backward.replay()
            return tuple(g.detach() if g is not None else None for g in part.grad_inputs)

    def run(*args: Tensor) -> Any:
        out = Graphed.apply(*args, *part.parameters)
        out = (out,) if isinstance(out, Tensor) else out
        return out[0] if part.single else out

    if not isinstance(part.function, Module):
        return run
    module = part.function
    training, original = module.training, module.forward

    def forward(*args: Tensor) -> Any:
        # Layers such as dropout differ between the modes, and the graph is of one of them.
        return run(*args) if module.training == training else original(*args)

    module.forward = forward  # type: ignore[method-assign]
    return module
