"""The functional forms of the network operators, from the operator table."""

from vibetensor.ops import surface

globals().update(surface("nn.functional"))
globals().update(
    {name: surface("vt")[name] for name in ("relu_", "tanh", "sigmoid", "softmax", "log_softmax")}
)

relu = globals().pop("functional_relu")
relu.__name__ = relu.__qualname__ = "relu"

__all__ = sorted(name for name in globals() if not name.startswith("_") and name != "surface")
