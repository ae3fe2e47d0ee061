"""Attention beyond :func:`vibetensor.nn.functional.scaled_dot_product_attention`: windows, ALiBi,
the log-sum-exp, packed sequences (:mod:`vibetensor.nn.attention.varlen`), and the choice of
backend, with ``torch.nn.attention``'s names."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

from vibetensor.core.random import Generator
from vibetensor.core.tensor import Tensor
from vibetensor.nn.attention import varlen
from vibetensor.ops import attention as _ops

__all__ = ["SDPBackend", "attention", "sdpa_kernel", "varlen"]


class SDPBackend(enum.IntEnum):
    """A way to compute attention.

    MATH are other operators (the only one for double backward). FLASH_ATTENTION are the fused
    kernels. EFFICIENT_ATTENTION makes scores by a batched product, with a softmax kernel of its
    own. CUDNN_ATTENTION and OVERRIDEABLE have the numbers that PyTorch gives them; nothing is
    behind them.
    """

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextlib.contextmanager
def sdpa_kernel(
    backends: list[SDPBackend] | SDPBackend, set_priority: bool = False
) -> Iterator[None]:
    """Allow only these backends inside a ``with`` statement; without any that fits, attention
    raises.

    The order is fixed (fused, products, operators), so `set_priority` changes nothing.

    >>> with vt.nn.attention.sdpa_kernel(vt.nn.attention.SDPBackend.MATH):
    ...     y = F.scaled_dot_product_attention(*(vt.ones(1, 1, 2, 4) for _ in range(3)))
    """
    if not isinstance(backends, (list, SDPBackend)):
        raise AssertionError(
            "Backend must be an instance of SDPBackend or a list of SDPBackend instances, got "
            f"{type(backends).__name__}"
        )
    wanted = backends if isinstance(backends, list) else [backends]
    every = [b for b in SDPBackend if b >= 0]
    before = {b: _ops.is_enabled(b) for b in every}
    try:
        for b in every:
            _ops.enable(b, b in wanted)
        yield
    finally:
        for b in every:
            _ops.enable(b, before[b])


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    window_size: tuple[int, int] = (-1, -1),
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention with all that the kernels can do.

    Parameters
    ----------
    query, key, value : Tensor
        (B, H, T, D), (B, H, S, D) and (B, H, S, E), float16, bfloat16, float32 or float64.
    attn_mask : Tensor, optional
        Broadcasts to (B, H, T, S): bool (True takes part) or of the dtype of `query`, which is
        added and may need a gradient; a float32 one is cast to it.
    dropout_p : float
        The probability that a weight is dropped.
    is_causal : bool
        Query i sees the keys up to i, as in PyTorch.
    scale : float, optional
        What scores are multiplied by; ``1 / sqrt(D)`` by default.
    enable_gqa : bool
        Key and value may have fewer heads, a divisor of H.
    window_size : (left, right)
        Query i sees the keys from i + S - T - left to i + S - T + right; -1 is no bound. So
        ``(-1, 0)`` is causal, aligned at the ends of the sequences.
    alibi_slopes : Tensor, optional
        (H,) or (B, H), float32: ``-slope * abs(i + S - T - j)`` is added to the scores
        (Press et al., arXiv 2108.12409). They have no gradient.
    deterministic : bool
        Gradients are the same bits at every run, if that is slower.
    generator : Generator, optional
        What dropout draws from.

    Returns
    -------
    (Tensor, Tensor)
        The result (B, H, T, E), and the log-sum-exp of the scores of each query (B, H, T), float32
        (of float64, float64), which has no gradient. A query that sees no key has 0 and -inf.

    Examples
    --------
    >>> q = vt.ones(1, 1, 3, 2)
    >>> out, lse = vt.nn.attention.attention(q, q, q, window_size=(1, 0), scale=0.0)
    >>> lse.exp()
    tensor([[[1., 2., 2.]]])
    """
    return _ops.attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, window_size,
        alibi_slopes, deterministic, generator,
    )  # fmt: skip
