"""Settings of the CUDA backend: ``vibetensor.backends.cuda.matmul.allow_tf32``, which ways to
compute attention are allowed (:class:`vibetensor.nn.attention.SDPBackend` says what they are), and
which of its kernels are taken (:attr:`attention`)."""

from vibetensor.backends import _precision
from vibetensor.backends._attention import attention as attention


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


def _switch(name: str, backend: int):
    """The functions that tell and set whether a backend of attention is allowed."""

    def is_enabled() -> bool:
        from vibetensor.ops import attention

        return attention.is_enabled(backend)

    def enable(enabled: bool) -> None:
        from vibetensor.ops import attention

        attention.enable(backend, bool(enabled))

    is_enabled.__doc__ = f"Whether attention may be computed by {name}."
    enable.__doc__ = f"Allow or forbid that attention is computed by {name}."
    return is_enabled, enable


# The numbers are SDPBackend's.
math_sdp_enabled, enable_math_sdp = _switch("other operators", 0)
flash_sdp_enabled, enable_flash_sdp = _switch("the fused kernels", 1)
mem_efficient_sdp_enabled, enable_mem_efficient_sdp = _switch("products and a softmax kernel", 2)
cudnn_sdp_enabled, enable_cudnn_sdp = _switch("cuDNN, which is not used", 3)
