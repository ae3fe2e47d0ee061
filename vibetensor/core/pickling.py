"""Copying and pickling of tensors: ``copy.copy``, ``copy.deepcopy``, ``pickle``."""

import copy
import pickle

from vibetensor.core.interop import tensor_bytes, tensor_from_bytes
from vibetensor.core.tensor import Tensor, install


def _rebuild(cls, buffer, dtype, shape, device, requires_grad, attributes):
    """The tensor of a pickle."""
    t = tensor_from_bytes(buffer, dtype, shape)
    if device != "cpu":
        t = t.to(device)
    return _dress(t, cls, requires_grad, attributes)


def _dress(t, cls, requires_grad, attributes):
    """`t`, which is ours alone, as an instance of `cls` with Python attributes."""
    if cls is not Tensor:
        t = cls(t)
    if t.requires_grad != requires_grad:
        t.requires_grad_(requires_grad)
    if attributes:
        t.__dict__.update(attributes)
    return t


def _reduce_ex(self, protocol):
    """Pickles the elements, dtype, shape, device, requires_grad and Python attributes.

    History and hooks are not kept, nor that two tensors are views of one memory.
    """
    data = tensor_bytes(self.detach())
    buffer = pickle.PickleBuffer(data) if protocol >= 5 else bytes(data)
    return _rebuild, (
        type(self),
        buffer,
        self.dtype,
        tuple(self.shape),
        str(self.device),
        self.requires_grad,
        dict(self.__dict__),
    )


def _copy(self):
    """A new tensor object over the same memory, without history."""
    return _dress(self.detach(), type(self), self.requires_grad, self.__dict__)


def _deepcopy(self, memo):
    """A tensor with memory of its own; only of a leaf, with its gradient."""
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol at the moment"
        )
    attributes = copy.deepcopy(self.__dict__, memo)
    out = _dress(self.detach().clone(), type(self), self.requires_grad, attributes)
    memo[id(self)] = out
    if self.grad is not None:
        out.grad = copy.deepcopy(self.grad, memo)
    return out


for _name, _function in (
    ("__reduce_ex__", _reduce_ex),
    ("__copy__", _copy),
    ("__deepcopy__", _deepcopy),
):
    install(_name, _function)
