"""Attention over packed sequences of different lengths, with ``torch.nn.attention.varlen``'s
names."""

from __future__ import annotations

from typing import NamedTuple

from vibetensor.core.random import Generator
from vibetensor.core.tensor import Tensor
from vibetensor.ops import attention as _ops

__all__ = ["AuxRequest", "varlen_attn"]


class AuxRequest(NamedTuple):
    """What :func:`varlen_attn` returns besides the result."""

    lse: bool = False


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    return_aux: AuxRequest | None = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    dropout_p: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    generator: Generator | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention of each sequence to itself, the sequences lying one after the other.

    Parameters
    ----------
    query, key, value : Tensor
        (queries, H, D), (keys, H, D) and (keys, H, E), of all sequences together.
    cu_seq_q, cu_seq_k : Tensor
        int32, of the number of sequences + 1: sequence s has the rows cu[s] to cu[s + 1]. On the
        CPU RuntimeError if they decrease or go too far; on CUDA, where reading them would wait for
        the device, they must be right. Rows behind the last sequence give zeros, also as
        log-sum-exp, and get zero gradients.
    max_q, max_k : int
        No sequence is longer.
    return_aux : AuxRequest, optional
        ``AuxRequest(lse=True)`` returns the log-sum-exp too, (queries, H), without a gradient.
    scale, window_size, enable_gqa, dropout_p, alibi_slopes, deterministic, generator
        As in :func:`vibetensor.nn.attention.attention`; queries and keys of a sequence are aligned
        at their ends, so ``window_size=(-1, 0)`` is causal.

    Returns
    -------
    Tensor
        (queries, H, E).

    Examples
    --------
    >>> x = vt.ones(5, 1, 2)
    >>> cu = vt.tensor([0, 2, 5], dtype=vt.int32)
    >>> vt.nn.attention.varlen.varlen_attn(x, x, x, cu, cu, 3, 3).shape
    vibetensor.Size([5, 1, 2])
    """
    out, lse = _ops.varlen_attention(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, window_size, enable_gqa,
        dropout_p, alibi_slopes, deterministic, generator,
    )  # fmt: skip
    return (out, lse) if return_aux is not None and return_aux.lse else out
