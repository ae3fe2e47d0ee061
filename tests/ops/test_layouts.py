"""The same values in every layout: transposed, sliced, expanded, negative strides, rank above 8, empty."""

import warnings

import pytest
import torch

import vibetensor as vt

from .oracle import OPS, both, call, check, describe, fresh, functions, grid, ours, tensors
from .samples import RANDOM, samples

# The order of equals is not promised.
ORDERED = {"sort", "argsort", "topk", "argmax", "argmin", "max", "min"}
LAYOUTS = ("transposed", "sliced", "offset", "expanded", "negative")
TESTED = [
    op for op in OPS.values() if op.name not in RANDOM and op.name not in ("view", "as_strided")
]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def laid_out(value, layout):
    """A PyTorch value with its tensors in a layout; "expanded" repeats the first row."""
    if isinstance(value, (list, tuple)):
        return type(value)(laid_out(v, layout) for v in value)
    if isinstance(value, dict):
        return {k: laid_out(v, layout) for k, v in value.items()}
    if not isinstance(value, torch.Tensor) or value.ndim == 0:
        return value
    if layout == "transposed":
        order = tuple(range(value.ndim))[::-1]
        return value.permute(order).contiguous().permute(order)
    if layout == "sliced":
        wide = torch.zeros((*value.shape[:-1], value.shape[-1] * 2), dtype=value.dtype)
        return wide[..., ::2].copy_(value)
    if layout == "offset":
        flat = torch.zeros(value.numel() + 3, dtype=value.dtype)
        return flat[3:].view(value.shape).copy_(value)
    if layout == "expanded" and value.shape[0]:
        return value[:1].expand(value.shape)
    return value


def reversed_(value):
    """Ours with negative strides in every dimension, equal to the PyTorch value."""
    if isinstance(value, torch.Tensor):
        if value.ndim == 0:
            return ours(value)
        flipped = ours(value.flip(tuple(range(value.ndim))).contiguous())
        return flipped[(slice(None, None, -1),) * value.ndim]
    if isinstance(value, (list, tuple)):
        return type(value)(reversed_(v) for v in value)
    if isinstance(value, dict):
        return {k: reversed_(v) for k, v in value.items()}
    return ours(value)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", grid("layouts", TESTED))
def test_layouts(op, layout):
    """Pointwise operators and views return PyTorch's strides."""
    for dtype in (torch.float32, torch.int64, torch.complex64):
        for args, kwargs in samples(op, dtype):
            where = f"{layout} {op.name}{describe(args, kwargs)}"
            if layout == "negative":
                # fresh() drops strides of PyTorch's side; ours are made apart.
                function, peer = functions(op)
                expected, error = call(peer, fresh(list(args)), fresh(kwargs))
                mine, our_error = call(function, reversed_(list(args)), reversed_(kwargs))
                if error is None and not isinstance(our_error, NotImplementedError):
                    assert our_error is None, f"{where}: {our_error!r}"
                    check(mine, expected, where=where)
                continue
            args, kwargs = laid_out(list(args), layout), laid_out(kwargs, layout)
            if layout == "expanded" and (
                op.name.endswith("_") or kwargs.get("inplace") or op.name in ORDERED
            ):
                continue
            pair = functions(op)
            mine, error = call(pair[0], keep(args), keep(kwargs))
            expected, peer_error = call(pair[1], twin(args), twin(kwargs))
            if peer_error is not None or isinstance(error, NotImplementedError):
                continue  # test_values compares errors and dtypes
            assert error is None, f"{where}: {error!r}"
            strides = op.kind in ("pointwise", "view") and all(t.numel() for t in tensors(expected))
            check(mine, expected, where=where, strides=strides)


def twin(value):
    """A copy of the memory, with the same strides, also where these are 0."""
    if isinstance(value, torch.Tensor):
        length = value.untyped_storage().nbytes() // value.itemsize
        whole = value.as_strided((length,), (1,), 0).clone()
        return whole.as_strided(value.shape, value.stride(), value.storage_offset())
    if isinstance(value, (list, tuple)):
        return type(value)(twin(v) for v in value)
    if isinstance(value, dict):
        return {k: twin(v) for k, v in value.items()}
    return value


def keep(value):
    return ours(twin(value))


def test_rank_64():
    x, y = vt.ones((1,) * 60 + (2, 1, 1, 2)), torch.ones((1,) * 60 + (2, 1, 1, 2))
    for f in (
        lambda t: t + t.transpose(-1, 60),
        lambda t: t.sum((60, 63)),
        lambda t: t.permute(*range(63, -1, -1)),
    ):
        check(f(x), f(y), strides=True)
    with pytest.raises(RuntimeError):
        x.unsqueeze(0)


@pytest.mark.parametrize(
    "op", grid("mixed", [o for o in TESTED if o.kind == "pointwise" and len(o.tensors) == 2])
)
def test_output_strides_follow_the_inputs(op):
    a = torch.ones(2, 3, 4, dtype=torch.int32)
    shuffled = a.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    for x, y in (
        (a, shuffled),
        (shuffled, a),
        (shuffled, shuffled),
        (a[:, :1], shuffled),
        (a[0, 0], shuffled),
    ):
        found = both(op, (x, y), {})
        if found is not None:
            check(*found, where=describe((x, y), {}), strides=True)
