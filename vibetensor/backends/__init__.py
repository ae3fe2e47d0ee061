"""Settings of single backends, under ``torch.backends``'s names."""

from vibetensor.backends import cuda

__all__ = ["cuda"]
