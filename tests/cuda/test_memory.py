"""vibetensor.cuda.memory: figures, pools, snapshots that PyTorch's visualiser reads, settings."""

import base64
import gc
import json
import os
import pickle
import re
import subprocess
import sys
import threading

import pytest

import vibetensor as vt
from vibetensor.testing.cuda import simulated_driver

MiB = 1 << 20


@pytest.fixture
def driver():
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if vt.cuda.is_initialized():
        pytest.skip("this process uses a GPU")
    with simulated_driver(devices=2, memory=1 << 30) as driver:
        yield driver
        vt.cuda.memory._record_memory_history(None, clear_history=True)
        vt.cuda.memory.set_allocator_settings("")
        gc.collect()


def allocate(nbytes, **kwargs):
    return vt.cuda.caching_allocator_alloc(nbytes, **kwargs)


def free(*addresses):
    for address in addresses:
        vt.cuda.caching_allocator_delete(address)


def test_nothing_starts_the_driver():
    code = (
        "import vibetensor as vt\n"
        "m = vt.cuda.memory\n"
        "assert m.memory_allocated() == m.max_memory_reserved() == 0\n"
        "assert m.memory_stats() == {} and m.memory_snapshot() == []\n"
        "m.empty_cache()\n"
        "assert not vt.cuda.is_initialized()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- figures -------------------------------------------------------------------------------------


def test_figures(driver):
    m = vt.cuda
    address = allocate(1000)
    assert m.memory_allocated() == 1024 and m.memory_reserved() == 2 * MiB
    large = allocate(30 * MiB, device=1)
    assert m.memory_allocated(1) == m.memory_allocated("cuda:1") == 30 * MiB
    assert m.memory_allocated() == 1024
    free(large)
    assert m.memory_allocated(1) == 0 and m.max_memory_allocated(1) == 30 * MiB
    m.reset_peak_memory_stats(1)
    assert m.max_memory_allocated(1) == 0 and m.max_memory_reserved(1) == 30 * MiB
    m.empty_cache()
    assert m.memory_reserved(1) == 0
    stats = m.memory_stats()
    assert stats["requested_bytes.all.current"] == 1000
    assert stats["allocation.small_pool.allocated"] == stats["segment.all.current"] == 1
    m.reset_accumulated_memory_stats()
    assert m.memory_stats()["allocation.all.allocated"] == 0
    free(address)


def test_keys_are_those_of_torch(driver):
    allocate_and_free = allocate(512)
    free(allocate_and_free)
    stats = vt.cuda.memory_stats()
    torch_memory = pytest.importorskip("torch.cuda.memory")
    # The keys that PyTorch documents, written out.
    documented = torch_memory.memory_stats.__doc__
    for name in re.findall(r'``"([a-z_]+)\.\{all,large_pool,small_pool\}', documented):
        # Its text has "allocated" where the code has "allocation".
        name = {"allocated": "allocation"}.get(name, name)
        for pool in ("all", "large_pool", "small_pool"):
            for metric in ("current", "peak", "allocated", "freed"):
                assert f"{name}.{pool}.{metric}" in stats
    for name in (
        "num_alloc_retries",
        "num_ooms",
        "num_device_alloc",
        "num_device_free",
        "num_sync_all_streams",
        "max_split_size",
        "oversize_segments.current",
    ):
        assert name in stats
    assert list(stats) == sorted(stats)
    nested = vt.cuda.memory_stats_as_nested_dict()
    assert nested["segment"]["all"]["current"] == stats["segment.all.current"]


def test_summary(driver):
    address = allocate(3 * MiB)
    text = vt.cuda.memory_summary()
    assert len({len(line) for line in text.splitlines()}) == 1
    assert re.search(r"\| Allocated memory +\| +3072 KiB \| +3072 KiB", text)
    assert "from large pool" in text
    assert "from large pool" not in vt.cuda.memory_summary(abbreviated=True)
    free(address)


def test_raw_memory(driver):
    stream = vt.cuda.Stream()
    address = allocate(100, stream=stream)
    assert vt.cuda.memory_snapshot()[0]["stream"] == stream.cuda_stream
    free(address)
    with pytest.raises(ValueError, match="was not given"):
        free(address)
    with pytest.raises(TypeError, match="Invalid type for stream"):
        allocate(100, stream="s")


# --- limits and errors ---------------------------------------------------------------------------


def test_out_of_memory(driver):
    assert issubclass(vt.cuda.OutOfMemoryError, RuntimeError)
    kept = allocate(600 * MiB)
    with pytest.raises(
        vt.cuda.OutOfMemoryError, match=r"Tried to allocate 500\.00 MiB\. GPU 0 has"
    ):
        allocate(500 * MiB)
    free(kept)
    free(allocate(500 * MiB))
    assert vt.cuda.memory_stats()["num_ooms"] == 1


def test_fraction(driver):
    m = vt.cuda
    m.set_per_process_memory_fraction(0.5)
    assert m.get_per_process_memory_fraction() == 0.5
    with pytest.raises(m.OutOfMemoryError, match="allowed to this process"):
        allocate(600 * MiB)
    m.set_per_process_memory_fraction(1.0)
    free(allocate(600 * MiB))
    with pytest.raises(ValueError, match="Allowed range"):
        m.set_per_process_memory_fraction(1.5)
    with pytest.raises(TypeError, match="must be `float`"):
        m.set_per_process_memory_fraction(1)


def test_settings(driver):
    memory = vt.cuda.memory
    assert memory.get_allocator_backend() == "native"
    memory.set_allocator_settings("expandable_segments:True")
    first, second = allocate(20 * MiB), allocate(20 * MiB)
    assert second == first + 20 * MiB
    (segment,) = memory.memory_snapshot()
    assert segment["is_expandable"] and segment["total_size"] == 40 * MiB
    free(first, second)
    with pytest.raises(ValueError, match="unknown CUDA allocator option 'expandable'"):
        memory._set_allocator_settings("expandable:True")


def test_settings_of_the_environment():
    def run(settings):
        code = "import vibetensor as vt; print(vt.cuda.caching_allocator_alloc(1 << 20))"
        env = {
            **os.environ,
            "VIBETENSOR_CUDA_DRIVER": "simulated",
            "VIBETENSOR_CUDA_ALLOC_CONF": settings,
        }
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    assert run("max_split_size_mb:64").returncode == 0
    assert "unknown CUDA allocator option 'max_split'" in run("max_split:64").stderr


def test_without_cache(driver):
    with vt.cuda.memory.caching_allocator_disabled():
        address = allocate(1000)
        assert vt.cuda.memory_reserved() == 1000
        free(address)
        assert vt.cuda.memory_reserved() == 0
    free(allocate(1000))
    assert vt.cuda.memory_reserved() == 2 * MiB


# --- pools ---------------------------------------------------------------------------------------


def test_mem_pool(driver):
    pool = vt.cuda.MemPool()
    outside = allocate(1000)
    with vt.cuda.use_mem_pool(pool):
        assert pool.use_count() == 2
        inside = allocate(1000)
        other = []
        thread = threading.Thread(target=lambda: other.append(allocate(1000)))
        thread.start()
        thread.join()
    (segment,) = pool.snapshot()
    assert segment["segment_pool_id"] == pool.id
    assert segment["address"] == inside and pool.use_count() == 1
    assert len(vt.cuda.memory_snapshot()) == 2
    free(outside, inside, *other)
    vt.cuda.empty_cache()
    assert len(pool.snapshot()) == 1, "memory of a pool in use went away"
    del pool
    gc.collect()
    assert vt.cuda.memory_reserved() == 0
    with pytest.raises(NotImplementedError):
        vt.cuda.MemPool(allocator=object())


# --- snapshots -----------------------------------------------------------------------------------


def make_history():
    a, b = vt.cuda.Stream(), vt.cuda.Stream()
    kept = [allocate(1000, stream=a), allocate(3 * MiB, stream=b)]
    vt.cuda.memory._record_memory_history(max_entries=1000)
    for n in range(1, 30):
        kept.append(allocate(n * 40_000, stream=a if n % 2 else b))
        if n % 3 == 0:
            free(kept.pop(0))
    with pytest.raises(vt.cuda.OutOfMemoryError):
        allocate(1 << 31)
    vt.cuda.empty_cache()
    return kept


def test_snapshot(driver):
    kept = make_history()
    snapshot = vt.cuda.memory._snapshot()
    assert len(snapshot["device_traces"]) == 2 and snapshot["device_traces"][1] == []
    segments = snapshot["segments"]
    blocks = [b for s in segments for b in s["blocks"]]
    used = [b for b in blocks if b["state"] == "active_allocated"]
    assert {b["address"] for b in used} == set(kept)
    assert sum(b["size"] for b in used) == vt.cuda.memory_allocated()
    assert sum(s["total_size"] for s in segments) == vt.cuda.memory_reserved()
    assert sum(s["allocated_size"] for s in segments) == vt.cuda.memory_allocated()
    # Where it was allocated: the innermost frame first.
    frames = next(b["frames"] for b in used if b["address"] == kept[-1])
    names = [f["name"] for f in frames]
    assert names.index("make_history") > names.index("allocate") > 0
    assert all(f["line"] > 0 and f["filename"] for f in frames)
    assert vt.cuda.memory._allocation_traceback(kept[-1]) == frames
    assert vt.cuda.memory._allocation_traceback(1) is None
    actions = {e["action"] for e in snapshot["device_traces"][0]}
    assert actions >= {"alloc", "free_requested", "free_completed", "segment_alloc", "oom"}
    oom = next(e for e in snapshot["device_traces"][0] if e["action"] == "oom")
    assert oom["size"] == 1 << 31 and oom["device_free"] > 0
    free(*kept)


def test_torch_reads_snapshots(driver, tmp_path):
    viz = pytest.importorskip("torch.cuda._memory_viz")
    kept = make_history()
    vt.cuda.memory._dump_snapshot(str(tmp_path / "snapshot.pickle"))
    free(*kept)
    data = pickle.loads((tmp_path / "snapshot.pickle").read_bytes())

    for html in (
        viz.trace_plot(data),
        viz.trace_plot(data, plot_segments=True),
        viz.segment_plot(data),
    ):
        # The page holds the whole of it.
        encoded = json.loads(re.search(r"const local_files = (\[.*\])", html).group(1))
        assert pickle.loads(base64.b64decode(encoded[0]["base64"])) == data
    assert "total_reserved" in viz.segsum(data)
    text = viz.trace(data)
    assert "raise OutOfMemoryError" in text and "cudaMalloc(" in text and "del " in text
    lines = viz.memory(data, format_flamegraph=lambda text: text).splitlines()
    assert any("make_history" in line for line in lines)
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == sum(
        s["total_size"] for s in data["segments"]
    )
    assert viz.segments(data, format_flamegraph=lambda text: text)
    assert len(viz.trace_plot(data, filter_freed=True)) > 1000


def test_history_options(driver):
    record, snapshot = vt.cuda.memory._record_memory_history, vt.cuda.memory._snapshot
    record(max_entries=4, context="alloc", skip_actions=["free_requested"])
    for _ in range(5):
        free(allocate(1000))
    entries = snapshot()["device_traces"][0]
    assert [e["action"] for e in entries] == ["alloc", "free_completed"] * 2
    assert entries[0]["frames"] and not entries[1]["frames"]
    record("state", clear_history=True)
    address = allocate(1000)
    assert snapshot()["device_traces"][0] == []
    assert vt.cuda.memory._allocation_traceback(address)
    record(None)
    free(address)
    with pytest.raises(RuntimeError, match="context"):
        record(context="most")
    with pytest.raises(RuntimeError, match="skip_actions"):
        record(skip_actions=["nothing"])


def test_stacks_are_gathered_in_destructors(driver):
    """A tensor may be freed while an exception is on its way: it must survive."""
    vt.cuda.memory._record_memory_history()

    class Owner:
        def __init__(self):
            self.address = allocate(1000)

        def __del__(self):
            free(self.address)

    def fail():
        owner = Owner()
        raise KeyError(owner.address)

    with pytest.raises(KeyError):
        fail()
    gc.collect()
    assert vt.cuda.memory_allocated() == 0


# --- tensors -------------------------------------------------------------------------------------


def test_tensors_come_from_it(driver):
    x = vt.empty(1000, dtype=vt.uint8, device="cuda")
    assert vt.cuda.memory_allocated() == 1024
    with pytest.raises(vt.cuda.OutOfMemoryError, match=r"Tried to allocate 2\.00 GiB"):
        vt.empty(1 << 31, dtype=vt.uint8, device="cuda")
    y = x
    del x
    assert vt.cuda.memory_allocated() == 1024
    del y
    assert vt.cuda.memory_allocated() == 0


def test_tensors_on_other_streams(driver):
    driver.complete("when awaited")
    side = vt.cuda.Stream()
    x = vt.zeros(4 * MiB, dtype=vt.uint8, device="cuda")
    side.wait_stream(vt.cuda.current_stream())
    with vt.cuda.stream(side):
        x.zero_()
    x.record_stream(side)
    address = x.data_ptr()
    del x
    y = vt.zeros(4 * MiB, dtype=vt.uint8, device="cuda")
    assert y.data_ptr() != address
    assert vt.cuda.memory_stats()["active.all.current"] == 2
    side.synchronize()
    del y
    vt.cuda.empty_cache()
    assert vt.cuda.memory_reserved() == 0
    assert driver.violations() == []


def test_host_memory(driver):
    driver.complete("when awaited")
    x = vt.empty(3000, dtype=vt.uint8, pin_memory=True)
    stats = vt.cuda.host_memory_stats()
    assert stats["active_bytes.current"] == stats["allocated_bytes.current"] == 4096
    assert stats["num_host_alloc"] == 1
    address = x.data_ptr()
    y = x.to("cuda", non_blocking=True)
    del x
    z = vt.empty(3000, dtype=vt.uint8, pin_memory=True)
    assert z.data_ptr() != address, "reused under a copy"
    vt.cuda.synchronize()
    del z
    both = [vt.empty(3000, dtype=vt.uint8, pin_memory=True) for _ in range(2)]
    assert address in {t.data_ptr() for t in both}
    del y, both


@pytest.mark.gpu
def test_on_a_device():
    if not vt.cuda.is_available():
        pytest.skip("needs a CUDA device")
    vt.cuda.empty_cache()
    before = vt.cuda.memory_allocated()
    free_before, total = vt.cuda.mem_get_info()
    x = vt.empty(100 * MiB, dtype=vt.uint8, device="cuda")
    assert vt.cuda.memory_allocated() - before == 100 * MiB
    assert vt.cuda.mem_get_info()[0] <= free_before - 90 * MiB
    with pytest.raises(vt.cuda.OutOfMemoryError, match="CUDA out of memory"):
        vt.empty(total + 1, dtype=vt.uint8, device="cuda")
    del x
    vt.cuda.empty_cache()
    assert vt.cuda.memory_allocated() == before


@pytest.mark.gpu
def test_expandable_segments_on_a_device():
    if not vt.cuda.is_available():
        pytest.skip("needs a CUDA device")
    vt.cuda.memory.set_allocator_settings("expandable_segments:True")
    try:
        with vt.cuda.use_mem_pool(vt.cuda.MemPool()):
            parts = [vt.full((5 * MiB,), i, device="cuda") for i in range(8)]
            assert [p[-1].item() for p in parts] == list(range(8))
            del parts
            whole = vt.ones(40 * MiB, device="cuda")
            assert whole.sum().item() == 40 * MiB
    finally:
        vt.cuda.memory.set_allocator_settings("")
