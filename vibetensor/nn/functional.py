"""The functional forms of the network operators, from the operator table."""

from typing import TYPE_CHECKING

from vibetensor.ops import surface

_functions = surface("nn.functional")
globals().update(_functions)
__all__ = sorted(_functions)

if TYPE_CHECKING:
    from typing import Any

    def __getattr__(name: str) -> Any: ...  # functional.pyi, which the build writes, has them all
