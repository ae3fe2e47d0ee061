"""Losses."""

from __future__ import annotations

import warnings

from vibetensor.core.tensor import Tensor
from vibetensor.nn import functional as F
from vibetensor.nn.module import Module


def _check_reduction(reduction: str) -> str:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


class CrossEntropyLoss(Module):
    """Cross entropy between logits and class indices (or class probabilities).

    Parameters
    ----------
    weight : Tensor, optional
        A weight for each class.
    ignore_index : int
        Targets of this class count for nothing.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.
    label_smoothing : float
        Share of the target taken from the true class and spread over all.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = _check_reduction(reduction)
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class MSELoss(Module):
    """Mean of the squared differences."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = _check_reduction(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if input.shape != target.shape:
            warnings.warn(
                f"Using a target size ({target.shape}) that is different to the input size "
                f"({input.shape}). This will likely lead to incorrect results due to "
                "broadcasting. Please ensure they have the same size.",
                stacklevel=2,
            )
        difference = input - target
        squares = difference * difference
        if self.reduction == "none":
            return squares
        return squares.mean() if self.reduction == "mean" else squares.sum()
