"""The transformer block that the examples share."""

from __future__ import annotations

import math
from typing import Any


def build_block(lib: Any, dim: int, heads: int, dropout: float, causal: bool) -> Any:
    """Self-attention, then a network at each position; both add to what comes in.

    ``lib`` is the library whose modules it is made of. (batch, length, dim) to the same.
    """
    nn, F = lib.nn, lib.nn.functional

    class Attention(nn.Module):  # type: ignore[name-defined]
        """Every position looks at all positions or, if causal, at itself and those before it."""

        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(dim, 3 * dim)
            self.out = nn.Linear(dim, dim)

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = (
                part.view(batch, length, heads, -1).transpose(1, 2)
                for part in self.qkv(x).split(dim, dim=2)
            )
            rate = dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=causal)
            return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))

    class Block(nn.Module):  # type: ignore[name-defined]
        """One layer of the transformer, with the norms in front."""

        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(dim)
            self.attention = Attention()
            self.norm2 = nn.LayerNorm(dim)
            self.mlp = nn.Sequential(
                nn.Linear(dim, 4 * dim),
                nn.GELU(approximate="tanh"),
                nn.Linear(4 * dim, dim),
            )

        def forward(self, normed: Any, x: Any, following: Any) -> tuple[Any, Any]:
            """From ``norm1(x)`` and ``x`` to what comes out, itself and normed by ``following``."""
            rate = dropout if self.training else 0.0
            normed, x = add_and_normalise(lib, self.attention(normed), x, self.norm2, rate)
            return add_and_normalise(lib, apply_mlp(lib, self.mlp, normed), x, following, rate)

    return Block()


def run_blocks(blocks: Any, norm: Any, x: Any) -> Any:
    """``norm`` of what the layers make of ``x``. What a branch adds is added where the next norm
    reads it, be it that of the next layer."""
    norms = [*(block.norm1 for block in blocks), norm]
    normed = norms[0](x)
    for block, following in zip(blocks, norms[1:], strict=True):
        normed, x = block(normed, x, following)
    return normed


# What a library may have in one pass, and otherwise is several.


def add_and_normalise(lib: Any, branch: Any, x: Any, norm: Any, rate: float) -> tuple[Any, Any]:
    """The norm of ``x + dropout(branch)``, and that sum."""
    F = lib.nn.functional
    if hasattr(F, "add_layer_norm"):
        shape, eps = norm.normalized_shape, norm.eps
        return F.add_layer_norm(branch, x, shape, norm.weight, norm.bias, eps, rate)
    x = x + (F.dropout(branch, rate) if rate else branch)
    return norm(x), x


def apply_mlp(lib: Any, mlp: Any, x: Any) -> Any:
    """``mlp(x)``, a linear layer, GELU and another linear layer."""
    F = lib.nn.functional
    if hasattr(F, "gelu_mlp"):
        return F.gelu_mlp(x, mlp[0].weight, mlp[0].bias, mlp[2].weight, mlp[2].bias)
    return mlp(x)


def embed(lib: Any, tokens: Any, table: Any, positions: Any) -> Any:
    """The rows of ``table`` that (batch, length) tokens name, plus those of their positions."""
    F = lib.nn.functional
    if hasattr(F, "embedding_with_position"):
        return F.embedding_with_position(tokens, table, positions)
    return F.embedding(tokens, table) + positions[: tokens.shape[1]]


def initialise(lib: Any, model: Any, layers: int) -> None:
    """Small normal matrices, zero biases; what is added to the residual stream starts smaller."""
    init = lib.nn.init
    for name, parameter in model.named_parameters():
        if name.endswith(("out.weight", "mlp.2.weight")):
            init.normal_(parameter, std=0.02 / math.sqrt(2 * layers))
        elif parameter.dim() >= 2:
            init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            init.zeros_(parameter)
