"""Helpers over a model's parameters and their gradients."""

from vibetensor.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_
from vibetensor.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "parameters_to_vector",
    "vector_to_parameters",
]
