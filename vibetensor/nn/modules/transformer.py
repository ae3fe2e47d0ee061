"""The encoder of a Transformer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from vibetensor.core.tensor import Tensor
from vibetensor.nn import functional as F
from vibetensor.nn.module import Module
from vibetensor.nn.modules.container import ModuleList
from vibetensor.nn.modules.dropout import Dropout
from vibetensor.nn.modules.linear import Linear
from vibetensor.nn.modules.multihead_attention import MultiheadAttention
from vibetensor.nn.modules.normalization import LayerNorm

Activation = Callable[[Tensor], Tensor]


class TransformerEncoderLayer(Module):
    """Self-attention, then two linear maps with an activation between; each adds to its input.

    Vaswani et al., arXiv 1706.03762.

    Parameters
    ----------
    d_model, nhead : int
        Features of input and result; number of heads.
    dim_feedforward : int
        Features between the linear maps.
    dropout : float
        Of attention weights, of the activation, and of both results.
    activation : "relu", "gelu" or a function
    layer_norm_eps : float
        Added to variances.
    batch_first : bool
        Whether input and result are (batch, time, features), not (time, batch, features).
    norm_first : bool
        Whether norms come before attention and linear maps, not after.
    bias : bool
        Whether linear maps and norms have biases.
    device, dtype
        Of the parameters.

    Examples
    --------
    >>> layer = vt.nn.TransformerEncoderLayer(8, 2, batch_first=True)
    >>> layer(vt.ones(2, 3, 8)).shape
    vibetensor.Size([2, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        where = {"device": device, "dtype": dtype}
        super().__init__()
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, **where
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **where)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **where)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **where)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **where)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The layer of `src`; masks and the hint `is_causal` are :class:`MultiheadAttention`'s."""
        x = src
        if self.norm_first:
            x = x + self._attention(self.norm1(x), src_mask, src_key_padding_mask, is_causal)
            return x + self._linear_maps(self.norm2(x))
        x = self.norm1(x + self._attention(x, src_mask, src_key_padding_mask, is_causal))
        return self.norm2(x + self._linear_maps(x))

    def _attention(
        self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool
    ) -> Tensor:
        out, _ = self.self_attn(
            x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False,
            is_causal=is_causal,
        )  # fmt: skip
        return self.dropout1(out)

    def _linear_maps(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """A stack of copies of a layer.

    Parameters
    ----------
    encoder_layer : TransformerEncoderLayer
        What is copied.
    num_layers : int
        How often.
    norm : Module, optional
        Applied to the result.
    enable_nested_tensor, mask_check : bool
        Taken for PyTorch's sake; there are no nested tensors here.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm
        self.enable_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """All layers in turn. `is_causal` is a hint that `mask` is the causal one; None is no hint
        (PyTorch compares the mask, which waits for the device)."""
        for layer in self.layers:
            src = layer(
                src,
                src_mask=mask,
                src_key_padding_mask=src_key_padding_mask,
                is_causal=bool(is_causal),
            )
        return src if self.norm is None else self.norm(src)


def _activation(activation: str | Activation) -> Activation:
    if not isinstance(activation, str):
        return activation
    if activation not in ("relu", "gelu"):
        raise RuntimeError(f"activation should be relu/gelu, not {activation}")
    return F.relu if activation == "relu" else F.gelu
