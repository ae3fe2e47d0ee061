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


@pytest.fixture
def driver():
    """A simulated driver that has nothing to object to in the end."""
    import vibetensor as vt
    from vibetensor.testing.cuda import simulated_driver, uses_gpu

    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if uses_gpu():
        pytest.skip("this process uses a GPU")
    with simulated_driver() as driver:
        yield driver
        assert driver.violations() == []


@pytest.fixture
def device():
    """The GPU, with nothing left to do in the end."""
    import vibetensor as vt
    from vibetensor.testing.cuda import has_gpu

    if not has_gpu():
        pytest.skip("needs a CUDA device")
    yield "cuda"
    vt.cuda.synchronize()


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
