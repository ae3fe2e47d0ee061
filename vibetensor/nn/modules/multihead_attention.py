"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

import vibetensor as vt
from vibetensor.core.tensor import Tensor
from vibetensor.nn import functional as F
from vibetensor.nn import init
from vibetensor.nn.module import Module
from vibetensor.nn.modules.linear import Linear
from vibetensor.nn.parameter import Parameter


class MultiheadAttention(Module):
    """Attention of several heads, each on a projection of its own, and a projection of them all.

    Vaswani et al., arXiv 1706.03762.

    Parameters
    ----------
    embed_dim : int
        Features of queries and of the result, a multiple of `num_heads`.
    num_heads : int
        Number of heads.
    dropout : float
        The probability that a weight is dropped in training.
    bias : bool
        Whether the projections have biases.
    add_bias_kv : bool
        Append a learned key and value to the sequence.
    add_zero_attn : bool
        Append a key and value of zeros.
    kdim, vdim : int, optional
        Features of keys and values, `embed_dim` by default.
    batch_first : bool
        Whether inputs and result are (batch, time, features), not (time, batch, features).
    device, dtype
        Of the parameters.

    Examples
    --------
    >>> x = vt.ones(3, 2, 8)
    >>> out, weights = vt.nn.MultiheadAttention(8, 2)(x, x, x)
    >>> out.shape, weights.shape
    (vibetensor.Size([3, 2, 8]), vibetensor.Size([2, 3, 3]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and "
                f"num_heads={num_heads} instead"
            )
        super().__init__()
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        self.add_zero_attn = add_zero_attn
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")

        def parameter(name: str, *shape: int, wanted: bool = True) -> None:
            values = Parameter(vt.empty(*shape, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, values)

        same = self._qkv_same_embed_dim
        parameter("q_proj_weight", embed_dim, embed_dim, wanted=not same)
        parameter("k_proj_weight", embed_dim, self.kdim, wanted=not same)
        parameter("v_proj_weight", embed_dim, self.vdim, wanted=not same)
        parameter("in_proj_weight", 3 * embed_dim, embed_dim, wanted=same)
        parameter("in_proj_bias", 3 * embed_dim, wanted=bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        parameter("bias_k", 1, 1, embed_dim, wanted=add_bias_kv)
        parameter("bias_v", 1, 1, embed_dim, wanted=add_bias_kv)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (
            self.in_proj_weight,
            self.q_proj_weight,
            self.k_proj_weight,
            self.v_proj_weight,
        ):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        if self.bias_k is not None:
            init.xavier_normal_(self.bias_k)
            init.xavier_normal_(self.bias_v)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Parameters
        ----------
        query, key, value : Tensor
            (T, B, embed_dim), (S, B, kdim) and (S, B, vdim); batch first if the module says so, or
            without a batch dimension.
        key_padding_mask : Tensor, optional
            (B, S), bool (True: left out) or floating (added to the scores).
        need_weights : bool
            Return the weights too, which the fused kernels cannot.
        attn_mask : Tensor, optional
            (T, S) or (B * num_heads, T, S), bool (True: left out) or floating (added).
        average_attn_weights : bool
            Whether weights are averaged over heads.
        is_causal : bool
            A hint that `attn_mask` is the causal mask, which must be given.

        Returns
        -------
        (Tensor, Tensor or None)
            The result, of the shape of `query`, and the weights (B, T, S), or (B, num_heads, T, S).
        """
        if query.dim() not in (2, 3):
            raise AssertionError(
                f"query should be unbatched 2D or batched 3D tensor but received {query.dim()}-D "
                "query tensor"
            )
        if key.dim() != query.dim() or value.dim() != query.dim():
            raise AssertionError(
                f"For {'batched' if query.dim() == 3 else 'unbatched'} ({query.dim()}-D) `query`, "
                f"expected `key` and `value` to be {query.dim()}-D but found {key.dim()}-D and "
                f"{value.dim()}-D tensors respectively"
            )
        if query.shape[-1] != self.embed_dim:
            raise AssertionError(
                f"was expecting embedding dimension of {self.embed_dim}, but got {query.shape[-1]}"
            )
        if is_causal and attn_mask is None:
            raise RuntimeError(
                "Need attn_mask if specifying the is_causal hint. You may use the "
                "Transformer module method `generate_square_subsequent_mask` to create this mask."
            )
        batched = query.dim() == 3
        q, k, v = self._projected(query, key, value, batched)
        batch, _, queries, _ = q.shape
        added = 0
        if self.bias_k is not None and self.bias_v is not None:
            k, v = self._with_bias(k, self.bias_k), self._with_bias(v, self.bias_v)
            added += 1
        if self.add_zero_attn:
            k, v = (vt.cat([t, vt.zeros_like(t[:, :, :1])], 2) for t in (k, v))
            added += 1
        causal = is_causal and key_padding_mask is None and not need_weights and not added
        mask = None
        if not causal:
            mask = self._mask(attn_mask, key_padding_mask, batch, queries, k.shape[2], added, q)
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            out, weights = _with_weights(q, k, v, mask, p)
            if average_attn_weights:
                weights = weights.mean(1)
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, p, causal)
        out = out.transpose(1, 2) if self.batch_first or not batched else out.permute(2, 0, 1, 3)
        out = self.out_proj(out.flatten(2))
        if not batched:
            out, weights = out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out, weights

    def _projected(
        self, query: Tensor, key: Tensor, value: Tensor, batched: bool
    ) -> tuple[Tensor, ...]:
        """Query, key and value of each head, (B, H, time, head_dim)."""
        if not self._qkv_same_embed_dim:
            biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
            matrices = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
            parts = [
                F.linear(t, weight, bias)
                for t, weight, bias in zip((query, key, value), matrices, biases, strict=True)
            ]
        elif query is key and key is value:
            parts = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            weights = self.in_proj_weight.chunk(3)
            biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
            parts = [
                F.linear(t, weight, bias)
                for t, weight, bias in zip((query, key, value), weights, biases, strict=True)
            ]
        heads = []
        for t in parts:
            if not batched:
                t = t.unsqueeze(0)
            shape = (*t.shape[:2], self.num_heads, self.head_dim)
            t = t.reshape(shape)
            heads.append(
                t.transpose(1, 2) if self.batch_first or not batched else t.permute(1, 2, 0, 3)
            )
        return tuple(heads)

    def _with_bias(self, t: Tensor, bias: Tensor) -> Tensor:
        row = bias.reshape(1, self.num_heads, 1, self.head_dim)
        return vt.cat([t, row.expand(t.shape[0], -1, -1, -1)], 2)

    def _mask(
        self,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        batch: int,
        queries: int,
        keys: int,
        added: int,
        like: Tensor,
    ) -> Tensor | None:
        """Both masks as one that attention takes: bool (True takes part) if both are bool."""
        masks = []
        if attn_mask is not None:
            if attn_mask.dim() == 2:
                expected: tuple[int, ...] = (queries, keys - added)
            elif attn_mask.dim() == 3:
                expected = (batch * self.num_heads, queries, keys - added)
            else:
                raise RuntimeError(f"attn_mask's dimension {attn_mask.dim()} is not supported")
            if tuple(attn_mask.shape) != expected:
                raise RuntimeError(
                    f"The shape of the {attn_mask.dim()}D attn_mask is {tuple(attn_mask.shape)}, "
                    f"but should be {expected}."
                )
            if attn_mask.dim() == 3:
                attn_mask = attn_mask.reshape(batch, self.num_heads, queries, keys - added)
            masks.append(("attn_mask", attn_mask))
        if key_padding_mask is not None:
            flat = (batch, keys - added)
            if tuple(key_padding_mask.shape) not in (flat, flat[1:] if batch == 1 else flat):
                raise AssertionError(
                    f"Expected key_padding_mask.shape[0] to be {flat[0]} and shape[1] to be "
                    f"{flat[1]}, but got {tuple(key_padding_mask.shape)}"
                )
            shape = (batch, 1, 1, keys - added)
            masks.append(("key_padding_mask", key_padding_mask.reshape(shape)))
        for name, mask in masks:
            if mask.dtype != vt.bool and not mask.is_floating_point():
                raise AssertionError(f"only bool and floating types of {name} are supported")
        if added:
            masks = [
                (name, vt.cat([m, vt.zeros_like(m[..., :1]).expand(*m.shape[:-1], added)], -1))
                for name, m in masks
            ]
        if all(mask.dtype == vt.bool for _, mask in masks):
            hidden = None
            for _, mask in masks:
                hidden = mask if hidden is None else hidden | mask
            return None if hidden is None else ~hidden
        total = None
        for _, mask in masks:
            if mask.dtype == vt.bool:
                mask = vt.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
            mask = mask.to(like.dtype)
            total = mask if total is None else total + mask
        return total


def _with_weights(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float
) -> tuple[Tensor, Tensor]:
    """The result and the weights, which are made for it."""
    scores = (q * math.sqrt(1.0 / q.shape[-1])) @ k.transpose(-2, -1)
    if mask is not None and mask.dtype == vt.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask
    weights = F.softmax(scores, dim=-1)
    if p > 0:
        weights = F.dropout(weights, p)
    return weights @ v, weights
