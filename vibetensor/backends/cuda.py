"""Settings of the CUDA backend: ``vibetensor.backends.cuda.matmul.allow_tf32``."""

from vibetensor.backends import _precision


def is_built() -> bool:
    """Whether this build has CUDA; :func:`vibetensor.cuda.is_available` says if it can be used."""
    from vibetensor import cuda

    return cuda.is_built()


class _Matmul:
    """Settings of matrix products."""

    @property
    def allow_tf32(self) -> bool:
        """Whether float32 products may round their inputs to TF32 (10 bits of fraction)."""
        return _precision.get_float32_matmul_precision() != "highest"

    @allow_tf32.setter
    def allow_tf32(self, allow: bool) -> None:
        if not isinstance(allow, bool):
            raise TypeError(f"set_allow_tf32_cublas expects a bool, but got {type(allow).__name__}")
        _precision.set_float32_matmul_precision("high" if allow else "highest")

    def __setattr__(self, name, value):
        if name != "allow_tf32":
            raise AttributeError(f"Unknown attribute {name}")
        object.__setattr__(self, name, value)


matmul = _Matmul()
