"""``tensor``, ``as_tensor``, ``asarray``, and reading tensors back as Python numbers."""

import copy
import operator
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

import vibetensor as vt

# Each is read by both libraries: equal dtype, shape and values, or the same error type.
DATA = [
    1,
    2.5,
    True,
    1j,
    [],
    [[]],
    [[], []],
    (),
    (1, 2),
    [1, 2.5],
    [True, 2],
    [True, 1.5],
    [1, 1j],
    [1.5, 1j],
    [[1, 2], [3, 4]],
    [[[1.0], [2.0]], [[3.0], [4.0]]],
    range(3),
    bytearray(b"ab"),
    memoryview(b"ab"),
    np.float32(1),
    np.float64(1),
    [np.float32(1)],
    [np.float64(1)],
    [np.float16(1), 1],
    [np.int8(1), np.int16(2)],
    [np.bool_(True)],
    np.int8(1),
    np.bool_(True),
    np.arange(6).reshape(2, 3),
    np.arange(6.0).reshape(2, 3).T,
    np.array(2.5),
    [np.array([1, 2]), np.array([3, 4])],
    [float("nan"), float("inf"), -0.0],
    [2**62, -(2**63)],
    [[1, 2, 3], [1, 2]],
    [[[1, 2], [3, 4]], [[1, 2], [3]]],
    [1, [2]],
    [[1], 2],
    [[1, 2], 3],
    [[1, 2], [3, [4]]],
    "a",
    ["a"],
    [1, "a"],
    b"ab",
    None,
    [None],
    {},
    {1: 2},
    {1, 2},
    iter([1]),
    slice(1),
    [...],
    Fraction(1, 2),
    [Decimal(1)],
    2**63,
    [2**64],
    [1, 2**70],
    np.array(["a"]),
    np.array([1], dtype=">i4"),
]
CONVERSIONS = [
    (300, "uint8"),
    ([300], "uint8"),
    (-1, "uint8"),
    ([200], "int8"),
    ([1.5], "int32"),
    ([1e20], "int32"),
    ([2**31], "int32"),
    ([float("nan")], "int32"),
    ([float("inf")], "int64"),
    ([1e19], "int64"),
    ([1j], "float32"),
    ([1j], "int32"),
    ([2], "bool"),
    ([0.5], "bool"),
    (1j, "bool"),
    ([1e10], "float16"),
    ([1e40], "float32"),
    ([1.0009765625, 1.00048828125], "float16"),
    ([1.00390625, 3.14159], "bfloat16"),
    ([True], "complex64"),
    ([2**70], "float32"),
    (10**400, "float64"),
    (np.array([1.5, -2.5]), "int32"),
]
TEXTS = ("expected sequence", "new(): invalid", "Could not infer", "not a sequence", "value cannot")


def read(module, make):
    """(dtype, shape, values) or the error."""
    try:
        t = make(module)
    except Exception as error:
        return error
    return str(t.dtype).rpartition(".")[2], tuple(t.shape), str(t.tolist())


def compare(make):
    ours, peer = read(vt, make), read(torch, make)
    if isinstance(peer, Exception):
        assert type(ours) is type(peer)
        if str(peer).startswith(TEXTS):
            assert str(ours)[:25] == str(peer)[:25]
    else:
        assert ours == peer


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list")
@pytest.mark.parametrize("data", DATA, ids=lambda data: repr(data).partition(" at 0x")[0])
def test_data(data):
    compare(lambda module: module.tensor(data))


@pytest.mark.parametrize(("data", "name"), CONVERSIONS, ids=repr)
def test_conversion(data, name):
    compare(lambda module: module.tensor(data, dtype=getattr(module, name)))


def test_ragged_behind_an_empty_row():
    with pytest.raises(ValueError, match=r"expected sequence of length 0 at dim 1 \(got 1\)"):
        vt.tensor([[], [1]])


def test_tensors_as_data():
    x = vt.tensor([1.0, 2.0], requires_grad=True)
    with pytest.warns(UserWarning, match="copy construct"):
        y = vt.tensor(x)
    assert not y.requires_grad
    assert y.data_ptr() != x.data_ptr()
    assert vt.tensor([vt.tensor(1), vt.tensor(2)]).tolist() == [1, 2]
    assert vt.tensor([vt.tensor(1.0, dtype=vt.float64), 1]).dtype is vt.float64
    with pytest.raises(ValueError, match="only one element"):
        vt.tensor([vt.ones(2), vt.ones(2)])


def test_requires_grad():
    assert vt.tensor([1.0], requires_grad=True).requires_grad
    with pytest.raises(RuntimeError, match="floating point and complex"):
        vt.tensor([1], requires_grad=True)


