"""Kernels written in Triton, and the launch of users' own.

Importing this imports neither Triton nor a driver. The kernels are functions of the modules beside
this one; operators launch them from C++ (vibetensor/cuda/triton_kernel.h).
"""

from vibetensor.kernels._image import has_archive


def is_available() -> bool:
    """Whether operators can use Triton's kernels: Triton is installed, or machine code was built
    with the package."""
    from vibetensor.kernels import _compile

    return _compile.installed() or has_archive()


def is_enabled() -> bool:
    """Whether operators may use Triton's kernels where they can."""
    return bool(_launcher().is_enabled())


def enable(enabled: bool = True) -> bool:
    """Let operators use Triton's kernels (as at the start), or not: they then take CUDA kernels.

    Returns
    -------
    bool
        What was set before.
    """
    before = bool(_launcher().enable(enabled))
    tell_operators()
    return before


def tell_operators() -> None:
    """Have the operators that choose between ways ask anew which there are."""
    from vibetensor.ops import attention

    attention.kernels_from(lambda: is_available() and is_enabled())


def _launcher():
    from vibetensor.cuda import _triton

    return _triton
