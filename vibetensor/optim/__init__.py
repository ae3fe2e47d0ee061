"""Optimizers and learning-rate schedules, with PyTorch's names."""

from vibetensor.optim import lr_scheduler
from vibetensor.optim.adam import Adam, AdamW
from vibetensor.optim.muon import Muon
from vibetensor.optim.optimizer import Optimizer
from vibetensor.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Muon", "Optimizer", "lr_scheduler"]
