"""What tests of several folders share."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def example():
    """``example("minigpt")`` is the module ``examples/minigpt.py``."""
    folder = str(Path(__file__).parent.parent / "examples")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


def no_gpu():
    """Why tests marked `gpu` cannot run here; None where they can."""
    import vibetensor as vt

    if not vt.cuda.is_available():
        try:
            vt.cuda.init()
        except RuntimeError as error:
            return str(error)
        return "no CUDA device"
    from vibetensor.cuda import _runtime

    return "the CUDA driver in use is simulated" if _runtime.is_simulated() else None


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and (reason := no_gpu()):
        pytest.skip(f"needs a CUDA device: {reason}")
