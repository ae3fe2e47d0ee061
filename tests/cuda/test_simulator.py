"""The simulated driver itself: it finds what is wrong, and nothing else."""

import pytest

import vibetensor as vt
from vibetensor.testing.cuda import simulated_driver, uses_gpu


@pytest.fixture
def driver():
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if uses_gpu():
        pytest.skip("this process uses a GPU")
    with simulated_driver(devices=2, memory=1 << 30) as driver:
        yield driver


def block(n=1024, device="cuda"):
    return vt.empty(n, dtype=vt.uint8, device=device)


def found(driver, *words):
    """Exactly one violation, with these words in it."""
    violations = driver.violations()
    assert len(violations) == 1, violations
    assert all(word in violations[0] for word in words), violations
    driver.clear()


# --- order ---------------------------------------------------------------------------------------


def test_one_stream_is_in_order(driver):
    x, y = block(), block()
    assert driver.launch(x.data_ptr(), y.data_ptr(), reads=1, writes=2) == 0
    assert driver.launch(x.data_ptr(), y.data_ptr(), reads=2, writes=1) == 0
    assert driver.violations() == [] and driver.counters()["launches"] == 2


def test_read_on_another_stream_needs_an_event(driver):
    x, side = block(), vt.cuda.Stream()
    driver.launch(x.data_ptr(), writes=1)
    driver.launch(x.data_ptr(), reads=1, stream=side)
    found(driver, "order", "written by the default stream")
    side.wait_stream(vt.cuda.current_stream())
    driver.launch(x.data_ptr(), reads=1, stream=side)
    assert driver.violations() == []


def test_reads_of_two_streams_need_none(driver):
    x, side = block(), vt.cuda.Stream()
    driver.launch(x.data_ptr(), writes=1)
    side.wait_stream(vt.cuda.current_stream())
    for _ in range(3):
        driver.launch(x.data_ptr(), reads=1, stream=side)
        driver.launch(x.data_ptr(), reads=1)
    assert driver.violations() == []
    driver.launch(x.data_ptr(), writes=1)
    found(driver, "order", "used by stream")


def test_order_passes_on_through_events(driver):
    x = block()
    a, b = vt.cuda.Stream(), vt.cuda.Stream()
    driver.launch(x.data_ptr(), writes=1)
    first, second = vt.cuda.Event(), vt.cuda.Event()
    first.record()
    a.wait_event(first)
    second.record(a)
    b.wait_event(second)
    driver.launch(x.data_ptr(), writes=1, stream=b)
    assert driver.violations() == []
    # What the default stream does after the event is not covered by it.
    driver.launch(x.data_ptr(), reads=1)
    found(driver, "order")


def test_the_host_orders_by_waiting(driver):
    x, side = block(), vt.cuda.Stream()
    driver.launch(x.data_ptr(), writes=1)
    vt.cuda.synchronize()
    driver.launch(x.data_ptr(), writes=1, stream=side)
    side.synchronize()
    driver.launch(x.data_ptr(), writes=1)
    assert driver.violations() == []


def test_first_use_counts_as_a_write_and_strict_every_use(driver):
    x, side = block(), vt.cuda.Stream()
    driver.launch(x.data_ptr())
    driver.launch(x.data_ptr(), stream=side)
    found(driver, "order", "written")
    y = block()
    driver.launch(y.data_ptr())
    side.wait_stream(vt.cuda.current_stream())
    driver.launch(y.data_ptr(), stream=side)
    driver.launch(y.data_ptr())
    assert driver.violations() == []
    driver.set_strict()
    driver.launch(y.data_ptr())
    found(driver, "order", "used by stream")


def test_interior_addresses_and_other_words(driver):
    x, side = block(), vt.cuda.Stream()
    driver.launch(7, x.data_ptr() + 512, 1 << 40, writes=2)
    driver.launch(x.data_ptr() + 1023, reads=1, stream=side)
    found(driver, "order")
    driver.launch(x.numel(), 0x3F8000003F800000, stream=side)
    assert driver.violations() == []


def test_legacy_stream_waits_for_blocking_streams_only(driver):
    from vibetensor.cuda import _runtime

    x = block()
    side = vt.cuda.Stream()  # of the pool: non-blocking
    driver.launch(x.data_ptr(), writes=1, stream=side)
    driver.launch(x.data_ptr(), reads=1)
    found(driver, "order")
    assert _runtime.current_stream(0) == 0


