"""Helpers that belong to no single room of the library."""

from vibetensor.utils import hooks

__all__ = ["hooks"]
