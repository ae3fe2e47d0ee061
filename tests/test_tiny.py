"""Seconds: one check of each room of the library and of each kind of operator."""

import pathlib
import tempfile

import numpy as np
import pytest

import vibetensor as vt
from vibetensor import nn, optim
from vibetensor.nn import functional as F


def test_tensor():
    x = vt.tensor([[1, 2], [3, 4]])
    assert x.shape == (2, 2) and x.stride() == (2, 1) and x.dtype is vt.int64
    assert x.tolist() == [[1, 2], [3, 4]] and x[1, 0].item() == 3
    assert repr(vt.tensor([1.5])) == "tensor([1.5000])"


def test_memory_is_shared_with_numpy():
    a = np.zeros(3, dtype=np.float32)
    x = vt.from_numpy(a)
    x.add_(1)
    assert (
        a.tolist() == [1, 1, 1] and x.numpy() is not a and vt.from_dlpack(x).tolist() == [1, 1, 1]
    )


def test_pointwise():
    x = vt.add(vt.ones(2, 1), vt.arange(3), alpha=2)
    assert x.dtype is vt.float32 and x.tolist() == [[1, 3, 5], [1, 3, 5]]
    assert vt.mul(vt.tensor(2), 1.5).dtype is vt.float32


def test_reduction():
    assert vt.ones(2, 3).sum(1).tolist() == [3, 3]
    assert vt.tensor([True, True]).sum().item() == 2


def test_kernel():
    assert vt.mm(vt.ones(2, 3), vt.ones(3, 2)).tolist() == [[3, 3], [3, 3]]
    assert vt.gather(vt.arange(3), 0, vt.tensor([2, 0])).tolist() == [2, 0]


def test_view():
    x = vt.zeros(2, 3)
    x.transpose(0, 1)[0].fill_(1)
    assert x.tolist() == [[1, 0, 0], [1, 0, 0]] and x._version == 1


def test_composite():
    assert vt.clamp(vt.tensor([-2.0, 5.0]), 0, 1).tolist() == [0, 1]


def test_manual():
    assert vt.zeros(2).copy_(vt.tensor([1, 2])).tolist() == [1, 2]


def test_handwritten():
    values, indices = vt.tensor([3, 1, 2]).max(0)
    assert (values.item(), indices.item()) == (3, 0)


def test_indexing():
    x = vt.arange(12).reshape(3, 4)
    assert x[:, ::-2][0].tolist() == [3, 1] and x[x > 10].tolist() == [11]
    x[0] = 7
    assert x.sum().item() == 28 + 60


def test_random_is_repeatable():
    vt.manual_seed(1)
    a = vt.rand(4)
    vt.manual_seed(1)
    assert vt.rand(4).tolist() == a.tolist()


def test_autograd():
    x = vt.tensor([2.0], requires_grad=True)
    y = (x * x * 3).sum()
    (g,) = vt.autograd.grad(y, x, create_graph=True)
    g.backward()
    assert g.item() == 12 and x.grad.item() == 6


def test_errors():
    with pytest.raises(RuntimeError, match="size"):
        vt.ones(2) + vt.ones(3)
    with pytest.raises(TypeError):
        vt.ones(2).add("x")


def test_training_and_files():
    vt.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.GELU(), nn.Linear(8, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    x, y = vt.tensor([[0.0, 1], [1, 0], [1, 1], [0, 0]]), vt.tensor([1, 1, 0, 0])
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        vt.save(model.state_dict(), path)
        assert vt.load(path)["0.bias"].tolist() == model[0].bias.tolist()