# --- lifetime --------------------------------------------------------------------------------------


def test_use_after_the_block_was_given_back(driver):
    x = block()
    address = x.data_ptr()
    del x
    driver.launch(address)
    found(driver, "lifetime", "not handed out")


def test_use_after_the_segment_was_freed(driver):
    x = block(4 << 20)
    address = x.data_ptr()
    del x
    vt.cuda.empty_cache()
    driver.launch(address)
    found(driver, "lifetime", "freed")


def test_reuse_by_another_stream_is_ordered_by_the_allocator(driver):
    side = vt.cuda.Stream()
    x = block(4 << 20)
    address = x.data_ptr()
    side.wait_stream(vt.cuda.current_stream())
    driver.launch(address, reads=1, stream=side)
    x.record_stream(side)
    driver.complete("when awaited")
    del x
    y = block(4 << 20)
    assert y.data_ptr() != address
    driver.launch(y.data_ptr(), writes=1)
    side.synchronize()
    del y
    assert driver.violations() == []


def test_reuse_too_early_is_found(driver):
    """What happens where record_stream() was forgotten."""
    side = vt.cuda.Stream()
    x = block(4 << 20)
    address = x.data_ptr()
    side.wait_stream(vt.cuda.current_stream())
    driver.launch(address, reads=1, stream=side)
    del x
    y = block(4 << 20)
    assert y.data_ptr() == address
    driver.launch(y.data_ptr(), writes=1)
    found(driver, "order", "freed and used before")


def test_bytes_beyond_a_block(driver):
    x = block(4 << 20)
    with pytest.raises(ValueError, match="allocated"):
        driver.peek(x.data_ptr() + (1 << 30), 8)


# --- copies ------------------------------------------------------------------------------------------


def test_copies_move_bytes(driver):
    x = vt.arange(1000, dtype=vt.int32)
    y = x.to("cuda")
    assert driver.peek(y.data_ptr(), 4000) == x.numpy().tobytes()
    assert y.cpu().tolist() == x.tolist()
    z = y.to("cuda:1")
    assert z.cpu().tolist() == x.tolist()
    assert driver.violations() == []


def test_pinned_copies_happen_when_they_are_done(driver):
    x = vt.zeros(1000, dtype=vt.uint8).pin_memory()
    y = vt.ones(1000, dtype=vt.uint8).to("cuda")
    driver.complete("when awaited")
    x.copy_(y, non_blocking=True)
    assert int(x.sum()) == 0
    vt.cuda.synchronize()
    assert int(x.sum()) == 1000


def test_the_host_cannot_touch_device_memory(driver):
    import ctypes
    import os

    x = block()
    child = os.fork()
    if child == 0:
        import faulthandler

        faulthandler.disable()
        ctypes.string_at(x.data_ptr(), 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


# --- failures ----------------------------------------------------------------------------------------


def test_injected_failure(driver):
    block()
    driver.fail("cuLaunchKernel", nth=2)
    x = block()
    assert driver.launch(x.data_ptr()) == 0
    assert driver.launch(x.data_ptr()) == 2
    assert driver.launch(x.data_ptr()) == 0
    with pytest.raises(ValueError, match="no function"):
        driver.fail("cuNothing")
    assert driver.calls("cuLaunchKernel") == 3


def test_memory_is_limited(driver):
    with pytest.raises(vt.cuda.OutOfMemoryError, match=r"1\.\d* GiB|[Oo]ut of memory"):
        block(2 << 30)
    x = block(512 << 20)
    assert vt.cuda.mem_get_info()[0] <= (1 << 30) - x.numel()
    block(512 << 20, device="cuda:1")


def test_log(driver):
    x = block()
    driver.record()
    side = vt.cuda.Stream()
    side.wait_stream(vt.cuda.current_stream())
    driver.launch(x.data_ptr() + 4, stream=side, name="vt_thing")
    driver.record(False)
    kinds = [entry["kind"] for entry in driver.log()]
    assert kinds == ["record", "wait", "launch"]
    launch = driver.log()[-1]
    assert launch["name"] == "vt_thing" and launch["touched"] == [x.data_ptr()]
    assert launch["stream"] == side.cuda_stream and launch["grid"] == (1, 1, 1)
    driver.clear()
    assert driver.log() == []
