"""In-place forms and out=: value, identity, and what is refused, against PyTorch."""

import warnings

import pytest
import torch

import vibetensor as vt

from .oracle import OPS, both, call, check, describe, fresh, functions, gap, grid, ours
from .samples import RANDOM, Make, samples

SOME = (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.complex64)
INPLACE = [op for op in OPS.values() if op.inplace]
OUT = [op for op in OPS.values() if "out" in op.surfaces and op.name not in RANDOM]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("op", "dtype"), grid("inplace", INPLACE, SOME))
def test_inplace(op, dtype):
    """Samples that broadcast or promote the first argument are refused, as there."""
    name = op.name + "_"
    pair = getattr(vt.Tensor, name), getattr(torch.Tensor, name)
    for args, kwargs in samples(op, dtype):
        if not isinstance(args[0], torch.Tensor):
            continue
        found = both(op, args, kwargs, pair)
        if found is not None:
            check(*found, where=name + describe(args, kwargs), strides=True)
            mine = ours(fresh(list(args)))
            assert pair[0](mine[0], *mine[1:], **kwargs) is mine[0]
    if "vt_" in op.surfaces:
        x = ours(fresh(samples(op, torch.float32)[0][0][0]))
        if op.name != "index_put":
            assert getattr(vt, name)(x) is x


@pytest.mark.parametrize("op", grid("inplace_version", INPLACE))
def test_inplace_moves_the_version(op):
    for dtype in (torch.float32, torch.int64):
        args, kwargs = samples(op, dtype)[0]
        x, *rest = ours(fresh(list(args)))
        _, error = call(getattr(vt.Tensor, op.name + "_"), (x, *rest), ours(kwargs))
        if error is None:
            assert x._version == 1
            return
    pytest.fail("no sample runs in place")


@pytest.mark.parametrize(
    ("op", "dtype"), grid("out", OUT, (torch.int64, torch.float32, torch.complex64))
)
def test_out(op, dtype):
    """The right `out`, one of another shape (resized), another dtype, another layout."""
    function, peer = functions(op)
    home = vt if "vt" in op.surfaces else None
    function = getattr(home, op.name)
    peer = getattr(torch, op.name)
    for args, kwargs in samples(op, dtype)[:8]:
        if not any(isinstance(a, (torch.Tensor, list)) for a in args[:1]):
            continue
        result, error = call(peer, args, kwargs)
        if error is not None or not isinstance(result, torch.Tensor) or gap(op, dtype):
            continue
        outs = [torch.empty_like(result), torch.empty(0, dtype=result.dtype)]
        outs += [torch.empty(result.shape, dtype=d) for d in (torch.int32, torch.float64)]
        if result.ndim == 2:
            outs.append(torch.empty(result.shape[::-1], dtype=result.dtype).t())
        for out in outs:

            def with_out(f):
                def call_it(out, *args, **kwargs):
                    returned = f(*args, **kwargs, out=out)
                    assert returned is out
                    return returned

                return call_it

            if (
                call(peer, args, kwargs | {"out": fresh(out)})[1] is not None
                and out.dtype == result.dtype
            ):
                continue  # forms without out=, or a resize that PyTorch trips over
            if out.dtype == result.dtype:
                found = both(op, (out, *args), kwargs, (with_out(function), with_out(peer)))
            else:
                # PyTorch computes some in the dtype of `out`; we cast the result, and refuse less.
                value, peer_error = call(peer, args, kwargs | {"out": fresh(out)})
                mine, error = call(function, ours(list(args)), ours(kwargs | {"out": fresh(out)}))
                if error is not None or peer_error is not None:
                    castable = torch.can_cast(result.dtype, out.dtype)
                    assert isinstance(error, (RuntimeError, TypeError)) or castable, op.name
                    continue
                found = mine.to(getattr(vt, str(result.dtype)[6:])), value.to(result.dtype)
            if found is not None:
                check(
                    *found,
                    where=f"{op.name} out={out.dtype} {describe(args, kwargs)}",
                    strides=True,
                )


@pytest.mark.parametrize("op", grid("out_autograd", OUT))
def test_out_refuses_autograd(op):
    args, kwargs = samples(op, torch.float32)[0]
    function = getattr(vt, op.name)
    value, error = call(function, ours(list(args)), ours(kwargs))
    if error is not None or not value.dtype.is_floating_point:
        return
    with pytest.raises(RuntimeError):
        function(*ours(list(args), grad=True), **ours(kwargs), out=vt.empty_like(value))


def test_overlapping_output_is_refused():
    for library in (vt, torch):
        x = library.zeros(1).expand(3)
        with pytest.raises(RuntimeError):
            x.add_(1)
        y = library.arange(5)
        with pytest.raises(RuntimeError):
            y[1:].add_(y[:-1])
        with pytest.raises(RuntimeError):
            library.add(y[:-1], 1, out=y[1:])


def test_make_is_repeatable():
    assert torch.equal(Make("x", torch.float32)(3), Make("x", torch.float32)(3))
