"""Parameters: the tensors that a module lists and an optimizer updates."""

from __future__ import annotations

from typing import Any

from vibetensor.core.tensor import Tensor


class Parameter(Tensor):
    """A tensor that registers itself when it is assigned to a module's attribute.

    Parameters
    ----------
    data : Tensor, optional
        The values; the parameter shares their memory. An empty float32 tensor when left out.
    requires_grad : bool
        Whether backward computes a gradient for it.

    Examples
    --------
    >>> weight = vt.nn.Parameter(vt.zeros(2, 3))
    >>> weight.requires_grad, weight.is_leaf
    (True, True)
    """

    __slots__ = ()

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        super().__init__(data)
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        # Without the gradient, which a plain tensor's copy takes along.
        copied = memo.get(id(self))
        if copied is None:
            copied = memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        return copied
