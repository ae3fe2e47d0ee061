"""Optimizers and learning-rate schedules, with PyTorch's names."""

from vibetensor.optim import lr_scheduler
from vibetensor.optim.adam import Adam, AdamW
from vibetensor.optim.optimizer import Optimizer
from vibetensor.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
