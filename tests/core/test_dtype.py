"""dtype and device objects: identity, categories, promotion, limits, parsing."""

import copy
import itertools
import pickle

import pytest
import torch

import vibetensor as vt

NAMES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
ALIASES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "cfloat": "complex64",
    "cdouble": "complex128",
}
INTEGRAL = NAMES[1:6]
FLOATING = NAMES[6:10]


def name_of(dtype):
    return str(dtype).rpartition(".")[2]


@pytest.mark.parametrize("name", NAMES)
def test_attributes(name):
    ours, peer = getattr(vt, name), getattr(torch, name)
    assert repr(ours) == str(ours) == f"vibetensor.{name}"
    for attribute in ("itemsize", "is_floating_point", "is_complex", "is_signed"):
        assert getattr(ours, attribute) == getattr(peer, attribute)
    assert pickle.loads(pickle.dumps(ours)) is ours
    assert copy.copy(ours) is ours
    assert copy.deepcopy({"a": ours})["a"] is ours
    assert len({ours, getattr(vt, name)}) == 1


def test_aliases():
    for alias, name in ALIASES.items():
        assert getattr(vt, alias) is getattr(vt, name)


def test_no_instances():
    with pytest.raises(TypeError):
        vt.dtype()
    with pytest.raises(TypeError):
        type("sub", (vt.dtype,), {})


def test_real_and_complex():
    assert vt.complex64.to_real() is vt.float32
    assert vt.float64.to_complex() is vt.complex128
    assert vt.float16.to_real() is vt.float16
    assert vt.bfloat16.to_complex() is vt.complex64
    with pytest.raises(RuntimeError):
        vt.int64.to_complex()


@pytest.mark.parametrize(("a", "b"), list(itertools.product(NAMES, NAMES)))
def test_promotion(a, b):
    peer = torch.promote_types(getattr(torch, a), getattr(torch, b))
    assert name_of(vt.promote_types(getattr(vt, a), getattr(vt, b))) == name_of(peer)
    peer = torch.can_cast(getattr(torch, a), getattr(torch, b))
    assert vt.can_cast(getattr(vt, a), getattr(vt, b)) == peer


def test_promotion_wants_dtypes():
    with pytest.raises(TypeError, match=r"promote_types\(\): argument 'type1' \(position 1\)"):
        vt.promote_types(1, vt.int8)


def test_default_dtype():
    assert vt.get_default_dtype() is vt.float32
    try:
        vt.set_default_dtype(vt.float64)
        assert vt.tensor([1.5]).dtype is vt.float64
        assert vt.tensor([1j]).dtype is vt.complex128
        assert repr(vt.tensor([1.5])) == "tensor([1.5000])"
    finally:
        vt.set_default_dtype(vt.float32)
    for bad in (vt.int32, vt.complex64):
        with pytest.raises(TypeError, match="only floating-point types are supported"):
            vt.set_default_dtype(bad)


@pytest.mark.parametrize(
    ("given", "name"), [(float, "float64"), (int, "int64"), (bool, "bool"), (complex, "complex128")]
)
def test_python_types_as_dtype(given, name):
    assert vt.tensor([1], dtype=given).dtype is getattr(vt, name)


@pytest.mark.parametrize("bad", ["float32", str, 3])
def test_wrong_dtype(bad):
    with pytest.raises(TypeError, match=r"must be vibetensor\.dtype"):
        vt.tensor([1], dtype=bad)


@pytest.mark.parametrize("name", (*FLOATING, "complex64", "complex128"))
def test_finfo(name):
    ours, peer = vt.finfo(getattr(vt, name)), torch.finfo(getattr(torch, name))
    assert repr(ours) == repr(peer)
    for attribute in ("bits", "max", "min", "eps", "tiny", "smallest_normal", "resolution"):
        assert getattr(ours, attribute) == getattr(peer, attribute)


@pytest.mark.parametrize("name", INTEGRAL)
def test_iinfo(name):
    ours, peer = vt.iinfo(getattr(vt, name)), torch.iinfo(getattr(torch, name))
    assert (ours.bits, ours.min, ours.max) == (peer.bits, peer.min, peer.max)


def test_limits_of_wrong_types():
    with pytest.raises(TypeError):
        vt.finfo(vt.int32)
    for bad in (vt.float32, vt.bool, 3):
        with pytest.raises(TypeError):
            vt.iinfo(bad)


@pytest.mark.parametrize(
    "text",
    ["cpu", "cuda", "cuda:7", "meta", "cuda:x", "cpu:-1", "cuda:01", "", "cuda:", "cuda:0:1"],
)
def test_device_strings(text):
    try:
        peer = torch.device(text)
    except RuntimeError as error:
        with pytest.raises(RuntimeError) as ours:
            vt.device(text)
        assert str(ours.value) == str(error)
        return
    ours = vt.device(text)
    assert (ours.type, ours.index, repr(ours), str(ours)) == (
        peer.type,
        peer.index,
        repr(peer),
        str(peer),
    )


def test_device_objects():
    d = vt.device("cuda", 1)
    assert d == vt.device("cuda:1") == vt.device(type="cuda", index=1) == vt.device(1)
    assert d != vt.device("cuda") and d != "cuda:1"
    assert hash(d) == hash(vt.device(d))
    assert pickle.loads(pickle.dumps(d)) == copy.deepcopy(d) == d
    for bad in ("gpu", "CPU"):
        with pytest.raises(RuntimeError, match="Expected one of cpu"):
            vt.device(bad)
    with pytest.raises(RuntimeError, match="must not include an index"):
        vt.device("cuda:1", 1)
    with pytest.raises(RuntimeError, match="must not be negative"):
        vt.device("cuda", -1)
    for bad in (1.5, None):
        with pytest.raises(TypeError):
            vt.device(bad)


def test_default_device():
    assert vt.get_default_device() == vt.device("cpu")
    with vt.device("meta"):
        assert vt.get_default_device() == vt.device("meta")
    assert vt.get_default_device() == vt.device("cpu")
    with pytest.raises(TypeError, match="argument 'device'"):
        vt.tensor([1], device=1.5)
