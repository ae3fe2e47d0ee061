"""Every module against PyTorch's: outputs, gradients, ``repr``, state and errors."""

import math

import numpy as np
import pytest
import torch

import vibetensor as vt
from vibetensor import nn


def ours(value):
    """The same tensor in vibetensor."""
    if isinstance(value, torch.Tensor):
        tensor = vt.from_numpy(value.detach().numpy().copy())
        return tensor.requires_grad_() if value.requires_grad else tensor
    return value


def close(actual, expected, tolerance=1e-12):
    assert tuple(actual.shape) == tuple(expected.shape)
    np.testing.assert_allclose(
        actual.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance
    )


def randn(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def rows(count, *shape):
    return torch.randint(0, count, shape)


CASES = {
    "Linear": lambda lib: (lib.nn.Linear(5, 3), lambda: [randn(4, 5)]),
    "Linear no bias": lambda lib: (lib.nn.Linear(5, 3, bias=False), lambda: [randn(2, 4, 5)]),
    "Linear 1-d": lambda lib: (lib.nn.Linear(5, 3), lambda: [randn(5)]),
    "Embedding": lambda lib: (lib.nn.Embedding(7, 3), lambda: [rows(7, 2, 4)]),
    "Embedding padding": lambda lib: (
        lib.nn.Embedding(7, 3, padding_idx=-2),
        lambda: [rows(7, 30)],
    ),
    "LayerNorm": lambda lib: (lib.nn.LayerNorm(6), lambda: [randn(3, 4, 6)]),
    "LayerNorm 2-d": lambda lib: (lib.nn.LayerNorm((4, 6), eps=0.1), lambda: [randn(3, 4, 6)]),
    "LayerNorm no bias": lambda lib: (lib.nn.LayerNorm(6, bias=False), lambda: [randn(3, 6)]),
    "LayerNorm plain": lambda lib: (
        lib.nn.LayerNorm(6, elementwise_affine=False),
        lambda: [randn(3, 6)],
    ),
    "RMSNorm": lambda lib: (lib.nn.RMSNorm(6), lambda: [randn(3, 6)]),
    "RMSNorm plain": lambda lib: (
        lib.nn.RMSNorm([4, 6], eps=0.1, elementwise_affine=False),
        lambda: [randn(3, 4, 6)],
    ),
    "GELU": lambda lib: (lib.nn.GELU(), lambda: [randn(9)]),
    "GELU tanh": lambda lib: (lib.nn.GELU(approximate="tanh"), lambda: [randn(9)]),
    "ReLU": lambda lib: (lib.nn.ReLU(), lambda: [randn(9)]),
    "ReLU in place": lambda lib: (lib.nn.ReLU(inplace=True), lambda: [randn(9, grad=False)]),
    "SiLU": lambda lib: (lib.nn.SiLU(), lambda: [randn(9)]),
    "Tanh": lambda lib: (lib.nn.Tanh(), lambda: [randn(9)]),
    "Sigmoid": lambda lib: (lib.nn.Sigmoid(), lambda: [randn(9)]),
    "Softmax": lambda lib: (lib.nn.Softmax(dim=-1), lambda: [randn(3, 4)]),
    "Identity": lambda lib: (lib.nn.Identity(1, extra=2), lambda: [randn(3)]),
    "Flatten": lambda lib: (lib.nn.Flatten(), lambda: [randn(2, 3, 4)]),
    "Flatten some": lambda lib: (lib.nn.Flatten(0, 1), lambda: [randn(2, 3, 4)]),
    "Conv1d": lambda lib: (lib.nn.Conv1d(4, 6, 3), lambda: [randn(2, 4, 9)]),
    "Conv1d unbatched": lambda lib: (lib.nn.Conv1d(4, 6, 3, bias=False), lambda: [randn(4, 9)]),
    "Conv1d options": lambda lib: (
        lib.nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        lambda: [randn(2, 4, 11)],
    ),
    "Conv1d same": lambda lib: (lib.nn.Conv1d(2, 3, 3, padding="same"), lambda: [randn(1, 2, 7)]),
    "Conv1d same, even": lambda lib: (
        lib.nn.Conv1d(2, 3, 4, padding="same", dilation=3),
        lambda: [randn(1, 2, 17)],
    ),
    "Conv1d valid": lambda lib: (lib.nn.Conv1d(2, 3, 3, padding="valid"), lambda: [randn(1, 2, 7)]),
    "Dropout eval": lambda lib: (lib.nn.Dropout(0.3).eval(), lambda: [randn(20)]),
    "Dropout none": lambda lib: (lib.nn.Dropout(0.0), lambda: [randn(20)]),
    "CrossEntropyLoss": lambda lib: (
        lib.nn.CrossEntropyLoss(),
        lambda: [randn(6, 4), rows(4, 6)],
    ),
    "CrossEntropyLoss options": lambda lib: (
        lib.nn.CrossEntropyLoss(
            weight=lib.tensor([1.0, 2.0, 3.0, 4.0]),
            ignore_index=1,
            reduction="sum",
            label_smoothing=0.1,
        ),
        lambda: [randn(6, 4), rows(4, 6)],
    ),
    "CrossEntropyLoss none": lambda lib: (
        lib.nn.CrossEntropyLoss(reduction="none"),
        lambda: [randn(2, 4, 5), rows(4, 2, 5)],
    ),
    "MSELoss": lambda lib: (lib.nn.MSELoss(), lambda: [randn(3, 4), randn(3, 4)]),
    "MSELoss sum": lambda lib: (
        lib.nn.MSELoss(reduction="sum"),
        lambda: [randn(3, 4), randn(3, 4)],
    ),
    "MSELoss none": lambda lib: (lib.nn.MSELoss(reduction="none"), lambda: [randn(3), randn(3)]),
    "Sequential": lambda lib: (
        lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.Tanh(), lib.nn.Linear(4, 2)),
        lambda: [randn(5, 3)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_against_pytorch(name):
    torch.manual_seed(0)
    peer, inputs = CASES[name](torch)
    peer = peer.double()
    module, _ = CASES[name](vt)
    module = module.double()
    assert repr(module) == repr(peer)
    module.load_state_dict({key: ours(value) for key, value in peer.state_dict().items()})
    theirs = inputs()
    mine = [ours(value) for value in theirs]
    actual, expected = module(*mine), peer(*theirs)
    close(actual, expected)
    if not expected.requires_grad:
        return
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (actual * ours(weight)).sum().backward()
    for a, b in zip(mine, theirs, strict=True):
        if b.grad is not None:
            close(a.grad, b.grad)
    for (key, a), (_, b) in zip(module.named_parameters(), peer.named_parameters(), strict=True):
        assert b.grad is not None, key
        close(a.grad, b.grad)


WRONG = [
    lambda lib: lib.nn.Dropout(1.5),
    lambda lib: lib.nn.Dropout(-0.1),
    lambda lib: lib.nn.Conv1d(3, 4, 2, groups=2),
    lambda lib: lib.nn.Conv1d(4, 3, 2, groups=2),
    lambda lib: lib.nn.Conv1d(4, 4, 2, groups=0),
    lambda lib: lib.nn.Conv1d(4, 4, 2, padding="some"),
    lambda lib: lib.nn.Conv1d(4, 4, 2, stride=2, padding="same"),
    lambda lib: lib.nn.ModuleList([lib.nn.Identity()])[1],
    lambda lib: lib.nn.ModuleList([1]),
    lambda lib: lib.nn.ModuleList(3),
    lambda lib: lib.nn.Sequential(1),
    lambda lib: lib.nn.ModuleDict({"a": 1}),
    lambda lib: lib.nn.ModuleDict(3),
    lambda lib: lib.nn.ModuleDict()["a"],
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors(number):
    with pytest.raises(Exception) as expected:
        WRONG[number](torch)
    with pytest.raises(type(expected.value)):
        WRONG[number](vt)


def test_embedding_errors():
    # PyTorch asserts here.
    with pytest.raises(ValueError, match="padding_idx must be within num_embeddings"):
        nn.Embedding(3, 2, padding_idx=3)
    with pytest.raises(ValueError, match="expected to be 2-dimensional"):
        nn.Embedding.from_pretrained(vt.ones(3))


def test_embedding():
    table = nn.Embedding(4, 3, padding_idx=1)
    assert (table.weight[1] == 0).all()
    frozen = nn.Embedding.from_pretrained(vt.ones(4, 3), padding_idx=-1)
    assert not frozen.weight.requires_grad and frozen.padding_idx == 3
    assert repr(frozen) == "Embedding(4, 3, padding_idx=3)"


def test_dropout_in_training():
    vt.manual_seed(0)
    module = nn.Dropout(0.25)
    x = vt.ones(10000, requires_grad=True)
    y = module(x)
    kept = (y != 0).float().mean().item()
    assert abs(kept - 0.75) < 0.03
    assert abs(y.max().item() - 1 / 0.75) < 1e-6
    y.sum().backward()
    assert (x.grad == y).all()


def test_softmax_without_dim():
    for shape in ((3,), (2, 3), (2, 3, 4)):
        x = torch.randn(*shape)
        with pytest.warns(UserWarning, match="Implicit dimension choice"):
            expected = torch.nn.Softmax()(x)
        with pytest.warns(UserWarning, match="Implicit dimension choice"):
            close(nn.Softmax()(ours(x)), expected, 1e-6)


def test_mse_warns_of_broadcasting():
    with pytest.warns(UserWarning, match="Using a target size"):
        nn.MSELoss()(vt.ones(2, 1), vt.ones(2))


def test_linear_initial_values():
    vt.manual_seed(0)
    linear = nn.Linear(100, 200)
    bound = 1 / math.sqrt(100)
    for parameter in linear.parameters():
        values = parameter.detach().numpy()
        assert abs(values).max() <= bound
        assert abs(values.std() - bound / math.sqrt(3)) < 0.01


def test_factory_arguments():
    for module in (
        nn.Linear(2, 3, dtype=vt.float64, device="cpu"),
        nn.Embedding(2, 3, dtype=vt.float64),
        nn.LayerNorm(3, dtype=vt.float64),
        nn.RMSNorm(3, dtype=vt.float64),
        nn.Conv1d(2, 2, 2, dtype=vt.float64),
    ):
        assert all(p.dtype == vt.float64 for p in module.parameters())


# Containers


def edit(lib):
    """The same edits of containers in either library, as a list of their states."""
    N = lib.nn
    made = N.Sequential(N.Linear(1, 1), N.ReLU(), N.Tanh())
    states = [repr(made), repr(made[1]), repr(made[-1]), repr(made[1:])]
    made[1] = N.Sigmoid()
    made.append(N.GELU())
    made.insert(1, N.Identity())
    made.extend([N.SiLU()])
    states.append(repr(made))
    del made[0]
    states += [repr(made), repr(made.pop(-1)), repr(made), len(made)]
    states += [repr(made + N.Sequential(N.Identity())), [type(m).__name__ for m in made]]
    listed = N.ModuleList([N.Linear(2, 2), N.Linear(2, 2), N.ReLU()])
    listed += [N.Tanh()]
    states += [repr(listed), repr(listed[:2]), repr(listed + iter([N.ReLU()]))]
    listed[-1] = N.Identity()
    listed.insert(0, N.GELU())
    states += [repr(listed), repr(listed.pop(1)), repr(listed), repr(N.ModuleList())]
    states.append([name for name, _ in listed.named_parameters()])
    named = N.ModuleDict({"a": N.ReLU(), "b": N.Linear(1, 1)})
    named["c"] = N.Tanh()
    named.update([("a", N.Sigmoid())])
    states += [repr(named), list(named), list(named.keys()), "b" in named, len(named)]
    states += [repr(named.pop("b")), repr(named)]
    del named["a"]
    states += [repr(named), [repr(m) for m in named.values()]]
    named.clear()
    return [*states, len(named)]


def test_containers():
    for mine, theirs in zip(edit(vt), edit(torch), strict=True):
        assert mine == theirs


def test_named_sequential():
    from collections import OrderedDict

    module = nn.Sequential(OrderedDict([("first", nn.Linear(2, 2)), ("act", nn.ReLU())]))
    assert list(module.state_dict()) == ["first.weight", "first.bias"]
    assert module.act is module[1]
    del module[0]
    assert list(module._modules) == ["act"]
