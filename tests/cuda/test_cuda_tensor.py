"""Tensors of a CUDA device: conversions, copies, exchange with torch, errors, random numbers."""

import copy
import io
import pickle
import threading

import pytest
import torch

import vibetensor as vt

pytestmark = [pytest.mark.gpu, pytest.mark.sanitizer]


@pytest.fixture(autouse=True)
def needs_device():
    if not vt.cuda.is_available():
        pytest.skip("needs a CUDA device")


def test_place_and_kind():
    x = vt.arange(6, device="cuda").reshape(2, 3)
    assert x.is_cuda and not x.is_cpu and x.device == vt.device("cuda", 0) and x.get_device() == 0
    assert x.cuda() is x and x.to("cuda:0") is x and x.to(x.device, copy=True) is not x
    assert x.cpu().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (x + 1).device == x.device and x.t().is_cuda and x[0].is_cuda
    assert repr(x) == "tensor([[0, 1, 2],\n        [3, 4, 5]], device='cuda:0')"
    assert x.sum().item() == 15 and bool(x[1, 2] == 5) and int(x[0, 1]) == 1
    with vt.device("cuda"):
        assert vt.zeros(1).is_cuda
    assert vt.tensor([1.0], device="cuda").is_cuda and vt.zeros_like(x).is_cuda


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "int64", "float16", "bfloat16", "float64", "complex64"]
)
def test_copies_keep_values(dtype):
    kind = getattr(vt, dtype)
    x = vt.tensor([[0, 1, 2, 0], [3, 0, 5, 6]]).to(kind)
    for view in (x, x.t(), x[:, ::2], x[:, 1:], x[:1].expand(3, 4), x[::-1], x[0, 0]):
        there = view.cuda()
        assert there.cpu().tolist() == view.tolist()
        back = vt.zeros(view.shape, dtype=kind)
        assert back.copy_(there).tolist() == view.tolist()
        strided = vt.zeros((*view.shape, 2), dtype=kind, device="cuda")[..., 0]
        assert strided.copy_(view).cpu().tolist() == view.tolist()
    assert x.cuda().t().stride() == x.t().stride() == x.t().cuda().stride()
    assert x.to("cuda", vt.float32).cpu().tolist() == x.to(vt.float32).tolist()


def test_host_numbers_and_0d_tensors_join():
    x = vt.arange(3, dtype=vt.float32, device="cuda")
    for y in (x + 1, 1 + x, x + vt.tensor(1.0), vt.tensor(1.0) + x, x.add(vt.tensor(1))):
        assert y.is_cuda and y.tolist() == [1, 2, 3]
    assert vt.where(x > 0, x, 7.0).tolist() == [7, 1, 2]
    x[1] = 5
    x[vt.tensor([0, 2])] = vt.tensor(-1.0)
    assert x.tolist() == [-1, 5, -1]
    with pytest.raises(RuntimeError, match="same device"):
        x + vt.ones(3)
    with pytest.raises(RuntimeError, match="same device"):
        vt.cat([x, vt.ones(3)])
    with pytest.raises(RuntimeError, match="same device"):
        vt.ones(1, 3) @ x.unsqueeze(1)
    with pytest.raises(RuntimeError, match="same device"):
        vt.tensor(1.0).add_(x[0])


def test_gradients_cross_devices():
    w = vt.tensor([2.0, 3.0], requires_grad=True)
    s = vt.tensor(4.0, requires_grad=True)
    (w.cuda() * s).sum().backward()
    assert w.grad.tolist() == [4, 4] and not w.grad.is_cuda
    assert s.grad.tolist() == 5 and not s.grad.is_cuda
    x = vt.ones(2, device="cuda", requires_grad=True)
    (x.cpu() * 3).sum().backward()
    assert x.grad.is_cuda and x.grad.tolist() == [3, 3]


def test_numpy_refuses():
    x = vt.ones(2, device="cuda")
    with pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
        x.numpy()
    assert x.numpy(force=True).tolist() == [1, 1]


def test_advanced_indexing():
    host = vt.arange(12).reshape(3, 4)
    x = host.cuda()
    i, mask = vt.tensor([2, 0]), host % 3 == 0
    for index in (
        (i,),
        (slice(None), i),
        (i, i),
        (mask,),
        (slice(None), vt.tensor([True, False, True, False])),
    ):
        assert x[index].tolist() == host[index].tolist()
        assert (
            x[tuple(v.cuda() if isinstance(v, vt.Tensor) else v for v in index)].tolist()
            == host[index].tolist()
        )
    assert vt.nonzero(x).tolist() == vt.nonzero(host).tolist()
    with pytest.raises(RuntimeError, match="indices should be either on cpu"):
        host[i.cuda()]


