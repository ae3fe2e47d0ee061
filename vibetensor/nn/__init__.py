"""Neural network modules, with PyTorch's names."""

from vibetensor.nn import attention, functional, init, utils
from vibetensor.nn.module import Module
from vibetensor.nn.modules import *
from vibetensor.nn.modules import __all__ as _modules
from vibetensor.nn.parameter import Parameter

__all__ = ["Module", "Parameter", "attention", "functional", "init", "utils", *_modules]
