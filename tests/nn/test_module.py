"""Registration, traversal, state and conversion of ``nn.Module``, against PyTorch's."""

import re
from collections import OrderedDict

import numpy as np
import pytest
import torch

import vibetensor as vt
from vibetensor import nn


def make(lib):
    """The same tree in either library: nesting, buffers, a shared module, an absent bias."""

    class Inner(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = lib.nn.Parameter(lib.ones(3))
            self.register_buffer("mean", lib.zeros(3))
            self.register_buffer("scratch", lib.zeros(2), persistent=False)
            self.register_buffer("count", lib.tensor(7))
            self.register_parameter("absent", None)

    class Outer(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()
            self.again = self.inner
            self.linear = lib.nn.Linear(3, 2, bias=False)
            self.nothing = None
            self.layers = lib.nn.ModuleList([lib.nn.Linear(2, 2), lib.nn.Identity()])
            self.scale = lib.nn.Parameter(lib.zeros(1))

    return Outer()


@pytest.fixture
def module():
    return make(vt)


@pytest.fixture
def peer():
    return make(torch)


def names(pairs):
    return [name for name, _ in pairs]


def test_traversal(module, peer):
    for method in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert names(getattr(module, method)()) == names(getattr(peer, method)())
    for method in ("named_parameters", "named_buffers", "named_modules"):
        for options in ({"prefix": "p"}, {"remove_duplicate": False}):
            ours = names(getattr(module, method)(**options))
            assert ours == names(getattr(peer, method)(**options))
    assert names(module.named_parameters(recurse=False)) == ["scale"]
    for method in ("parameters", "buffers", "modules", "children"):
        assert len(list(getattr(module, method)())) == len(list(getattr(peer, method)()))


def test_parameters_are_the_named_ones(module):
    module.layers[0].bias = module.scale
    for recurse in (True, False):
        named = [parameter for _, parameter in module.named_parameters(recurse=recurse)]
        found = module.parameters(recurse)
        assert next(found) is named[0]
        assert [id(p) for p in found] == [id(p) for p in named[1:]]

    class Chosen(type(module)):
        def named_parameters(self, *args, **kwargs):
            return ((name, p) for name, p in super().named_parameters() if "scale" in name)

    assert [p.shape for p in Chosen().parameters()] == [(1,), (3,)]

    class Alone(type(module)):
        def named_modules(self, *args, **kwargs):
            return iter([("", self)])

    assert [p.shape for p in Alone().parameters()] == [(1,)]


def test_state_dict_keys(module, peer):
    assert list(module.state_dict()) == list(peer.state_dict())
    assert list(module.state_dict(prefix="p.")) == list(peer.state_dict(prefix="p."))
    assert not module.state_dict()["linear.weight"].requires_grad
    assert module.state_dict(keep_vars=True)["linear.weight"] is module.linear.weight


def test_state_dict_shares_memory(module):
    state = module.state_dict()
    with vt.no_grad():
        module.linear.weight.fill_(5)
    assert (state["linear.weight"] == 5).all()


def numbers(module):
    return {key: value.numpy().copy() for key, value in module.state_dict().items()}


def assert_unchanged(module, before):
    for key, value in numbers(module).items():
        np.testing.assert_array_equal(value, before[key])


def test_load_state_dict():
    source, target = make(vt), make(vt)
    with vt.no_grad():
        for tensor in source.state_dict().values():
            tensor.fill_(3)
    weight = target.linear.weight
    result = target.load_state_dict(source.state_dict())
    assert str(result) == "<All keys matched successfully>"
    assert target.linear.weight is weight and weight.requires_grad
    assert_unchanged(target, numbers(source))


def test_load_state_dict_converts(module):
    state = {key: value.double() for key, value in module.state_dict().items()}
    state["linear.weight"] = vt.full((2, 3), 2.5, dtype=vt.float64)
    module.load_state_dict(state)
    assert module.linear.weight.dtype == vt.float32
    assert (module.linear.weight == 2.5).all()


def wrong_states(lib):
    state = make(lib).state_dict()
    missing = OrderedDict(state)
    del missing["inner.mean"], missing["scale"]
    shape = OrderedDict(state)
    shape["linear.weight"] = lib.zeros(3, 3)
    both = OrderedDict(missing)
    both["extra"] = lib.zeros(1)
    both["inner.other"] = lib.zeros(1)
    both["linear.weight"] = lib.zeros(4)
    value = OrderedDict(state)
    value["scale"] = 1.0
    return {"missing": missing, "shape": shape, "both": both, "value": value}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", ["missing", "shape", "both", "value"])
def test_load_state_dict_errors(kind, strict):
    module, peer = make(vt), make(torch)
    with vt.no_grad():
        module.scale.fill_(9)
    before = numbers(module)
    ours, theirs = wrong_states(vt)[kind], wrong_states(torch)[kind]
    try:
        expected = peer.load_state_dict(theirs, strict=strict)
    except RuntimeError as error:
        text = str(error).replace("torch.Tensor", "Tensor")
        text = text.replace(" or Tensor-like object", "").replace("<class 'Tensor'>", "Tensor")
        with pytest.raises(RuntimeError) as caught:
            module.load_state_dict(ours, strict=strict)
        assert_unchanged(module, before)
        said = str(caught.value).replace("vibetensor.Tensor", "Tensor")
        assert sorted(shapeless(said)) == sorted(shapeless(text))
    else:
        result = module.load_state_dict(ours, strict=strict)
        assert sorted(result.missing_keys) == sorted(expected.missing_keys)
        assert result.unexpected_keys == expected.unexpected_keys


def shapeless(text):
    """The lines of an error, with shapes written in one way."""
    return re.sub(r"(?:torch|vibetensor)\.Size\((\[.*?\])\)", r"\1", text).split("\n\t")


def test_load_state_dict_assign(module):
    state = make(vt).state_dict()
    state["linear.weight"] = vt.zeros(2, 3, dtype=vt.float64)
    module.linear.weight.requires_grad_(False)
    module.load_state_dict(state, assign=True)
    assert isinstance(module.linear.weight, nn.Parameter)
    assert module.linear.weight.dtype == vt.float64
    assert not module.linear.weight.requires_grad
    assert module.inner.mean is state["again.mean"]  # the same module: the later name wins


def test_load_state_dict_wants_a_mapping(module):
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        module.load_state_dict([1])


REGISTRATIONS = [
    lambda lib, m: m.register_parameter(3, None),
    lambda lib, m: m.register_parameter("a.b", None),
    lambda lib, m: m.register_parameter("", None),
    lambda lib, m: m.register_parameter("linear", None),
    lambda lib, m: m.register_parameter("new", lib.ones(1)),
    lambda lib, m: m.register_parameter("new", lib.nn.Parameter(lib.ones(1)) * 2),
    lambda lib, m: m.register_buffer("a.b", None),
    lambda lib, m: m.register_buffer("", None),
    lambda lib, m: m.register_buffer("scale", lib.ones(1)),
    lambda lib, m: m.register_buffer("new", 3),
    lambda lib, m: m.add_module("new", 3),
    lambda lib, m: m.add_module("scale", lib.nn.Identity()),
    lambda lib, m: m.add_module("a.b", lib.nn.Identity()),
    lambda lib, m: m.register_module("", lib.nn.Identity()),
    lambda lib, m: setattr(m, "scale", lib.ones(1)),
    lambda lib, m: setattr(m, "scale", "text"),
    lambda lib, m: setattr(m, "linear", lib.ones(1)),
    lambda lib, m: setattr(m.inner, "mean", 1.0),
    lambda lib, m: m.get_parameter("linear.nothing"),
    lambda lib, m: m.get_parameter("nowhere.weight"),
    lambda lib, m: m.get_parameter("inner.mean"),
    lambda lib, m: m.get_buffer("scale"),
    lambda lib, m: m.get_submodule("linear.weight"),
    lambda lib, m: m.get_submodule("layers.5"),
    lambda lib, m: m.train("yes"),
    lambda lib, m: m.to(lib.int64),
]


@pytest.mark.parametrize("number", range(len(REGISTRATIONS)))
def test_errors_are_pytorchs(number, module, peer):
    with pytest.raises(Exception) as expected:
        REGISTRATIONS[number](torch, peer)
    with pytest.raises(type(expected.value)) as caught:
        REGISTRATIONS[number](vt, module)
    assert neutral(caught.value) == neutral(expected.value)


def neutral(error):
    """The text of an error without the names of the library and of its classes' places."""
    text = str(error).replace("torch.nn.Buffer, ", "")
    # PyTorch tells the dtype by the name of the type.
    return re.sub(r"(torch|vibetensor)[ .]([a-zA-Z_]+\.)*(?:Float)?", "", text)


def test_reassignment_changes_the_registry(module):
    module.nothing = nn.Linear(1, 1)
    assert "nothing" in dict(module.named_children())
    module.nothing = None
    assert module.nothing is None
    module.inner.mean = vt.ones(3)
    assert module.inner._buffers["mean"] is module.inner.mean
    module.scale = None
    assert "scale" not in dict(module.named_parameters())
    module.plain = vt.ones(2)
    assert "plain" not in module.state_dict()
    module.plain = nn.Parameter(vt.ones(2))
    assert "plain" in module.state_dict() and "plain" not in vars(module)


def test_lookup(module):
    assert module.get_submodule("layers.0") is module.layers[0]
    assert module.get_submodule("") is module
    assert module.get_parameter("inner.scale") is module.inner.scale
    assert module.get_buffer("inner.count") is module.inner.count


def test_modes(module):
    assert module.eval() is module
    assert not any(m.training for m in module.modules())
    module.train()
    assert all(m.training for m in module.modules())
    module.requires_grad_(False)
    assert not any(p.requires_grad for p in module.parameters())


def test_apply_order(module, peer):
    ours, theirs = [], []
    module.apply(lambda m: ours.append(type(m).__name__))
    peer.apply(lambda m: theirs.append(type(m).__name__))
    assert ours == theirs


@pytest.mark.parametrize("name", ["float64", "float16", "bfloat16"])
def test_conversion_keeps_the_parameters(name, module):
    kind = getattr(vt, name)
    weight = module.linear.weight
    (weight * 2).sum().backward()
    assert module.to(kind) is module
    assert module.linear.weight is weight
    assert weight.dtype == weight.grad.dtype == kind
    assert weight.requires_grad and weight.is_leaf
    assert module.inner.mean.dtype == kind
    assert module.inner.count.dtype == vt.int64


def test_conversion_methods(module):
    assert module.double().linear.weight.dtype == vt.float64
    assert module.half().linear.weight.dtype == vt.float16
    assert module.bfloat16().linear.weight.dtype == vt.bfloat16
    assert module.float().linear.weight.dtype == vt.float32
    assert module.cpu().to("cpu").to(vt.zeros(1, dtype=vt.float64)).scale.dtype == vt.float64
    assert module.to("cpu", vt.float32).to(device="cpu", dtype=None).scale.dtype == vt.float32
    with pytest.raises(TypeError, match="unexpected keyword"):
        module.to(devise="cpu")


def test_zero_grad(module):
    (module.scale * 3).sum().backward()
    module.zero_grad(set_to_none=False)
    assert (module.scale.grad == 0).all()
    module.zero_grad()
    assert module.scale.grad is None


def test_repr(module, peer):
    assert repr(module) == repr(peer)
    module.extra_repr = lambda: "one line"
    peer.extra_repr = lambda: "one line"
    assert repr(module) == repr(peer)


def test_parameter():
    data = vt.ones(2, 2)
    parameter = nn.Parameter(data)
    assert isinstance(parameter, vt.Tensor) and parameter.requires_grad and parameter.is_leaf
    with vt.no_grad():
        parameter.fill_(3)
    assert (data == 3).all()
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert repr(parameter).startswith("Parameter containing:\n")
    assert nn.Parameter().numel() == 0
    assert type(parameter * 2) is vt.Tensor
    with pytest.raises(TypeError):
        nn.Parameter([1.0])