def test_a_bad_index_is_found_at_the_next_wait():
    x = vt.arange(4, device="cuda")
    bad = vt.tensor([1, 9], device="cuda")
    y = vt.index_select(x, 0, bad)
    with pytest.raises(IndexError, match=r"index 9 is out of bounds .* size 4"):
        vt.cuda.synchronize()
    assert x.sum().item() == 6  # the context is usable, the error was reported once
    del y


def test_pinned_memory():
    x = vt.arange(1000).pin_memory()
    assert x.is_pinned() and x.pin_memory() is x and not vt.arange(3).is_pinned()
    y = x.to("cuda", non_blocking=True)
    back = vt.empty(1000, dtype=vt.int64, pin_memory=True)
    back.copy_(y, non_blocking=True)
    vt.cuda.synchronize()
    assert back.tolist() == list(range(1000))
    with pytest.raises(RuntimeError, match="only dense CPU tensors"):
        y.pin_memory()


def test_torch_shares_memory():
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA")
    x = vt.arange(6, dtype=vt.float32, device="cuda").reshape(2, 3)
    y = torch.from_dlpack(x)
    assert y.data_ptr() == x.data_ptr() and y.tolist() == x.tolist()
    y.add_(1)
    torch.cuda.synchronize()
    assert x.tolist() == [[1, 2, 3], [4, 5, 6]]
    z = vt.from_dlpack(torch.arange(3, device="cuda"))
    assert z.is_cuda and z.tolist() == [0, 1, 2]
    w = torch.as_tensor(x, device="cuda") if hasattr(x, "__cuda_array_interface__") else y
    assert w.data_ptr() == x.data_ptr()

    class Array:
        __cuda_array_interface__ = torch.arange(4.0, device="cuda").t().__cuda_array_interface__

    assert vt.as_tensor(Array()).tolist() == [0, 1, 2, 3]


def test_saving():
    x = vt.arange(3.0, device="cuda", requires_grad=True)
    y = pickle.loads(pickle.dumps(x))
    assert y.is_cuda and y.requires_grad and y.tolist() == [0, 1, 2]
    assert copy.deepcopy(x).is_cuda


def test_save_and_load(tmp_path):
    x = vt.arange(3.0, device="cuda")
    vt.save({"x": x}, tmp_path / "a")
    assert vt.load(tmp_path / "a", map_location="cpu")["x"].tolist() == [0, 1, 2]
    assert vt.load(tmp_path / "a", map_location="cuda")["x"].is_cuda
    assert io is not None


def test_generators():
    vt.cuda.manual_seed(3)
    a = vt.rand(1000, device="cuda")
    vt.cuda.manual_seed(3)
    assert (vt.rand(1000, device="cuda") == a).all().item()
    g = vt.Generator("cuda").manual_seed(7)
    h = vt.Generator().manual_seed(7)
    assert vt.rand(100, generator=g, device="cuda").tolist() == vt.rand(100, generator=h).tolist()
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        vt.rand(3, device="cuda", generator=h)
    state = g.get_state()
    b = vt.randn(5, generator=g, device="cuda").tolist()
    assert vt.randn(5, generator=g.set_state(state), device="cuda").tolist() == b


def test_versions_and_saved_tensors():
    x = vt.ones(3, device="cuda", requires_grad=True)
    y = x * 2
    z = (y * y).sum()
    y.add_(1)
    assert y._version == 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_released_by_another_thread():
    tensors = [vt.ones(1000, device="cuda") for _ in range(50)]
    capsules = [t.__dlpack__() for t in tensors]
    tensors.clear()
    thread = threading.Thread(target=capsules.clear)
    thread.start()
    thread.join()
    assert vt.ones(1000, device="cuda").sum().item() == 1000


def test_streams_of_a_backward():
    side = vt.cuda.Stream()
    x = vt.ones(1000, device="cuda", requires_grad=True)
    y = x * 2
    side.wait_stream(vt.cuda.current_stream())
    with vt.cuda.stream(side):
        z = (y * 3).sum()
    vt.cuda.current_stream().wait_stream(side)
    z.backward()
    assert x.grad.tolist() == [6] * 1000


def test_unknown_devices():
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        vt.zeros(1, device=f"cuda:{vt.cuda.device_count()}")
