"""DLPack in both directions: numpy and torch as partners, lifetime, flags, refusals."""

import ctypes
import gc
import threading
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
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)


class Tracked(np.ndarray):
    """An array that can be weakly referenced."""


def tracked():
    """An array and a list that grows when it dies."""
    array = np.arange(6.0).view(Tracked)
    deaths = []
    weakref.finalize(array, deaths.append, 1)
    return array, deaths


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_with_torch(name):
    base = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, name))
    for peer in (
        base,
        base.transpose(0, 2),
        base[1:],
        base[:, 1:, ::2],
        base[:, :0],
        base[0, 0, 0],
    ):
        ours = vt.from_dlpack(peer)
        assert ours.dtype is getattr(vt, name)
        assert tuple(ours.shape) == tuple(peer.shape)
        assert ours.tolist() == peer.tolist()
        back = torch.from_dlpack(ours)
        assert torch.equal(back, peer)
        if peer.numel():
            assert ours.data_ptr() == peer.data_ptr() == back.data_ptr()
            assert ours.stride() == peer.stride()


def test_memory_is_shared():
    array = np.arange(6.0)
    t = vt.from_dlpack(array)
    array[2] = 7
    assert t[2].item() == 7
    t[3] = 9
    assert array[3] == 9


def test_negative_strides():
    array = np.arange(12).reshape(3, 4)[::-1, ::-2]
    t = vt.from_dlpack(array)
    assert t.tolist() == array.tolist()
    assert (np.from_dlpack(t) == array).all()


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 3), (2, 0)])
def test_capsules_die_unused(version):
    array, deaths = tracked()
    t = vt.from_numpy(array)
    capsule = t.__dlpack__(max_version=version)
    del t, array
    gc.collect()
    assert not deaths
    del capsule
    assert deaths == [1]


@pytest.mark.parametrize("version", [None, (1, 0)])
def test_consumed_capsule_releases_once(version):
    array, deaths = tracked()
    capsule = vt.from_numpy(array).__dlpack__(max_version=version)
    t = vt.from_dlpack(capsule)
    del array, capsule
    gc.collect()
    assert not deaths
    view = t[1:3]
    del t
    assert not deaths
    del view
    assert deaths == [1]


def test_capsule_is_consumed_once():
    capsule = vt.zeros(2).__dlpack__()
    vt.from_dlpack(capsule)
    with pytest.raises(RuntimeError, match="consumed already"):
        vt.from_dlpack(capsule)


def test_release_from_another_thread():
    array, deaths = tracked()
    holder = [torch.from_dlpack(vt.from_numpy(array))]
    del array
    thread = threading.Thread(target=holder.pop)
    thread.start()
    thread.join()
    gc.collect()
    assert deaths == [1]


def test_deleter_without_the_gil():
    """A consumer may call the deleter from a thread that Python never saw."""
    array, deaths = tracked()
    capsule = vt.from_numpy(array).__dlpack__()
    del array

    class Managed(ctypes.Structure):
        _fields_ = (
            ("dl_tensor", ctypes.c_char * 48),
            ("manager_ctx", ctypes.c_void_p),
            ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        )

    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = api.PyCapsule_GetPointer(capsule, b"dltensor")
    used = b"used_dltensor"
    api.PyCapsule_SetName(capsule, used)
    # ctypes gives up the GIL around the call.
    thread = threading.Thread(target=Managed.from_address(address).deleter, args=(address,))
    thread.start()
    thread.join()
    assert deaths == [1]
    del capsule
    assert deaths == [1]


def test_read_only():
    array = np.arange(3.0)
    array.flags.writeable = False
    t = vt.from_dlpack(array)
    assert not np.from_dlpack(t).flags.writeable
    assert not t.numpy().flags.writeable
    with pytest.raises(BufferError, match="read-only"):
        t.__dlpack__()


def test_copy():
    t = vt.arange(4)
    shared = vt.from_dlpack(t)
    copied = vt.from_dlpack(t, copy=True)
    t[0] = 5
    assert shared[0].item() == 5
    assert copied[0].item() == 0
    assert vt.from_dlpack(t, copy=False).data_ptr() == t.data_ptr()


def test_old_producer():
    class Producer:
        def __dlpack__(self):
            return torch.ones(2).__dlpack__()

        def __dlpack_device__(self):
            return 1, 0

    assert vt.from_dlpack(Producer()).tolist() == [1, 1]
    with pytest.raises(TypeError):
        vt.from_dlpack(Producer(), copy=True)


def test_device_tuple():
    assert vt.zeros(1).__dlpack_device__() == (1, 0)


def test_refusals():
    t = vt.zeros(2)
    with pytest.raises(BufferError, match="stream"):
        t.__dlpack__(stream=1)
    with pytest.raises(TypeError, match="stream must be int"):
        t.__dlpack__(stream="1")
    with pytest.raises(BufferError, match="DLPack device"):
        t.__dlpack__(dl_device=(2, 0))
    t.__dlpack__(dl_device=(1, 0), stream=-1)
    for old in ((), (0, 8), (1,)):
        assert '"dltensor"' in repr(t.__dlpack__(max_version=old))
    t.requires_grad_()
    with pytest.raises(BufferError, match="require gradient,"):
        t.__dlpack__()
    for bad in (3, None, [1]):
        with pytest.raises(TypeError, match="from_dlpack"):
            vt.from_dlpack(bad)
    with pytest.raises(BufferError, match="no dtype"):
        vt.from_dlpack(np.zeros(2, dtype=np.uint16))
