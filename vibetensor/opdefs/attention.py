"""Attention: the operator, its gradient, and the random choice of its dropout.

Note [Which keys a query sees]: queries and keys are aligned at their ends. Key j and query i lie at the
distance ``d = (j - keys) - (i - queries)``, and the query sees the key where ``low <= d <= high``. So a
window is two numbers whatever the lengths, also of packed sequences; PyTorch's ``is_causal``, aligned at
the beginnings, is ``high = queries - keys``.

Note [Packed sequences]: with `cu_queries` and `cu_keys` (int32, one more than there are sequences) the
batch is one, and rows cu[s] to cu[s + 1] are sequence s; `lengths` holds bounds of the two lengths.
"""
from __future__ import annotations

from . import Tensor, composite, kernel

VALUES = (
    "float scale", "float dropout_p", "int seed", "int offset", "int low", "int high",
    "int options", "ints lengths",
)


@kernel(
    "sdpa", surfaces=(), outputs=("result", "lse"), node="ScaledDotProductAttention", values=VALUES,
    differentiable=("query", "key", "value", "mask"),
)
def _sdpa(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, slopes: Tensor | None,
    cu_queries: Tensor | None, cu_keys: Tensor | None, scale: float, dropout_p: float, seed: int,
    offset: int, low: int, high: int, options: int, lengths: list[int],
) -> tuple[Tensor, Tensor]:
    """Attention over (B, H, T, D), and the log-sum-exp of each row of scores.

    `mask` has four dimensions, each of its size or 1; `slopes` (B or 1, H) are ALiBi's. `seed` and
    `offset` are what dropout draws from (cuda_src/vt/attention_dropout.h). `options`: see
    ATTENTION_* in ops/attention.pxd.
    """


@_sdpa.prepare
def _(
    query, key, value, mask, slopes, cu_queries, cu_keys, scale, dropout_p, seed, offset, low, high,
    options, lengths,
):
    return (
        attention_output(query, value, cu_queries is not None),
        attention_lse(query, cu_queries is not None),
    )


@_sdpa.grad
def _(
    grad, query, key, value, mask, slopes, cu_queries, cu_keys, scale, dropout_p, seed, offset, low,
    high, options, lengths, result, lse, wanted,
):
    return sdpa_backward(
        grad, query, key, value, mask, slopes, cu_queries, cu_keys, result, lse, scale, dropout_p,
        seed, offset, low, high, options, lengths, wanted,
    )


@_sdpa.reference
def _(
    query, key, value, mask, slopes, cu_queries, cu_keys, scale, dropout_p, seed, offset, low, high,
    options, lengths,
):
    return attention_of_operators(
        query, key, value, mask, slopes, cu_queries, cu_keys, scale, dropout_p, seed, offset, low,
        high, lengths,
    )[0], None


@kernel(
    "sdpa_backward", surfaces=(), outputs=("grad_query", "grad_key", "grad_value", "grad_mask"),
    values=VALUES,
)
def sdpa_backward(
    grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    slopes: Tensor | None, cu_queries: Tensor | None, cu_keys: Tensor | None, output: Tensor,
    lse: Tensor, scale: float, dropout_p: float, seed: int, offset: int, low: int, high: int,
    options: int, lengths: list[int], wanted: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of attention; None where not wanted."""


@sdpa_backward.prepare
def _(
    grad_output, query, key, value, mask, slopes, cu_queries, cu_keys, output, lse, scale, dropout_p,
    seed, offset, low, high, options, lengths, wanted,
):
    grads = attention_gradients(query, key, value, cu_queries is not None, wanted)
    return (
        grads[0], grads[1], grads[2],
        attention_mask_gradient(query, key, mask, options) if wanted[3] else None,
    )


@kernel(
    "attention_dropout", surfaces=(), exact=True, differentiable=(),
    values=("float dropout_p", "int seed", "int offset"),
)
def _attention_dropout(
    query: Tensor, queries: int, keys: int, dropout_p: float, seed: int, offset: int
) -> Tensor:
    """What dropout multiplies the weights (B, H, queries, keys) of attention by; query (B, H, ...)
    gives the first two sizes."""


@_attention_dropout.prepare
def _(query, queries, keys, dropout_p, seed, offset):
    return new_statistic(query, (query.sizes[0], query.sizes[1], queries, keys))


@composite(surfaces=("nn.functional",))
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``dropout(softmax(query @ key.T * scale + mask)) @ value``.

    query (..., H, T, D), key (..., H, S, D), value (..., H, S, E); `attn_mask` broadcasts to
    (..., H, T, S): bool (True takes part), or of the dtype of `query`, which is added; a float32 one
    is cast to it. `scale` is ``1 / sqrt(D)`` by default.
    With `enable_gqa` key and value may have fewer heads, a divisor of H. A query that sees no key
    gives zeros. `vibetensor.nn.attention` has windows, ALiBi, packed sequences and the log-sum-exp.

    >>> q = vt.ones(1, 2, 3, 4)
    >>> F.scaled_dot_product_attention(q, q, q, is_causal=True).shape
    vibetensor.Size([1, 2, 3, 4])
    """
    return sdpa_composite(
        query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
    )
