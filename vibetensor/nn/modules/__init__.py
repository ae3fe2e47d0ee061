"""The modules, one file per family."""

from vibetensor.nn.modules.activation import GELU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from vibetensor.nn.modules.container import ModuleDict, ModuleList, Sequential
from vibetensor.nn.modules.conv import Conv1d
from vibetensor.nn.modules.dropout import Dropout
from vibetensor.nn.modules.embedding import Embedding
from vibetensor.nn.modules.flatten import Flatten
from vibetensor.nn.modules.linear import Identity, Linear
from vibetensor.nn.modules.loss import CrossEntropyLoss, MSELoss
from vibetensor.nn.modules.multihead_attention import MultiheadAttention
from vibetensor.nn.modules.normalization import LayerNorm, RMSNorm
from vibetensor.nn.modules.transformer import TransformerEncoder, TransformerEncoderLayer

__all__ = [
    "GELU",
    "Conv1d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]
