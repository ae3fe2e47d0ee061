"""First gradients against PyTorch; first and second gradients against differences, in float64."""

import warnings

import pytest
import torch

import vibetensor as vt
from vibetensor.autograd import gradcheck, gradgradcheck

from .oracle import (
    OPS,
    call,
    check,
    describe,
    differentiable,
    fresh,
    functions,
    gap,
    grid,
    ours,
    tensors,
)
from .samples import RANDOM, samples

# Discrete, or made to have no gradient.
FLAT = {"argmax", "argmin", "argsort", "detach", "zeros_like", "ones_like", "full_like", "one_hot"}
WRITES = {name for name in OPS if name.endswith("_")}
SMOOTH = [
    op
    for op in OPS.values()
    if op.name not in RANDOM | FLAT | {"nonzero", "any", "all"}
    and op.result not in ("bool", "index", "logical")
    and not op.name.startswith("bitwise")
]
# Not differentiable there, though the first gradient is defined.
NO_DIFFERENCES = {
    "floor",
    "ceil",
    "trunc",
    "round",
    "floor_divide",
    "sign",
    "sgn",
    "remainder",
    "fmod",
    "rotary_embedding",  # by its input alone; see tests/kernels/test_rope.py
}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def leaves(library, value):
    return [t for t in tensors(value) if isinstance(t, library.Tensor) and t.requires_grad]


def peer_leaves(value):
    for t in tensors(value):
        if differentiable(t):
            t.requires_grad_()
    return value


def started(op, value):
    """A writing operator gets a copy, as leaves cannot be written."""
    return [value[0].clone(), *value[1:]] if writes(op, value) else value


def writes(op, value):
    return op.name in WRITES


def run(library, op, function, args, kwargs):
    """The results, and the gradients of every leaf under a fixed gradient of the results."""
    if kwargs.get("inplace"):
        kwargs = kwargs | {"inplace": False}
    outputs = [t for t in tensors(function(*started(op, args), **kwargs)) if t.requires_grad]
    inputs = leaves(library, [args, kwargs])
    if not outputs:
        return []
    grads = []
    for t in outputs:
        seed = torch.linspace(-1, 1.5, t.numel(), dtype=torch.float64).reshape(tuple(t.shape))
        seed = seed.to(getattr(torch, str(t.dtype).rpartition(".")[2]))
        grads.append(seed if library is torch else ours(seed))
    return list(library.autograd.grad(outputs, inputs, grads, allow_unused=True))


@pytest.mark.parametrize(
    ("op", "dtype"), grid("gradients", SMOOTH, (torch.float64, torch.float32, torch.complex128))
)
def test_gradients(op, dtype):
    if gap(op, dtype):
        pytest.skip("see GAPS")
    our_function, peer_function = functions(op)
    for args, kwargs in samples(op, dtype, smooth=True):
        where = op.name + describe(args, kwargs)
        theirs = peer_leaves(fresh([list(args), kwargs]))
        expected, error = call(run, (torch, op, peer_function, *theirs), {})
        if error is not None:
            continue  # test_values compares errors
        mine = ours(fresh([list(args), kwargs]), grad=True)
        found = run(vt, op, our_function, *mine)
        assert len(found) == len(expected), where
        for x, y in zip(found, expected):
            if x is None or y is None:
                other = y if x is None else x
                assert other is None or not other.any(), f"{where}: only one has a gradient"
            elif kwargs.get("dtype") == torch.float32 and not y.is_complex():
                check(x.to(vt.float32), y.float(), where=where)  # computed in float32
            elif kwargs.get("dtype") == torch.float32:
                check(x.to(vt.complex64), y.to(torch.complex64), where=where)
            else:
                check(x, y, where=where)


@pytest.mark.parametrize(
    "op", grid("gradcheck", [op for op in SMOOTH if op.name not in NO_DIFFERENCES])
)
def test_differences(op):
    function, peer = functions(op)
    if op.name == "view_as_real":
        pytest.skip("real arguments only; test_gradients covers it")
    for args, kwargs in (
        samples(op, torch.float64, smooth=True)[:2] + samples(op, torch.float64, smooth=True)[3:4]
    ):
        whole = tensors([args, kwargs])
        if call(peer, fresh(list(args)), fresh(kwargs))[1] or any(
            t.dtype == torch.float32 for t in whole
        ):
            continue
        if (
            any(isinstance(a, (list, tuple)) and tensors(a) for a in args)
            and op.name != "index_put"
        ):
            lists, rest = list(args[0]), args[1:]
            values, rebuild = lists, lambda *x, rest=rest: ([*x], *rest)
        else:
            values = [a for a in args if isinstance(a, torch.Tensor) and differentiable(a)]
            places = [
                i for i, a in enumerate(args) if isinstance(a, torch.Tensor) and differentiable(a)
            ]

            def rebuild(*x, args=args, places=places):
                whole = ours(list(args))
                for i, v in zip(places, x):
                    whole[i] = v
                return whole

        inputs = ours(fresh(tuple(values)), grad=True)
        keywords = ours(kwargs)

        def f(*x, rebuild=rebuild, keywords=keywords):
            whole = list(rebuild(*x))
            return function(
                *started(op, whole),
                **(keywords | ({"inplace": False} if "inplace" in keywords else {})),
            )

        out = tensors(f(*inputs))
        if not inputs or not any(t.requires_grad for t in out):
            continue
        assert gradcheck(f, inputs), op.name
        assert gradgradcheck(f, inputs), op.name
