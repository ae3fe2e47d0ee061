"""Start, devices, errors and random state."""

import os
import subprocess
import sys

import numpy
import pytest
import torch

import vibetensor as vt
from vibetensor.testing.cuda import has_gpu, simulated_driver, uses_gpu


def run(code, **environment):
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(params=["simulated", pytest.param("device", marks=pytest.mark.gpu)])
def driver(request):
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if request.param == "device":
        if not has_gpu():
            pytest.skip("needs a CUDA device")
        yield None
    elif uses_gpu():
        pytest.skip("this process uses a GPU")
    else:
        with simulated_driver() as driver:
            yield driver
            assert driver.violations() == []


def test_import_starts_nothing():
    code = "import vibetensor as vt, sys; print(vt.cuda.is_initialized(), 'cuda' in sys.modules)"
    assert run(code) == "False False"


def test_a_machine_without_a_driver_says_so_in_one_sentence():
    code = """
import sys
for name in [n for n in sys.modules if n.startswith("cuda")]:
    del sys.modules[name]
sys.modules["cuda"] = None
import vibetensor as vt
print(vt.cuda.is_available(), vt.cuda.device_count(), vt.cuda.is_initialized())
vt.manual_seed(0)
vt.cuda.manual_seed(0)
for ask in (vt.cuda.init, lambda: vt.ones(2, device="cuda"), vt.cuda.current_device):
    try:
        ask()
    except RuntimeError as error:
        print(error)
"""
    lines = run(code, VIBETENSOR_CUDA_DRIVER="").splitlines()
    assert lines[0] == "False 0 False"
    assert len(lines) == 4 and len(set(lines[1:])) == 1
    assert lines[1].startswith("CUDA is not available: ") and "\n" not in lines[1]


def test_environment_chooses_the_simulated_driver():
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    code = """
import vibetensor as vt
print(vt.cuda.is_available(), vt.cuda.device_count(), vt.cuda.get_device_name(2))
"""
    environment = {"VIBETENSOR_CUDA_DRIVER": "simulated", "VIBETENSOR_SIMULATED_DEVICES": "3"}
    assert run(code, **environment) == "True 3 Simulated device"


