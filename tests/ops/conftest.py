"""The grid runs on every device: the device is a parameter of each test."""

import pytest

from . import oracle


@pytest.fixture(autouse=True, params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Puts the arguments of our side on the device; PyTorch's stay on the CPU."""
    oracle.place_arguments(request.param)
    yield request.param
    oracle.place_arguments("cpu")
