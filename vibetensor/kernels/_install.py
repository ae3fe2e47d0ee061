"""When Triton learns of us: as soon as CUDA has started and Triton is imported."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from typing import Any


def connect() -> None:
    """Install the driver now, or behind the import of Triton. Called when CUDA starts."""
    if sys.modules.get("triton") is not None:
        _install()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def _install() -> None:
    from vibetensor.kernels import _driver

    _driver.install()


class _AfterImport(importlib.abc.MetaPathFinder):
    """Installs the driver behind the import of Triton, and is gone then."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "triton":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            _install()

        spec.loader.exec_module = exec_module
        return spec
