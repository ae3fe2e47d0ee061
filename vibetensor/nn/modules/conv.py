"""Convolutions."""

from __future__ import annotations

import math
from typing import Any

import vibetensor as vt
from vibetensor.core.tensor import Tensor
from vibetensor.nn import functional as F
from vibetensor.nn import init
from vibetensor.nn.module import Module
from vibetensor.nn.parameter import Parameter


def _single(value: int | tuple[int]) -> int:
    return value if isinstance(value, int) else value[0]


class Conv1d(Module):
    """Convolution over the last dimension of a (N, channels, length) or (channels, length) input.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output; both divisible by ``groups``.
    kernel_size, stride, dilation : int
        Geometry of the window.
    padding : int, "valid" or "same"
        Zeros added at both ends; "same" keeps the length, and wants a stride of 1.
    groups : int
        Channels are split into this many groups that do not see each other.
    bias : bool
        Whether there is a bias, of shape (out_channels,).
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | str | tuple[int] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if padding_mode != "zeros":
            raise ValueError(f"Conv1d: padding_mode must be 'zeros', got {padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = (_single(kernel_size),)
        self.stride = (_single(stride),)
        self.dilation = (_single(dilation),)
        self.groups = groups
        self.padding = padding if isinstance(padding, str) else (_single(padding),)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(
                    f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}"
                )
            if padding == "same" and self.stride != (1,):
                raise ValueError("padding='same' is not supported for strided convolutions")
        self.weight = Parameter(
            vt.empty(
                out_channels, in_channels // groups, *self.kernel_size, device=device, dtype=dtype
            )
        )
        if bias:
            self.bias = Parameter(vt.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly from +-1 / sqrt(fan_in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = self.weight.shape[1] * self.weight.shape[2]
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv1d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        if self.padding != (0,):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)
