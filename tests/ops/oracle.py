"""Both libraries side by side: finding the peer, carrying values over, comparing, known gaps."""

import pytest
import torch
import torch.nn.functional as peer_functional

import vibetensor as vt
import vibetensor.nn.functional as functional
from vibetensor._gen.load import load

from . import fused_peers

# Published under the name of the entry by a function written by hand.
BY_HAND = {"view"}
OPS = {
    op.name: op
    for op in load().OPS.values()
    if (op.surfaces or op.name in BY_HAND) and not op.name.startswith("_")
}
SURFACES = {
    "vt": (vt, torch),
    "Tensor": (vt.Tensor, torch.Tensor),
    "nn.functional": (functional, peer_functional),
}


def rotary_embedding(input, cos, sin, interleaved=False):
    """The formula, in the precision that is promised."""
    if not isinstance(input, torch.Tensor):
        raise TypeError
    if not input.is_floating_point():
        raise NotImplementedError(input.dtype)
    n, wide = cos.shape[1], torch.promote_types(input.dtype, torch.float32)
    pairs = slice(0, 2 * n, 2) if interleaved else slice(0, n)
    partners = slice(1, 2 * n, 2) if interleaved else slice(n, 2 * n)
    a, b = input[..., pairs].to(wide), input[..., partners].to(wide)
    c, s = cos.detach().to(wide)[:, None, :], sin.detach().to(wide)[:, None, :]
    out = input.clone()
    out[..., pairs], out[..., partners] = (a * c - b * s).to(out), (b * c + a * s).to(out)
    return out


# Public operators that go by another name there, or that PyTorch does not have.
PEERS = {
    "alias": torch.ops.aten.alias,
    "functional_relu": peer_functional.relu,
    "rotary_embedding": rotary_embedding,
    **fused_peers.PEERS,
}
OURS = {"functional_relu": functional.relu, "rotary_embedding": functional.rotary_embedding}

# Relative and absolute tolerance of an element, by the dtype of the result.
TOLERANCE = {
    torch.float16: (2e-3, 1e-3),
    torch.bfloat16: (1.6e-2, 8e-3),
    torch.float32: (3e-6, 2e-6),
    torch.float64: (1e-12, 1e-13),
    torch.complex64: (5e-6, 3e-6),
    torch.complex128: (1e-12, 1e-13),
}

# What a version of PyTorch gets wrong and a later one right: the right answer is asked for all the same.
NAME_FOR_DIM = "a string for a dimension is looked up among names, RuntimeError for TypeError"
NAN_BOUND = "a bound that is NaN is ignored, for a result of NaN"
HUGE = "GELU of the largest numbers is infinity, and that of infinity NaN"
OVERFLOW_TEXT = "the dtype that a complex number overflows is called double"
FAULTS = {
    "2.11": {
        NAME_FOR_DIM: {"sum", "mean", "prod", "any", "all", "cumsum", "softmax"},
        NAN_BOUND: {"clamp"},
        HUGE: {"gelu", "bias_gelu"},
        OVERFLOW_TEXT: {"clamp"},
    },
}


def at_fault(what, name):
    """Whether the PyTorch that is installed gets this wrong for the operator."""
    version = ".".join(torch.__version__.split(".")[:2])
    return name in FAULTS.get(version, {}).get(what, ())


# Where we differ from PyTorch: (test, operator, dtype or None) -> why. Each must fail.
GAPS = {}


# Matrix products, which no device computes in integers; PyTorch's neither.
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "matmul", "linear", "conv1d"}
PRODUCTS |= {"linear_gelu", "gelu_mlp", "linear_cross_entropy"}


def gap(op, dtype):
    """Whether test_values knows that the operator lacks the dtype."""
    return ("values", op.name, dtype) in GAPS


def grid(test, ops, dtypes=(None,)):
    """Parameters (op, dtype) of a test, with the known gaps marked."""
    cases = []
    for op in ops:
        for dtype in dtypes:
            reason = GAPS.get((test, op.name, dtype)) or GAPS.get((test, op.name, None))
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            name = op.name if dtype is None else f"{op.name}-{str(dtype)[6:]}"
            values = (op,) if dtypes == (None,) else (op, dtype)
            cases.append(pytest.param(*values, marks=marks, id=name))
    return cases


def our_function(name):
    """Ours where PyTorch's has another name, or none."""
    return OURS.get(name) or getattr(functional, name, None) or getattr(vt.Tensor, name)


def functions(op):
    """Our function for an operator and PyTorch's."""
    if op.name in PEERS:
        return our_function(op.name), PEERS[op.name]
    for surface, (our_home, peer_home) in SURFACES.items():
        if surface in (op.surfaces or ("Tensor",)):
            # PyTorch has some as functions only, or as methods only.
            for home in (peer_home, torch, peer_functional):
                if hasattr(home, op.name):
                    return getattr(our_home, op.name), getattr(home, op.name)
    raise LookupError(f"{op.where}: PyTorch has no {op.name}; say so in tests/ops/oracle.py")


DEVICE = "cpu"


def place_arguments(device):
    """From now on `ours` puts tensors on this device."""
    global DEVICE
    DEVICE = device


def on_device(value):
    """A PyTorch tensor as ours on a device: a copy of its whole memory, with its strides."""
    length = value.untyped_storage().nbytes() // value.itemsize
    whole = vt.from_dlpack(value.detach().as_strided((length,), (1,), 0)).to(DEVICE)
    return vt.as_strided(whole, value.shape, value.stride(), value.storage_offset())


