"""Streams and events, on the simulated driver and on a device."""

import gc

import pytest
import torch

import vibetensor as vt
from vibetensor.testing.cuda import has_gpu, simulated_driver, uses_gpu


@pytest.fixture(params=["simulated", pytest.param("device", marks=pytest.mark.gpu)])
def driver(request):
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if request.param == "device":
        if not has_gpu():
            pytest.skip("needs a CUDA device")
        yield None
        vt.cuda.synchronize()
    elif uses_gpu():
        pytest.skip("this process uses a GPU")
    else:
        with simulated_driver() as driver:
            yield driver
            assert driver.violations() == []


def test_pool_has_32_streams_of_a_priority(driver):
    handles = [vt.cuda.Stream().cuda_stream for _ in range(64)]
    assert len(set(handles)) == 32 and handles[:32] == handles[32:]
    urgent = vt.cuda.Stream(priority=-1)
    assert urgent.cuda_stream not in handles and urgent.priority == -1
    assert vt.cuda.Stream(priority=5).priority == 0
    least, greatest = vt.cuda.Stream.priority_range()
    assert least == 0 and greatest < 0
    assert vt.cuda.Stream(priority=-100).priority == greatest


def test_attributes_and_comparison(driver):
    s = vt.cuda.Stream()
    assert s.device == vt.device("cuda", 0) and s.device_index == 0
    assert s == vt.cuda.ExternalStream(s.cuda_stream) and hash(s) == hash(
        vt.cuda.ExternalStream(s.cuda_stream, 0)
    )
    assert s != vt.cuda.default_stream() and s != 3
    assert s.__cuda_stream__() == (0, s.cuda_stream)
    assert repr(s) == f"<vibetensor.cuda.Stream device=cuda:0 cuda_stream={s.cuda_stream:#x}>"
    assert vt.cuda.default_stream().cuda_stream == 0


def test_blocks_nest_and_restore(driver):
    outer, inner = vt.cuda.Stream(), vt.cuda.Stream()
    default = vt.cuda.current_stream()
    with vt.cuda.stream(outer) as nothing:
        assert nothing is None and vt.cuda.current_stream() == outer
        with vt.cuda.stream(inner):
            assert vt.cuda.current_stream() == inner
        with vt.cuda.stream(None):
            assert vt.cuda.current_stream() == outer
        with inner as entered:
            assert entered is inner and vt.cuda.current_stream() == inner
        assert vt.cuda.current_stream() == outer
    assert vt.cuda.current_stream() == default
    with pytest.raises(ZeroDivisionError), vt.cuda.stream(outer):
        1 / 0  # noqa: B018
    assert vt.cuda.current_stream() == default
    vt.cuda.set_stream(outer)
    assert vt.cuda.current_stream() == outer
    vt.cuda.set_stream(None)
    vt.cuda.set_stream(default)


def test_current_stream_is_the_threads_own(driver):
    import threading

    side, seen = vt.cuda.Stream(), []
    with vt.cuda.stream(side):
        thread = threading.Thread(target=lambda: seen.append(vt.cuda.current_stream()))
        thread.start()
        thread.join()
    assert seen == [vt.cuda.default_stream()]


def test_query_and_synchronize(driver):
    s = vt.cuda.Stream()
    assert s.query()
    s.synchronize()
    x = vt.zeros(100, dtype=vt.uint8).pin_memory()
    y = vt.empty(100, dtype=vt.uint8, device="cuda")
    if driver is None:
        return
    driver.complete("when awaited")
    with vt.cuda.stream(s):
        s.wait_stream(vt.cuda.default_stream())
        y.copy_(x, non_blocking=True)
        y.record_stream(s)
    assert not s.query()
    s.synchronize()
    assert s.query()


def test_event_life(driver):
    e = vt.cuda.Event()
    assert repr(e) == "<vibetensor.cuda.Event uninitialized>"
    assert e.query() and e.device is None and e.cuda_event == 0
    e.synchronize()
    e.wait()
    s = vt.cuda.Stream()
    assert s.record_event(e) is e
    assert e.device == vt.device("cuda", 0) and e.cuda_event != 0
    e.synchronize()
    assert e.query()
    assert isinstance(s.record_event(), vt.cuda.Event)
    if driver is not None:
        created = driver.calls("cuEventDestroy")
        del e
        gc.collect()
        assert driver.calls("cuEventDestroy") == created + 1


def test_elapsed_time(driver):
    start, end = (vt.cuda.Event(enable_timing=True) for _ in range(2))
    with pytest.raises(ValueError, match="must be recorded"):
        start.elapsed_time(end)
    with pytest.raises(ValueError, match="enable_timing"):
        start.elapsed_time(vt.cuda.Event())
    start.record()
    x = vt.empty(1 << 20, dtype=vt.uint8, device="cuda")
    x.copy_(vt.zeros(1 << 20, dtype=vt.uint8))
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) > 0
    if driver is not None:
        driver.complete("when awaited")
        end.record()
        with pytest.raises(RuntimeError, match="must be completed"):
            start.elapsed_time(end)


def test_signatures_are_torchs():
    import inspect

    for name in ("Event", "Stream", "ExternalStream"):
        ours, theirs = getattr(vt.cuda, name), getattr(torch.cuda, name)
        public = {n for n in dir(theirs) if not n.startswith("_")}
        unknown = {"wait_event", "from_ipc_handle"} & public - set(dir(ours))
        assert not unknown
    for name in ("Stream", "Event"):
        theirs = inspect.signature(getattr(torch.cuda, name).__new__).parameters
        ours = inspect.signature(getattr(vt.cuda, name)).parameters
        for parameter in theirs:
            if parameter not in ("cls", "args", "kwargs"):
                assert parameter in ours, (name, parameter)


def test_event_belongs_to_its_device(driver):
    if vt.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    e = vt.cuda.Event()
    e.record(vt.cuda.default_stream(0))
    with pytest.raises(RuntimeError, match="does not match recording stream's device"):
        e.record(vt.cuda.Stream(1))
    e.wait(vt.cuda.Stream(1))


def test_streams_of_two_devices(driver):
    if vt.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    there = vt.cuda.Stream(1)
    with vt.cuda.stream(there):
        assert vt.cuda.current_device() == 1 and vt.cuda.current_stream() == there
        assert vt.cuda.current_stream(0) == vt.cuda.default_stream(0)
        x = vt.empty(4, device="cuda")
        assert x.get_device() == 1
    assert vt.cuda.current_device() == 0
    vt.cuda.default_stream(0).wait_stream(there)


@pytest.mark.gpu
def test_a_delayed_producer_is_waited_for():
    if not has_gpu():
        pytest.skip("needs a CUDA device")
    side = vt.cuda.Stream()
    x = vt.zeros(1 << 20, device="cuda")
    side.wait_stream(vt.cuda.current_stream())
    with vt.cuda.stream(side):
        vt.cuda._sleep(50_000_000)
        x.fill_(3)
    assert not side.query()
    vt.cuda.current_stream().wait_stream(side)
    assert x.sum().item() == 3 << 20
    assert side.query()


@pytest.mark.gpu
def test_torchs_streams_and_ours():
    if not (has_gpu() and torch.cuda.is_available()):
        pytest.skip("needs a CUDA device and torch with CUDA")
    theirs = torch.cuda.Stream()
    with vt.cuda.stream(vt.cuda.ExternalStream(theirs.cuda_stream)):
        vt.cuda._sleep(20_000_000)
    assert not theirs.query()
    theirs.synchronize()
    assert vt.cuda.ExternalStream(theirs.cuda_stream).query()
