"""An eager tensor library with PyTorch's Python API and a core in Cython.

>>> import vibetensor as vt
>>> x = vt.ones(2, requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 2.])
"""

import sys as _sys

from vibetensor._source_guard import give_way as _give_way

_give_way(__name__)

if _sys.modules[__name__].__dict__ is globals():  # else the installed package took this one's place
    from vibetensor import _openblas  # noqa: F401  (before the first extension module)
    from vibetensor._public import *  # noqa: F403
    from vibetensor._public import __version__  # noqa: F401

    # These stand on the names above.
    from vibetensor import amp, autograd, backends, cpu, cuda, nn, optim, random  # noqa: F401
    from vibetensor.amp import autocast  # noqa: F401

    def __getattr__(name):
        # Loads numpy, which takes longer than the rest of the library.
        if name in ("load", "save"):
            from vibetensor import serialization

            return getattr(serialization, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
