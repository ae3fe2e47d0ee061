"""User-defined operators with their own backward."""

from __future__ import annotations

import functools
from typing import Any

from vibetensor.autograd.function_node import FunctionNode, refuse_second_derivative
from vibetensor.autograd.function_node import apply as _apply
from vibetensor.autograd.grad_mode import is_grad_enabled, no_grad
from vibetensor.core.tensor import Tensor

__all__ = ["Function", "once_differentiable"]


class _FunctionMeta(type):
    """Gives each Function a type of node of its own, named after it."""

    def __init__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> None:
        cls._backward_cls = type(
            f"{name}Backward", (FunctionNode,), {"_forward_cls": cls, "__module__": cls.__module__}
        )
        super().__init__(name, bases, attributes)


class Function(metaclass=_FunctionMeta):
    """Base class of operators written in Python with a backward of their own.

    Subclass it, write ``forward`` and ``backward`` as static methods, and call ``apply``. Either
    ``forward(ctx, *args)`` takes the context itself, or ``forward(*args)`` goes with
    ``setup_context(ctx, inputs, output)``. Operators inside ``forward`` are not recorded.

    >>> import vibetensor as vt
    >>> class Exp(vt.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         result = x.exp()
    ...         ctx.save_for_backward(result)
    ...         return result
    ...
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (result,) = ctx.saved_tensors
    ...         return grad * result
    >>> x = vt.zeros(2, requires_grad=True)
    >>> Exp.apply(x).sum().backward()
    >>> x.grad
    tensor([1., 1.])
    """

    _backward_cls: type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all "
            "static, "
            "so you should invoke them on the class itself."
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the result. ``ctx`` first, unless ``setup_context`` is defined."""
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Fills the context after a ``forward`` that does not take one."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """One gradient, or None, per argument of ``forward``, from one per output."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom "
            "autograd.Function "
            "to use it with backward mode AD."
        )

    # Another name for `backward`; a subclass defines one of the two.
    @staticmethod
    def vjp(ctx: Any, *grad_outputs: Any) -> Any:
        """Another name for :meth:`backward`."""
        return Function.backward(ctx, *grad_outputs)

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Calls the operator."""
        if cls.setup_context is Function.setup_context:
            return _apply(cls, args, kwargs, None)
        return _apply(cls, _bind(cls.forward, args, kwargs), {}, cls.setup_context)


def _bind(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """All arguments by position, as ``setup_context`` and ``backward`` count them."""
    import inspect

    code = getattr(function, "__code__", None)
    if code is not None and not kwargs and code.co_argcount == len(args):
        return args
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.args


def once_differentiable(function: Any) -> Any:
    """Decorates a ``backward`` that cannot itself be differentiated.

    It runs without recording; differentiating through its result raises RuntimeError.
    """

    @functools.wraps(function)
    def wrapper(ctx: Any, *args: Any) -> Any:
        with no_grad():
            outputs = function(ctx, *args)
        if not is_grad_enabled():
            return outputs
        if not any(isinstance(a, Tensor) and a.requires_grad for a in args):
            return outputs
        results = outputs if isinstance(outputs, tuple) else (outputs,)
        results = tuple(
            refuse_second_derivative(r) if isinstance(r, Tensor) else r for r in results
        )
        return results if isinstance(outputs, tuple) else results[0]

    return wrapper
