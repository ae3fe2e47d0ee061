"""Semantics tests run on both libraries: what they state of ours must be true of PyTorch."""

import pytest
import torch

import vibetensor


@pytest.fixture(params=[vibetensor, torch], ids=["vibetensor", "torch"])
def lib(request):
    return request.param
