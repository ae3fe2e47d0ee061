"""What tests of CUDA stand on: the simulated driver, or a device."""

import pytest

import vibetensor as vt
from vibetensor.testing.cuda import has_gpu, simulated_driver, uses_gpu


@pytest.fixture
def driver():
    """A simulated driver that has nothing to object to in the end."""
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
    if not has_gpu():
        pytest.skip("needs a CUDA device")
    yield "cuda"
    vt.cuda.synchronize()
