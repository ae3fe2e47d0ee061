"""The grid runs on every device: the device is a parameter of each test."""

import pytest

import vibetensor as vt

from . import oracle


def cuda_missing():
    """Why there is no CUDA device; None where there is one."""
    if vt.cuda.is_available():
        return None
    try:
        vt.cuda.init()
    except RuntimeError as error:
        return str(error)
    return "no device"


@pytest.fixture(autouse=True, params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Puts the arguments of our side on the device; PyTorch's stay on the CPU."""
    if request.param == "cuda" and (reason := cuda_missing()):
        pytest.skip(f"needs a CUDA device: {reason}")
    oracle.place_arguments(request.param)
    yield request.param
    oracle.place_arguments("cpu")
