"""The operators. Importing this package loads every generated module and installs the methods."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vibetensor.opdefs import FAMILIES
from vibetensor.ops.support import SURFACES

for _family in FAMILIES:
    import_module(f"vibetensor.ops.ops_{_family}")
import_module("vibetensor.ops.factories")
import_module("vibetensor.ops.functions")

globals().update(SURFACES["ops"])


def surface(name):
    """The functions published under a module name: ``surface("nn.functional")["gelu"]``."""
    return SURFACES[name]


if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...  # the private operators
