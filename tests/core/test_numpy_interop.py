"""Memory shared with numpy and buffers: ``from_numpy``, ``numpy()``, ``frombuffer``."""

import gc
import weakref

import numpy as np
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
    "float32",
    "float64",
    "complex64",
    "complex128",
)
LAYOUTS = {
    "contiguous": lambda a: a,
    "transposed": lambda a: a.T,
    "reversed": lambda a: a[::-1, :, ::-2],
    "expanded": lambda a: np.broadcast_to(a[:, :1], a.shape),
    "empty": lambda a: a[:, :0],
    "scalar": lambda a: np.asarray(a[1, 2, 3]),
    "offset": lambda a: a[1:, 1:, 1:],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_round_trip(name, layout):
    array = LAYOUTS[layout](np.arange(60).reshape(3, 4, 5).astype(name))
    t = vt.from_numpy(array)
    assert t.dtype is getattr(vt, name)
    assert tuple(t.shape) == array.shape
    assert t.tolist() == array.tolist()
    back = t.numpy()
    assert back.dtype == array.dtype
    assert (back == array).all()
    if array.size:
        assert t.data_ptr() == array.ctypes.data == back.ctypes.data
        assert back.strides == array.strides
        assert back.flags.writeable == array.flags.writeable


def test_lifetime():
    class Tracked(np.ndarray):
        pass

    array = np.arange(4.0).view(Tracked)
    alive = weakref.ref(array)
    t = vt.from_numpy(array)
    del array
    view = t[1:].numpy()
    del t
    gc.collect()
    assert alive() is not None
    assert view.tolist() == [1, 2, 3]
    del view
    assert alive() is None


def test_own_memory_outlives_the_tensor():
    t = vt.arange(5)
    array = t.numpy()
    del t
    gc.collect()
    assert array.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "bad",
    [
        np.array(["a"]),
        np.zeros(2, dtype=object),
        np.zeros(2, dtype="M8[s]"),
        np.zeros(2, dtype=np.longdouble),
        np.array([1], dtype=">i4"),
        np.zeros(2, dtype=[("a", "i1"), ("b", "f8")])["b"],
        [1],
        np.float32(1),
    ],
    ids=str,
)
def test_refused_arrays(bad):
    with pytest.raises((TypeError, ValueError)) as peer:
        torch.from_numpy(bad)
    with pytest.raises(peer.type) as ours:
        vt.from_numpy(bad)
    assert str(ours.value)[:40] == str(peer.value)[:40]


def test_read_only_warns():
    with pytest.warns(UserWarning, match="not writable"):
        t = vt.from_numpy(np.frombuffer(b"abcd", dtype=np.int8))
    assert t.tolist() == [97, 98, 99, 100]


def test_numpy_refusals():
    with pytest.raises(TypeError, match="unsupported ScalarType BFloat16"):
        vt.zeros(2, dtype=vt.bfloat16).numpy()
    x = vt.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\) instead"):
        x.numpy()
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(x)
    assert x.numpy(force=True).tolist() == [1, 1]


def test_array_protocol():
    x = vt.arange(3)
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.asarray(x, dtype=np.float64).tolist() == [0.0, 1.0, 2.0]
    assert not np.shares_memory(np.array(x), x.numpy())
    with pytest.raises(ValueError, match="avoid copy"):
        x.__array__(np.float32, copy=False)
    assert (np.stack([x, x]) == [[0, 1, 2], [0, 1, 2]]).all()


def test_binary_operator_with_array_on_the_left():
    r = np.arange(3.0) * vt.ones(3, dtype=vt.float64)
    assert isinstance(r, vt.Tensor)
    assert r.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (4, {}),
        (4, {"offset": 1, "count": 1}),
        (4, {"offset": 2}),
        (4, {"count": 1}),
        (5, {}),
        (0, {}),
        (4, {"count": 0}),
        (4, {"offset": 5}),
        (4, {"offset": -1}),
        (4, {"offset": 3}),
        (4, {"count": 5}),
    ],
)
def test_frombuffer(size, options):
    data = bytearray(b"abcdefgh"[:size])
    try:
        peer = torch.frombuffer(data, dtype=torch.int16, **options)
    except ValueError as error:
        with pytest.raises(ValueError) as ours:
            vt.frombuffer(data, dtype=vt.int16, **options)
        assert str(ours.value) == str(error)
        return
    ours = vt.frombuffer(data, dtype=vt.int16, **options)
    assert ours.tolist() == peer.tolist()
    ours[0] = 0
    assert peer[0] == 0


def test_frombuffer_refusals():
    with pytest.raises(ValueError, match="does not implement Python buffer protocol"):
        vt.frombuffer([1], dtype=vt.int8)
    with pytest.raises(TypeError):
        vt.frombuffer(bytearray(4), dtype=None)
    with pytest.warns(UserWarning, match="not writable"):
        vt.frombuffer(b"abcd", dtype=vt.int8)
    data = bytearray(4)
    t = vt.frombuffer(data, dtype=vt.int8)
    with pytest.raises(BufferError):
        data.extend(b"more")  # the tensor holds the buffer
    del t
    data.extend(b"more")
