"""The public names of the top-level module, gathered from where they are defined."""

from math import e, inf, nan, pi

import vibetensor.core.pickling  # noqa: F401  (this and the next install methods on Tensor)
import vibetensor.core.protocol  # noqa: F401
from vibetensor import ops as _ops
from vibetensor.autograd.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from vibetensor.backends._determinism import (
    are_deterministic_algorithms_enabled,
    is_deterministic_algorithms_warn_only_enabled,
    use_deterministic_algorithms,
)
from vibetensor.backends._precision import (
    get_float32_matmul_precision,
    set_float32_matmul_precision,
)
from vibetensor.core.autocast import (
    autocast_decrement_nesting,
    autocast_increment_nesting,
    clear_autocast_cache,
    get_autocast_dtype,
    is_autocast_cache_enabled,
    is_autocast_enabled,
    set_autocast_cache_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)
from vibetensor.core.device import device, get_default_device, set_default_device
from vibetensor.core.dispatch import get_num_threads, set_num_threads
from vibetensor.core.dlpack import from_dlpack
from vibetensor.core.dtype import (
    can_cast,
    dtype,
    get_default_dtype,
    promote_types,
    set_default_dtype,
)
from vibetensor.core.errors import OutOfMemoryError
from vibetensor.core.factory import as_tensor, asarray, tensor
from vibetensor.core.interop import from_numpy, frombuffer
from vibetensor.core.numeric_limits import finfo, iinfo
from vibetensor.core.printing import get_printoptions, printoptions, set_printoptions
from vibetensor.core.random import (
    Generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from vibetensor.core.tensor import Size, Tensor
from vibetensor.core.dtype import DTYPES as _DTYPES

globals().update(_DTYPES)
globals().update(_ops.surface("vt"))

newaxis = None
__version__ = "0.1.0"


def get_include():
    """The folder of the C headers, for extensions that ``cimport vibetensor``."""
    import os

    return os.path.join(os.path.dirname(__file__), "include")
