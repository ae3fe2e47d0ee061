"""The functional forms of the network operators, from the operator table."""

from typing import TYPE_CHECKING

from vibetensor.ops import surface

_functions = dict(surface("nn.functional"))
for _name in ("relu_", "tanh", "sigmoid", "softmax", "log_softmax"):
    _functions[_name] = surface("vt")[_name]
_relu = _functions["relu"] = _functions.pop("functional_relu")  # the table has one `relu` already
_relu.__name__ = _relu.__qualname__ = "relu"

globals().update(_functions)
__all__ = sorted(_functions)

if TYPE_CHECKING:
    from typing import Any

    def __getattr__(name: str) -> Any: ...  # functional.pyi, which the build writes, has them all
