"""What tests of several folders share."""

import functools
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


@functools.cache
def no_gpu():
    """Why tests marked `gpu` cannot run here; None where they can."""
    import vibetensor as vt

    if vt.cuda.is_available():
        from vibetensor.cuda import _runtime

        return "the driver is simulated" if _runtime.is_simulated() else None
    try:
        vt.cuda.init()
    except RuntimeError as error:
        return str(error)
    return "none is there"


def pytest_sessionstart():
    no_gpu()  # before a test puts the simulated driver in its place


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        if reason := no_gpu():
            pytest.skip(f"needs a CUDA device: {reason}")
    elif "driver" in item.fixturenames and no_gpu() is None:
        pytest.skip("the simulated driver cannot take the place of a real one that is in use")