def ours(value, grad=False):
    """A PyTorch value as ours; tensors keep their strides, and on the CPU share memory."""
    if isinstance(value, torch.Tensor):
        x = vt.from_dlpack(value.detach()) if DEVICE == "cpu" else on_device(value)
        if x.stride() != value.stride():
            x = vt.as_strided(x, value.shape, value.stride())
        return x.requires_grad_() if grad and differentiable(value) else x
    if isinstance(value, torch.dtype):
        return getattr(vt, str(value)[6:])
    if isinstance(value, (list, tuple)):
        return type(value)(ours(v, grad) for v in value)
    if isinstance(value, dict):
        return {k: ours(v, grad) for k, v in value.items()}
    return value


def differentiable(x):
    return x.is_floating_point() or x.is_complex()


def theirs(x):
    """Our tensor as PyTorch's."""
    x = x.detach().cpu()
    return torch.from_dlpack(x if all(s >= 0 for s in x.stride()) else x.contiguous())


def fresh(value):
    """A copy of a PyTorch value with memory of its own and the same strides."""
    if isinstance(value, torch.Tensor):
        if value.numel() < 2 or 0 in value.stride():
            return value.clone()
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype).copy_(value)
    if isinstance(value, (list, tuple)):
        return type(value)(fresh(v) for v in value)
    if isinstance(value, dict):
        return {k: fresh(v) for k, v in value.items()}
    return value


def tensors(value):
    """All tensors in arguments or results, of either library."""
    if isinstance(value, (torch.Tensor, vt.Tensor)):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in tensors(v)]
    if isinstance(value, dict):
        return tensors(list(value.values()))
    return []


def call(function, args, kwargs):
    """The result and the exception of a call; one of them is None."""
    try:
        result = function(*args, **kwargs)
        if DEVICE != "cpu":
            vt.cuda.synchronize()  # a bad index is reported there
        return result, None
    except Exception as error:
        return None, error


def agree(error, peer_error):
    """Whether we raise as PyTorch does. A device does not look for zero divisors, here as there, and
    reports a bad index when the program next waits, for all operators alike."""
    if DEVICE != "cpu" and "ZeroDivisionError" in str(peer_error):
        return error is None
    if DEVICE != "cpu" and isinstance(error, IndexError) and "out of bounds" in str(error):
        return True
    return type(error) is type(peer_error)


def both(op, args, kwargs, functions_=None):
    """Calls both with the same arguments. Returns (ours, theirs); None where PyTorch raises, after
    checking that we raise it too, or compute what PyTorch does not implement."""
    our_function, peer_function = functions_ or functions(op)
    copies, keywords = fresh(list(args)), fresh(kwargs)
    result, error = call(our_function, ours(copies), ours(keywords))
    expected, peer_error = call(peer_function, fresh(list(args)), fresh(kwargs))
    where = f"{op.name}{describe(args, kwargs)}"
    if peer_error is not None:
        known = not_implemented(peer_error) or agree(error, peer_error)
        assert known, f"{where}: {error!r}; PyTorch: {peer_error!r}"
        return None
    if isinstance(error, NotImplementedError) and any(
        t.numel() == 0 for t in tensors([args, kwargs])
    ):
        return None  # PyTorch's kernels do not look at the dtype of nothing
    if (
        isinstance(error, NotImplementedError)
        and DEVICE != "cpu"
        and op.name in PRODUCTS
        and not any(differentiable(t) for t in tensors(list(args)))
    ):
        return None
    if error is not None:
        raise AssertionError(f"{where}: {error!r}; PyTorch computes it") from error
    return result, expected


def not_implemented(error):
    text = str(error)
    return (
        isinstance(error, NotImplementedError)
        or "not implemented for" in text
        or "not support" in text
    )


def describe(args, kwargs):
    def one(v):
        if isinstance(v, torch.Tensor):
            return f"{str(v.dtype)[6:]}{tuple(v.shape)}"
        return f"[{', '.join(map(one, v))}]" if isinstance(v, (list, tuple)) else repr(v)

    return f"({', '.join([*map(one, args), *(f'{k}={one(v)}' for k, v in kwargs.items())])})"


def check(result, expected, where="", strides=False, values=True, signs=False):
    """Compares results of any structure: dtype, shape, values; strides and signs of zeros if asked."""
    if not isinstance(expected, (torch.Tensor, list, tuple)):
        assert result == expected, where
        return
    results, wanted = tensors(result), tensors(expected)
    assert len(results) == len(wanted), where
    for x, y in zip(results, wanted):
        y = y.detach().resolve_conj().resolve_neg()
        assert str(x.dtype).rpartition(".")[2] == str(y.dtype)[6:], (
            f"{where}: {x.dtype}, not {y.dtype}"
        )
        assert tuple(x.shape) == tuple(y.shape), f"{where}: {x.shape}, not {y.shape}"
        if strides:
            assert tuple(x.stride()) == y.stride(), (
                f"{where}: strides {x.stride()}, not {y.stride()}"
            )
        if values:
            same_values(theirs(x), y, where, signs)


def same_values(x, y, where, signs=False):
    if y.dtype not in TOLERANCE:
        if not torch.equal(x, y):
            at = tuple((x != y).nonzero()[0].tolist())
            raise AssertionError(f"{where}: at {at} {x[at].item()!r}, not {y[at].item()!r}")
        return
    rtol, atol = TOLERANCE[y.dtype]
    wide = torch.complex128 if y.is_complex() else torch.float64
    close = torch.isclose(x.to(wide), y.to(wide), rtol=rtol, atol=atol, equal_nan=True)
    if not close.all():
        at = tuple((~close).nonzero()[0].tolist())
        raise AssertionError(f"{where}: at {at} {x[at].item()!r}, not {y[at].item()!r}")
    if signs:
        zeros = (y == 0) & (torch.signbit(x) != torch.signbit(y))
        assert not zeros.any(), f"{where}: sign of zero at {zeros.nonzero()[:1].tolist()}"