def test_a_forked_child_is_told(driver):
    code = """
import os, vibetensor as vt
vt.cuda.init()
vt.cuda.synchronize()
if os.fork() == 0:
    try:
        vt.cuda.set_device(0)
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    simulated = "" if driver is None else "simulated"
    assert "Cannot re-initialize CUDA in forked subprocess" in run(
        code, VIBETENSOR_CUDA_DRIVER=simulated
    )


def test_devices(driver):
    count = vt.cuda.device_count()
    assert count >= 1 and vt.cuda.is_available() and vt.cuda.is_initialized()
    assert vt.cuda.current_device() == 0
    with vt.cuda.device(count - 1):
        assert vt.cuda.current_device() == count - 1
        with vt.cuda.device(-1):
            assert vt.cuda.current_device() == count - 1
        assert vt.empty(1, device="cuda").get_device() == count - 1
    assert vt.cuda.current_device() == 0
    with vt.cuda.device_of(vt.empty(1, device=f"cuda:{count - 1}")):
        assert vt.cuda.current_device() == count - 1
    with vt.cuda.device_of(vt.empty(1)):
        assert vt.cuda.current_device() == 0
    vt.cuda.set_device("cuda:0")
    vt.cuda.set_device(-1)
    vt.cuda.synchronize("cuda:0")
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        vt.cuda.set_device(count)
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
        vt.cuda.synchronize("cpu")


def test_properties(driver):
    p = vt.cuda.get_device_properties(0)
    assert vt.cuda.get_device_name() == p.name and vt.cuda.get_device_capability() == (
        p.major,
        p.minor,
    )
    assert p.multi_processor_count > 0 and p.warp_size == 32 and p.total_memory > 1 << 30
    assert p.shared_memory_per_block_optin > p.shared_memory_per_block == 48 << 10
    assert p.name in repr(p)
    free, total = vt.cuda.mem_get_info()
    assert 0 < free <= total == p.total_memory or driver is None
    with pytest.raises(AssertionError, match="Invalid device id"):
        vt.cuda.get_device_properties(vt.cuda.device_count())


@pytest.mark.gpu
def test_properties_are_torchs():
    if not (has_gpu() and torch.cuda.is_available()):
        pytest.skip("needs a CUDA device and torch with CUDA")
    ours, theirs = vt.cuda.get_device_properties(0), torch.cuda.get_device_properties(0)
    for name in (
        "name",
        "major",
        "minor",
        "total_memory",
        "multi_processor_count",
        "L2_cache_size",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_peers(driver):
    if vt.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    assert vt.cuda.can_device_access_peer(0, 1) in (True, False)
    assert vt.cuda.can_device_access_peer(0, 0) is False
    with pytest.raises(AssertionError, match="Invalid peer device id"):
        vt.cuda.can_device_access_peer(0, 99)


def test_the_context_of_another_library_is_put_back(driver):
    if driver is None or vt.cuda.device_count() < 2:
        pytest.skip("looks at the simulator's calls")
    vt.empty(1, device="cuda:1")
    vt.cuda.synchronize(1)
    before = driver.calls("cuCtxSetCurrent")
    vt.zeros(4).to("cuda:1")
    assert driver.calls("cuCtxSetCurrent") - before <= 8
    assert vt.cuda.current_device() == 0


def test_driver_errors_name_the_call(driver):
    if driver is None:
        pytest.skip("injects a failure")
    driver.fail("cuCtxSynchronize", error=719)
    with pytest.raises(RuntimeError, match=r"unspecified launch failure.*cuCtxSynchronize"):
        vt.cuda.synchronize()
    driver.fail("cuStreamCreateWithPriority", error=2)
    with pytest.raises(vt.cuda.OutOfMemoryError, match="cuStreamCreateWithPriority"):
        vt.cuda.Stream()


def test_host_syncs_are_counted(driver):
    if driver is None:
        pytest.skip("counts of the simulator")
    x = vt.empty(4, device="cuda")
    before = driver.counters()
    y = vt.empty(4, device="cuda").copy_(x)
    assert driver.counters()["host_syncs"] == before["host_syncs"]
    y.cpu()
    assert driver.counters()["host_syncs"] == before["host_syncs"] + 1
    vt.cuda.synchronize()
    assert driver.counters()["host_syncs"] == before["host_syncs"] + 2


def test_random_state(driver):
    vt.cuda.manual_seed(5)
    assert vt.cuda.initial_seed() == 5
    state = vt.cuda.get_rng_state()
    assert state.dtype is vt.uint8 and not state.is_cuda
    vt.cuda.seed()
    vt.cuda.set_rng_state(state)
    assert vt.cuda.initial_seed() == 5
    vt.cuda.manual_seed_all(7)
    states = vt.cuda.get_rng_state_all()
    assert len(states) == vt.cuda.device_count()
    vt.cuda.set_rng_state_all(states)
    vt.manual_seed(9)
    assert vt.cuda.initial_seed() == 9


def test_dlpack_to_the_host(driver):
    """The array API asks producers for a copy on the CPU, as ``numpy.from_dlpack(x, device="cpu")`` does."""
    x = vt.ones(3, device="cuda")
    assert numpy.from_dlpack(x, device="cpu").shape == (3,)
    assert '"dltensor_versioned"' in repr(x.__dlpack__(dl_device=(1, 0), max_version=(1, 0)))
    for wrong in ({"dl_device": (1, 0), "copy": False}, {"dl_device": (2, 1)}, {"dl_device": ()}):
        with pytest.raises(BufferError, match="the tensor is on cuda:0, it cannot be exported"):
            x.__dlpack__(**wrong)


def test_nvtx_without_a_profiler():
    with vt.cuda.nvtx.range("step {}", 3):
        vt.cuda.nvtx.mark("here")
    vt.cuda.nvtx.range_push("a")
    vt.cuda.nvtx.range_pop()
    vt.cuda.nvtx.range_end(vt.cuda.nvtx.range_start("b"))


def test_the_names_are_torchs():
    ours = [n for n in vt.cuda.__all__ if n not in ("graphed",)]
    missing = [n for n in ours if not hasattr(torch.cuda, n) and n != "is_built"]
    assert missing == []


@pytest.mark.gpu
def test_a_bad_index_is_raised_at_the_next_wait_and_the_device_stays_usable():
    if not has_gpu():
        pytest.skip("needs a CUDA device")
    x = vt.arange(10, device="cuda")
    for _ in range(2):
        x.index_select(0, vt.tensor([3, 12], device="cuda"))
        with pytest.raises(IndexError, match=r"index_select\(\): index 12 is out of bounds"):
            vt.cuda.synchronize()
        vt.cuda.synchronize()
        assert x.sum().item() == 45
