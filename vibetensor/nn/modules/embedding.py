"""Tables of vectors."""

from __future__ import annotations

from typing import Any

import vibetensor as vt
from vibetensor.autograd.grad_mode import no_grad
from vibetensor.core.tensor import Tensor
from vibetensor.nn import functional as F
from vibetensor.nn import init
from vibetensor.nn.module import Module
from vibetensor.nn.parameter import Parameter


class Embedding(Module):
    """A table of vectors, looked up by integer.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows and columns of the table.
    padding_idx : int, optional
        A row that starts as zeros and gets no gradient; negative counts from the end.
    device, dtype
        Of the table.

    Examples
    --------
    >>> import vibetensor as vt
    >>> vt.nn.Embedding(10, 3)(vt.tensor([1, 2])).shape
    vibetensor.Size([2, 3])
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = _check_padding(padding_idx, num_embeddings)
        self.weight = Parameter(vt.empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None
    ) -> Embedding:
        """Make the module around an existing (rows, columns) table, not trained if ``freeze``."""
        if embeddings.dim() != 2:
            raise ValueError("Embeddings parameter is expected to be 2-dimensional")
        rows, columns = embeddings.shape
        module = cls.__new__(cls)
        Module.__init__(module)
        module.num_embeddings = rows
        module.embedding_dim = columns
        module.padding_idx = _check_padding(padding_idx, rows)
        module.weight = Parameter(embeddings, requires_grad=not freeze)
        return module

    def reset_parameters(self) -> None:
        """Draw the table from the normal distribution; the padding row is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight.select(0, self.padding_idx).zero_()

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


def _check_padding(index: int | None, rows: int) -> int | None:
    if index is None:
        return None
    if not -rows <= index < rows:
        raise ValueError(
            f"padding_idx must be within num_embeddings: got {index} for {rows} embeddings"
        )
    return index % rows
