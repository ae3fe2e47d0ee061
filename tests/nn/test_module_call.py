"""The call path and attribute access of ``nn.Module``: everything that can divert them."""

import copy
import functools
import gc
import pickle
import sys
import weakref

import pytest

import vibetensor as vt
from vibetensor import nn


class Identity(nn.Module):
    def forward(self, x):
        return x


class Echo(nn.Module):
    def forward(self, x, *rest, y=1, **others):
        return x, rest, y, others


def test_arguments_arrive():
    echo = Echo()
    assert echo(1, 2, y=3, z=4) == (1, (2,), 3, {"z": 4})
    many = {f"k{i}": i for i in range(12)}
    assert echo(*range(20), **many) == (0, tuple(range(1, 20)), 1, many)
    assert functools.partial(echo, 1, 2)(3, z=1) == (1, (2, 3), 1, {"z": 1})
    assert list(map(Identity(), [1, 2])) == [1, 2]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        Identity()()


def test_exceptions_pass_through():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        Fails()(1)


def test_missing_forward():
    with pytest.raises(NotImplementedError, match='missing the required "forward" function'):
        nn.Module()(1)


def test_forward_of_the_instance():
    module = Identity()
    module.forward = lambda x: ("own", x)
    assert module(1) == ("own", 1)
    assert copy.deepcopy(module)(1) == ("own", 1)
    del module.forward
    assert module(1) == 1


def test_forward_changed_on_the_class():
    class Changing(Identity):
        pass

    module = Changing()
    assert module(1) == 1
    Changing.forward = lambda self, x: x + 1
    assert module(1) == 2


@pytest.mark.parametrize("wrap", [staticmethod, lambda f: functools.partial(f)])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_forward_that_takes_no_self(wrap):
    class Plain(nn.Module):
        forward = wrap(lambda x: ("plain", x))

    assert Plain()(1) == ("plain", 1)


def test_call_overridden():
    class Calls(Identity):
        def __call__(self, x):
            return "call", super().__call__(x)

    class Inherits(Calls):
        pass

    for cls in (Calls, Inherits):
        assert cls()(1) == ("call", 1)
        assert list(map(cls(), [1])) == [("call", 1)]


def test_call_assigned_to_the_class_later():
    class Late(Identity):
        pass

    module = Late()
    assert module(3) == 3
    Late.__call__ = lambda self, x, y=0: ("late", x, y)
    assert module(3) == ("late", 3, 0)
    assert module(3, y=2) == ("late", 3, 2)
    del Late.__call__
    assert module(3) == 3


def test_no_references_leak():
    module, value = Identity(), object()
    function = Identity.forward
    before = sys.getrefcount(value), sys.getrefcount(function)
    for _ in range(100):
        module(value)
        module(x=value)
    assert (sys.getrefcount(value), sys.getrefcount(function)) == before


def test_cycles_are_collected():
    module = Identity()
    module.itself = [module]
    alive = weakref.ref(module)
    del module
    gc.collect()
    assert alive() is None


def test_endless_recursion_is_an_exception():
    class Recursive(nn.Module):
        def forward(self, x):
            return self(x)

    with pytest.raises(RecursionError):
        Recursive()(1)


def test_attribute_errors():
    class Property(nn.Module):
        @property
        def missing(self):
            raise AttributeError("from inside the property")

        @property
        def failing(self):
            raise ValueError("bad")

    module = Property()
    with pytest.raises(AttributeError, match="'Property' object has no attribute 'nothing'"):
        module.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="from inside the property"):
        module.missing  # noqa: B018
    with pytest.raises(ValueError, match="bad"):
        module.failing  # noqa: B018
    with pytest.raises(AttributeError):
        del module.nothing


def test_getattr_of_a_subclass():
    class Falls(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(vt.ones(2))

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                if name != "other":
                    raise
                return "found"

    class Inherits(Falls):
        pass

    for cls in (Falls, Inherits):
        module = cls()
        assert isinstance(module.weight, nn.Parameter)
        assert module.other == "found"
        assert not hasattr(module, "another")


def test_registered_values_are_not_in_the_dictionary():
    module = nn.Module()
    module.weight = nn.Parameter(vt.ones(2))
    module.child = Identity()
    module.register_buffer("mean", vt.zeros(2))
    assert not {"weight", "child", "mean"} & set(vars(module))
    assert {"weight", "child", "mean", "training"} <= set(dir(module))
    del module.weight, module.child, module.mean
    assert not hasattr(module, "weight")
    assert not module._parameters and not module._modules and not module._buffers


def test_assignment_before_init():
    class Early(nn.Module):
        def __init__(self, value):
            self.value = value

    for value, what in ((nn.Parameter(vt.ones(1)), "parameters"), (Identity(), "module")):
        with pytest.raises(AttributeError, match=f"cannot assign {what} before Module.__init__"):
            Early(value)


# Hooks


def test_pre_hooks():
    module, seen = Identity(), []
    first = module.register_forward_pre_hook(lambda m, args: seen.append((m, args)))
    module.register_forward_pre_hook(lambda m, args: args[0] + 1)
    module.register_forward_pre_hook(lambda m, args: (args[0] * 2,), prepend=True)
    assert module(3) == 7
    assert seen == [(module, (6,))]
    first.remove()
    assert module(3) == 7 and len(seen) == 1


def test_pre_hook_with_kwargs():
    module = Echo()
    module.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {**kwargs, "z": 5}), with_kwargs=True
    )
    assert module(1, y=2) == (1, (), 2, {"z": 5})
    module.register_forward_pre_hook(lambda m, args, kwargs: 1, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        module(1)


def test_forward_hooks():
    module, seen = Identity(), []
    module.register_forward_hook(lambda m, args, output: seen.append((args, output)))
    module.register_forward_hook(lambda m, args, output: output + 1)
    module.register_forward_hook(lambda m, args, kwargs, output: (output, kwargs), with_kwargs=True)
    assert module(3) == (4, {})
    assert seen == [((3,), 3)]


def test_hook_always_called():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("inside")

    module, seen = Fails(), []
    module.register_forward_hook(lambda m, args, output: seen.append("never"))
    module.register_forward_hook(lambda m, a, output: seen.append(output), always_call=True)
    with pytest.raises(ValueError, match="inside"):
        module(1)
    assert seen == [None]


def test_removed_hooks_leave_no_trace():
    module = Identity()
    with module.register_forward_hook(lambda m, args, output: "changed"):
        assert module(1) == "changed"
    assert module(1) == 1
    assert not module._forward_hooks


def add_one(module, args, output):
    return output + 1


class Pickled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.register_buffer("mean", vt.ones(3))
        self.note = "kept"

    def forward(self, x):
        return self.linear(x) + self.mean


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(copied):
    module = Pickled()
    module.register_forward_hook(add_one)
    other = copied(module)
    x = vt.ones(4, 2)
    assert (other(x) == module(x)).all()
    assert other.note == "kept"
    assert [n for n, _ in other.named_parameters()] == ["linear.weight", "linear.bias"]
    assert other.linear.weight is not module.linear.weight
    with vt.no_grad():
        other.linear.weight.zero_()
    assert not (other(x) == module(x)).all()


def test_deepcopy_keeps_shared_parameters_shared():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    other = copy.deepcopy(module)
    assert other[0].weight is other[1].weight is not module[0].weight
