"""Reverse-mode automatic differentiation, with the API of ``torch.autograd``."""

import vibetensor.autograd.tensor_methods  # installs them
from vibetensor.autograd.api import backward, grad
from vibetensor.autograd.function import Function
from vibetensor.autograd.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from vibetensor.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from vibetensor.autograd.node import Node

__all__ = [
    "Function",
    "GradcheckError",
    "Node",
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_grad_enabled",
]
