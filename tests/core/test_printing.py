"""``repr`` against PyTorch's, over dtypes, ranks, sizes of numbers, special values and options."""

import re

import numpy as np
import pytest
import torch

import vibetensor as vt

NAMES = (
    "bool",
    "uint8",
    "int16",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0)


@pytest.fixture(autouse=True)
def options():
    yield
    vt.set_printoptions(profile="default")
    torch.set_printoptions(profile="default")


def comparable(text):
    """Without the library's name, and with every suffix on the line before it: the name is longer
    than PyTorch's, so that a suffix may need a line of its own."""
    text = text.replace("torch.", "vibetensor.")
    return re.sub(r",\n {7}(?=dtype|size|grad_fn|requires_grad)", ", ", text)


def check(ours, peer):
    assert comparable(repr(ours)) == comparable(repr(peer))
    assert str(ours) == repr(ours)


def random_values(rng, shape, name):
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 10)
    kind = rng.integers(0, 3)
    if kind == 0:
        values = np.round(values)
    elif kind == 1:
        values = rng.integers(0, 3, size=shape) * 1.0
    if name.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 6)
    values = np.array(values)
    if values.size and rng.random() < 0.25 and not name.startswith(("int", "uint")):
        values.reshape(-1)[rng.integers(0, values.size, size=2)] = rng.choice(SPECIAL, size=2)
    return values


def pair(values, name):
    """The same tensor on both sides."""
    with np.errstate(all="ignore"):
        if name == "bfloat16":
            peer = torch.from_numpy(np.asarray(values, dtype=np.float32)).to(torch.bfloat16)
        else:
            peer = torch.from_numpy(np.asarray(np.asarray(values).astype(name)))
    return vt.from_dlpack(peer), peer


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_random(name, seed):
    rng = np.random.default_rng([seed, NAMES.index(name)])
    for _ in range(15):
        longest = rng.choice([4, 8, 25])
        shape = tuple(
            int(n) for n in rng.integers(0 if seed == 0 else 1, longest, rng.integers(0, 5))
        )
        if np.prod(shape) > 20000:
            continue
        given = {}
        if rng.random() < 0.3:
            given = {
                "precision": int(rng.integers(1, 7)),
                "edgeitems": int(rng.integers(1, 5)),
                "threshold": int(rng.choice([5, 20, 1000])),
                "linewidth": int(rng.choice([40, 80, 120])),
                "sci_mode": [None, True, False][rng.integers(0, 3)],
            }
        for module in (vt, torch):
            module.set_printoptions(profile="default")
            module.set_printoptions(**given)
        check(*pair(random_values(rng, shape, name), name))


@pytest.mark.parametrize(
    "values",
    [
        [0.0, -0.0],
        [np.nan],
        [np.inf, 1.0],
        [np.nan, 1.5],
        [1e-45, 1.0],
        [1e30],
        [99999999.0],
        [100000001.0],
        [1000.0, 1.0],
        [1001.0, 1.0],
        [1e-4],
        [9e-5],
        [[1.0, 2.5], [np.inf, -np.inf]],
        3.0,
        2.5,
    ],
    ids=str,
)
def test_chosen_format(values):
    check(*pair(np.array(values), "float32"))
    check(*pair(np.array(values), "float64"))


def test_summary():
    for shape in ((1001,), (40, 40), (11, 11, 11), (1, 2000), (2000, 1), (2, 3, 400)):
        check(*pair(np.arange(np.prod(shape)).reshape(shape), "float32"))
        check(*pair(np.arange(np.prod(shape)).reshape(shape), "int64"))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
@pytest.mark.parametrize("name", ["float32", "float64", "int64", "bool"])
def test_empty(shape, name):
    check(*pair(np.zeros(shape), name))


def test_history():
    ours, peer = pair(np.arange(3.0), "float32")
    ours.requires_grad_()
    peer.requires_grad_()
    check(ours, peer)
    check(ours * 2, peer * 2)
    check(ours[1:], peer[1:])
    check(ours[1], peer[1])


def test_negative_strides():
    assert repr(vt.arange(4)[::-1]) == "tensor([3, 2, 1, 0])"


def test_default_dtype_is_not_named():
    vt.set_default_dtype(vt.float64)
    torch.set_default_dtype(torch.float64)
    try:
        for name in ("float32", "float64", "complex64", "complex128", "int32"):
            check(*pair(np.arange(3), name))
    finally:
        vt.set_default_dtype(vt.float32)
        torch.set_default_dtype(torch.float32)


def test_options():
    before = vt.get_printoptions()
    with vt.printoptions(precision=1, linewidth=20):
        assert repr(vt.tensor([0.25, 1.5])) == "tensor([0.2, 1.5])"
        assert vt.get_printoptions()["linewidth"] == 20
    assert vt.get_printoptions() == before
    vt.set_printoptions(profile="full")
    assert "..." not in repr(vt.arange(2000))
    vt.set_printoptions(profile="short")
    assert vt.get_printoptions()["precision"] == 2
    with pytest.raises(ValueError, match="profile"):
        vt.set_printoptions(profile="long")


def test_format():
    assert f"{vt.tensor(1.5):.3f}" == "1.500"
    assert f"{vt.tensor(3):d}" == "3"
    assert f"{vt.tensor([1.5])}" == "tensor([1.5000])"
    with pytest.raises(TypeError, match="unsupported format string"):
        format(vt.tensor([1.5]), ".3f")
