"""Users' own Triton kernels on our tensors: launches on the simulated driver, values on a device."""

import importlib
import sys
from pathlib import Path

import pytest

import vibetensor as vt

pytest.importorskip("triton")


@pytest.fixture
def kernels():
    sys.path.insert(0, str(Path(__file__).parent))
    yield importlib.import_module("sample_kernels")
    sys.path.pop(0)


def launches(driver):
    return [e for e in driver.log() if e["kind"] == "launch"]


# --- on the simulated driver ---------------------------------------------------------------------------


def test_a_launch(driver, kernels):
    x, out = vt.ones(1000, device="cuda"), vt.empty(1000, device="cuda")
    driver.record()
    compiled = kernels.add_kernel[(8,)](x, x, out, 1000, BLOCK=128)
    kernels.add_kernel[lambda meta: (meta["n"] // meta["BLOCK"], 2)](
        x, x, out, n=1000, BLOCK=128, num_warps=8
    )
    kernels.add_kernel[(0,)](x, x, out, 1000, BLOCK=128)
    assert [(e["name"], e["grid"], e["block"]) for e in launches(driver)] == [
        ("add_kernel", (8, 1, 1), (128, 1, 1)),
        ("add_kernel", (7, 2, 1), (256, 1, 1)),
    ]
    assert compiled.metadata.name == "add_kernel" and "torch" not in type(compiled).__module__
    compiled[(3, 1, 1)](x, x, out, 1000, 128)
    assert launches(driver)[-1]["grid"] == (3, 1, 1)
    assert driver.violations() == []


def test_grids(driver, kernels):
    x = vt.empty(128, device="cuda")
    driver.record()

    def grids(grid):
        before = len(launches(driver))
        kernels.add_kernel[grid](x, x, x, 100, BLOCK=128)
        return [e["grid"] for e in launches(driver)[before:]]

    assert grids([3]) == grids(lambda meta: (3, 1)) == [(3, 1, 1)]
    assert grids(vt.Size([2, 3, 4])) == [(2, 3, 4)]
    assert grids((0,)) == grids((1, 0)) == []
    for wrong in ((), (1, 2, 3, 4), 5, None, "3", lambda meta: 5, lambda meta: ()):
        with pytest.raises(TypeError, match=r"add_kernel\[grid\]\(\): a grid is a tuple of one to"):
            grids(wrong)
    with pytest.raises(TypeError, match="float"):
        grids((1.5,))
    with pytest.raises(ValueError, match="at most"):
        grids((1, 1 << 16))


def entries(kernel):
    from vibetensor.cuda import _triton_call

    return len(_triton_call.entries_of(kernel))


def test_specialised_as_triton_does(driver, kernels):
    """A call is compiled anew where Triton would, and only there."""
    add = kernels.add_kernel
    x = vt.empty(4096, device="cuda")
    driver.record()

    def compiled(*args, **kwargs):
        return add[(1,)](*args, **{"BLOCK": 128, **kwargs})

    plain = compiled(x, x, x, 100)
    assert compiled(x, x, x, 101) is plain
    assert compiled(x[4:], x, x, 101) is plain  # 16 bytes further
    assert compiled(x[1:], x, x, 101) is not plain
    assert compiled(x, x, x, 112) is not plain  # a multiple of 16
    assert compiled(x, x, x, 1) is not plain
    assert compiled(x, x, x, 2**40 + 1) is not plain
    assert compiled(x.to(vt.float16), x, x, 100) is not plain
    assert compiled(x, x, x, 100, BLOCK=64) is not plain
    assert compiled(x, x, x, 100, num_warps=2) is not plain
    assert compiled(x, x, x, n_from_call(100)) is plain
    assert "constexpr" in compiled(x, x, x, 1).src.signature.values()
    number = entries(add)
    for n in range(200, 260):
        compiled(x[:n], x, x, n)
    assert entries(add) <= number + 1
    assert driver.violations() == []


def n_from_call(n):
    return int(str(n))


def test_other_devices_are_refused(driver, kernels):
    x = vt.empty(128, device="cuda")
    driver.record()
    with pytest.raises(
        ValueError, match=r"add_kernel\[grid\]\(\): argument 'y' is on cpu, expected cuda:0"
    ):
        kernels.add_kernel[(1,)](x, vt.empty(128), x, 128, BLOCK=128)
    with pytest.raises(ValueError, match="argument 'out' is on cuda:1"):
        kernels.add_kernel[(1,)](x, x, n=128, BLOCK=128, out=vt.empty(128, device="cuda:1"))
    with vt.cuda.device(1), pytest.raises(ValueError, match="'x' is on cuda:0, expected cuda:1"):
        kernels.add_kernel[(1,)](x, x, x, 128, BLOCK=128)
    with pytest.raises(TypeError):
        kernels.add_kernel[(1,)](x, x, BLOCK=128)
    with pytest.raises(TypeError, match="takes 5 arguments, but 6 were given"):
        kernels.add_kernel[(1,)](x, x, x, 1, 2, 3)
    with pytest.raises(ValueError, match="at most"):
        kernels.add_kernel[(1, 70000)](x, x, x, 128, BLOCK=128)
    assert launches(driver) == []


def test_streams_and_captures(driver, kernels):
    x, out = vt.ones(256, device="cuda"), vt.empty(256, device="cuda")
    graph = vt.cuda.CUDAGraph()
    with vt.cuda.graph(graph):
        kernels.add_kernel[(2,)](x, x, out, 256, BLOCK=128)  # compiled and loaded here
    before = driver.counters()["launches"]
    graph.replay()
    assert driver.counters()["launches"] == before + 1
    stream = vt.cuda.Stream()
    driver.record()
    with vt.cuda.stream(stream):
        kernels.add_kernel[(2,)](x, x, out, 256, BLOCK=128)
    assert launches(driver)[-1]["stream"] != 0


def test_autotune_and_heuristics(driver, kernels):
    x, out = vt.ones(1024, device="cuda"), vt.empty(1024, device="cuda")
    driver.record()
    kernels.tuned_kernel[lambda meta: (1024 // meta["BLOCK"],)](x, out, 1024)
    assert kernels.tuned_kernel.best_config.kwargs["BLOCK"] in (128, 512)
    assert len(launches(driver)) == 3  # each configuration once, then the call
    kernels.heuristic_kernel[(8,)](x, out, 1024, BLOCK=128)
    kernels.heuristic_kernel[(8,)](x, out, 1000, BLOCK=128)
    assert driver.violations() == []


def test_the_cache_belongs_to_a_driver(kernels):
    from vibetensor.testing.cuda import simulated_driver, uses_gpu

    if uses_gpu() or not vt.cuda.is_built():
        pytest.skip("this process uses a GPU")
    for _ in range(2):
        with simulated_driver():
            x = vt.ones(128, device="cuda")
            kernels.add_kernel[(1,)](x, x, x, 128, BLOCK=128)
            del x


def test_pytorch_is_not_imported(python):
    """Whatever is imported first; our driver is Triton's from the moment both are there."""
    code = """
    import sys
    {first}
    import vibetensor as vt
    x = vt.ones(1000, device="cuda")
    import sample_kernels, triton
    out = vt.empty_like(x)
    sample_kernels.add_kernel[lambda m: (triton.cdiv(m["n"], m["BLOCK"]),)](x, x, out, 1000, BLOCK=256)
    sample_kernels.tuned_kernel[(8,)](x, out, 1000)
    print(sys.modules["torch"], type(triton.runtime.driver.active).__module__)
    """
    for first in ("", "import triton"):
        out = python(code.format(first=first), PATH="/nowhere", VIBETENSOR_CUDA_DRIVER="simulated")
        assert out.split() == ["None", "vibetensor.kernels._driver"]


# --- on a device ---------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_values(device, kernels):
    x, y, out = (
        vt.randn(1000, device=device),
        vt.randn(1000, device=device),
        vt.empty(1000, device=device),
    )
    for _ in range(2):
        kernels.add_kernel[(8,)](x, y, out.zero_(), 1000, BLOCK=128)
        assert (out == x + y).all()
    with vt.cuda.stream(vt.cuda.Stream()) as stream:
        kernels.add_kernel[(8,)](x, x, out, 1000, BLOCK=128)
        assert (out == x + x).all()
    del stream


@pytest.mark.gpu
def test_arguments_of_every_type(device, kernels):
    for values in (
        (True, 3, 2**40, 2**63 + 2**12, 1.5, 0.25, -2.5, 1e300, None),
        (False, 1, -(2**40), 2**63, -0.5, 1, 3, 2, None),
        (True, -16, 2**31, 2**64 - 2**11, 3, 0.5, 0.5, -1.0, None),
    ):
        for extra in ({}, {"default": 12}, {"NAME": "b"}):
            out = vt.zeros(11, dtype=vt.float64, device=device)
            kernels.many_kernel[(1,)](out, *values, **extra)
            expected = [float(v) for v in values[:-1]]
            expected += [extra.get("default", 7) + 2.0, 1.0, float("NAME" in extra)]
            assert out.tolist() == expected


@pytest.mark.gpu
def test_tuples_and_descriptors(device, kernels):
    from triton.tools.tensor_descriptor import TensorDescriptor

    x, out = vt.randn(64, device=device), vt.empty(64, device=device)
    for factor in (2.0, 3.0):
        kernels.tuple_kernel[(1,)](out, (x, factor), BLOCK=64)
        assert (out == x * factor).all()
    if vt.cuda.get_device_capability() < (9, 0):
        pytest.skip("descriptors need the tensor memory accelerator")
    for n in (32, 64):
        source, target = vt.randn(n, 64, device=device), vt.empty(64, n, device=device)
        for _ in range(2):
            kernels.transpose_kernel[(1,)](
                TensorDescriptor.from_tensor(source, [n, 64]),
                TensorDescriptor.from_tensor(target, [64, n]),
            )
        assert (target == source.T).all()


@pytest.mark.gpu
def test_tuned_values(device, kernels):
    x, out = vt.randn(100000, device=device), vt.empty(100000, device=device)
    kernels.tuned_kernel[lambda meta: ((100000 + meta["BLOCK"] - 1) // meta["BLOCK"],)](
        x, out, 100000
    )
    assert (out == x * 2).all()
    for n in (1024, 1000):
        kernels.heuristic_kernel[(8,)](x, out, n, BLOCK=128)
        assert (out[:n] == x[:n] * 3).all()


@pytest.mark.gpu
def test_capture_values(device, kernels):
    x, out = vt.ones(512, device=device), vt.zeros(512, device=device)
    graph = vt.cuda.CUDAGraph()
    with vt.cuda.graph(graph):
        kernels.add_kernel[(1,)](x, x, out, 512, BLOCK=512, num_warps=2)  # its first use
    assert (out == 0).all()
    x.fill_(3)
    graph.replay()
    assert (out == 6).all()
