"""Mixed precision: regions whose products run in a low precision, and losses scaled for float16.

>>> import vibetensor as vt
>>> weight = vt.ones(3, 2, requires_grad=True)
>>> with vt.amp.autocast("cpu"):
...     y = vt.ones(1, 2) @ weight.T
>>> y.dtype
vibetensor.bfloat16
"""

from vibetensor.amp.autocast_mode import autocast, custom_bwd, custom_fwd
from vibetensor.amp.grad_scaler import GradScaler
from vibetensor.core.autocast import is_autocast_available

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
