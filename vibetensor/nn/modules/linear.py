"""Linear maps."""

from __future__ import annotations

import math
from typing import Any

import vibetensor as vt
from vibetensor.core.tensor import Tensor
from vibetensor.nn import functional as F
from vibetensor.nn import init
from vibetensor.nn.module import Module
from vibetensor.nn.parameter import Parameter


class Identity(Module):
    """Returns its input; takes any arguments, so that it can stand for any module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """``y = x @ weight.T + bias``.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last dimension of input and output; the weight is (out, in).
    bias : bool
        Whether there is a bias, of shape (out,).
    device, dtype
        Of the parameters.

    Examples
    --------
    >>> import vibetensor as vt
    >>> vt.nn.Linear(4, 2)(vt.ones(3, 4)).shape
    vibetensor.Size([3, 2])
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(vt.empty(out_features, in_features, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(vt.empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly from +-1 / sqrt(in_features)."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