def test_cuda_without_backend():
    if hasattr(vt, "cuda") and vt.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.raises(RuntimeError, match="CUDA"):
        vt.tensor([1.0], device="cuda")


def test_as_tensor():
    x = vt.ones(3)
    assert vt.as_tensor(x) is x
    assert vt.as_tensor(x, dtype=vt.float64).dtype is vt.float64
    array = np.arange(3.0)
    t = vt.as_tensor(array)
    array[0] = 5
    assert t.tolist() == [5, 1, 2]
    assert vt.as_tensor(array, dtype=vt.float32).tolist() == [5, 1, 2]
    assert vt.as_tensor([1, 2]).dtype is vt.int64


def test_asarray():
    x = vt.ones(3)
    assert vt.asarray(x) is x
    assert vt.asarray(x, copy=True) is not x
    assert vt.asarray(np.arange(3), dtype=vt.int32).dtype is vt.int32
    assert vt.asarray(torch.ones(2)).tolist() == [1, 1]
    assert vt.asarray(1.5).item() == 1.5
    assert vt.asarray(bytearray(b"abcd"), dtype=vt.int16).numel() == 2
    for bad in ({"copy": False, "dtype": vt.float64},):
        with pytest.raises(ValueError, match="can't alias"):
            vt.asarray(x, **bad)
    with pytest.raises(ValueError, match="can't alias arbitrary sequence"):
        vt.asarray([1], copy=False)
    y = vt.asarray(x, requires_grad=True)
    assert y.requires_grad
    assert not vt.asarray(y).requires_grad


# --- reading back ---------------------------------------------------------------------------------

READERS = [
    float,
    int,
    bool,
    complex,
    operator.index,
    len,
    lambda t: t.item(),
    lambda t: t.tolist(),
    lambda t: [x.tolist() for x in t],
    lambda t: [x.tolist() for x in reversed(t)],
    lambda t: [1, 2, 3][t],
]
VALUES = [
    1,
    2.7,
    True,
    1.5j,
    (2 + 0j),
    float("nan"),
    float("inf"),
    [1],
    [[1]],
    [1, 2],
    [1.5, 2],
    [],
    [[1, 2], [3, 4]],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("reader", range(len(READERS)))
def test_reading(value, reader):
    def result(module):
        try:
            return str(READERS[reader](module.tensor(value)))
        except Exception as error:
            return type(error)

    assert result(vt) == result(torch)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "uint8", "int8", "int16", "complex64"])
def test_tolist_of_dtypes(name):
    values = [[0, 1, 2], [100, 3, 7]]
    ours = vt.tensor(values, dtype=getattr(vt, name))
    peer = torch.tensor(values, dtype=getattr(torch, name))
    assert ours.tolist() == peer.tolist()
    assert ours[:, ::-1].tolist() == peer.flip(1).tolist()
    assert ours[1, 0].item() == peer[1, 0].item()


def test_truth_of_many():
    with pytest.raises(RuntimeError, match="more than one value is ambiguous"):
        bool(vt.ones(2))
    with pytest.raises(RuntimeError, match="no values is ambiguous"):
        bool(vt.ones(0))


# --- copying --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    x = vt.arange(12.0).reshape(3, 4)[:, ::-2]
    x.note = {"a": 1}
    y = pickle.loads(pickle.dumps(x, protocol=protocol))
    assert y.tolist() == x.tolist()
    assert y.is_contiguous()
    assert y.note == {"a": 1}
    assert pickle.loads(pickle.dumps(vt.zeros(0, 3), protocol=protocol)).shape == (0, 3)
    b = vt.ones(2, dtype=vt.bfloat16, requires_grad=True)
    c = pickle.loads(pickle.dumps(b, protocol=protocol))
    assert c.dtype is vt.bfloat16
    assert c.requires_grad


def test_pickle_out_of_band():
    x = vt.zeros(1000)
    buffers = []
    data = pickle.dumps(x, protocol=5, buffer_callback=buffers.append)
    assert len(data) < 1000
    assert pickle.loads(data, buffers=buffers).tolist() == x.tolist()


def test_deepcopy():
    x = vt.ones(2, requires_grad=True)
    (x * 3).sum().backward()
    a, b = copy.deepcopy([x, x])
    assert a is b
    assert a.requires_grad and a.is_leaf
    assert a.grad.tolist() == [3, 3]
    assert a.grad is not x.grad
    assert a.data_ptr() != x.data_ptr()
    with pytest.raises(RuntimeError, match="created explicitly by the user"):
        copy.deepcopy(x * 2)


def test_copy():
    x = vt.ones(2)
    assert copy.copy(x).data_ptr() == x.data_ptr()
