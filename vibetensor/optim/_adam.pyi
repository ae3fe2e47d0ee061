from collections.abc import Callable, Iterable
from typing import Any

from vibetensor.core.tensor import Tensor

class Rows:
    parameters: list[Tensor]
    gradients: list[Tensor]
    states: list[dict[str, Any]]
    means: list[Tensor]
    squares: list[Tensor]
    step: int
    skipped: Tensor | None

def rows_of(
    parameters: Iterable[Tensor],
    states: dict[Tensor, dict[str, Any]],
    make: Callable[[Tensor], dict[str, Any]],
) -> list[Rows]: ...
def count_step(states: list[dict[str, Any]]) -> None: ...
