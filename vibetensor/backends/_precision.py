"""The precision of float32 matrix products: one setting of the process, as in PyTorch.

It is kept here, because the CUDA library is loaded at the first use of a device only; what it reads
is set then and at every change.
"""

from __future__ import annotations

PRECISIONS = ("highest", "high", "medium")
_precision = "highest"


def get_float32_matmul_precision() -> str:
    """Get the precision of float32 matrix products; see :func:`set_float32_matmul_precision`."""
    return _precision


def set_float32_matmul_precision(precision: str) -> None:
    """Set how float32 matrix products may round their inputs.

    Parameters
    ----------
    precision : str
        "highest" computes in float32. "high" and "medium" let CUDA use TF32, with 10 bits of
        fraction, where that is faster. Other devices always compute in float32.
    """
    global _precision
    if precision not in PRECISIONS:
        raise RuntimeError(
            f"set_float32_matmul_precision(): precision must be one of {list(PRECISIONS)}, "
            f"got {precision!r}"
        )
    _precision = precision
    from vibetensor.cuda import _startup

    if _startup.is_initialized():
        apply()


def apply() -> None:
    """Hand the setting to the CUDA library, which has been started."""
    from vibetensor.cuda import _blas

    _blas.set_allow_tf32(_precision != "highest")
