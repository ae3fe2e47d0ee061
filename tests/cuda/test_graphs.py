"""Capture and replay: graphs, their memory and their numbers."""

import pytest

import vibetensor as vt


def block(n=1024):
    return vt.empty(n, dtype=vt.uint8, device="cuda")


# --- CUDAGraph on the simulated driver -----------------------------------------------------------


def test_the_state_of_a_generator_is_not_set_under_capture(driver):
    """Replays go on where the last one ended: a seed inside would be forgotten."""
    generator = vt.cuda.default_generators[0]
    vt.manual_seed(11)
    changes = (
        lambda: vt.manual_seed(3),
        lambda: vt.cuda.manual_seed(3),
        vt.cuda.seed_all,
        lambda: generator.set_offset(5),
        lambda: vt.cuda.set_rng_state(vt.cuda.get_rng_state()),
    )
    for change in changes:
        with (
            pytest.raises(RuntimeError, match="while a CUDA graph captures it"),
            vt.cuda.graph(vt.cuda.CUDAGraph()),
        ):
            change()
        assert (vt.initial_seed(), generator.initial_seed(), generator.get_offset()) == (11, 11, 0)
    vt.manual_seed(3)
    assert generator.initial_seed() == 3


def test_a_capture_inside_a_capture(driver):
    x, outer = block(), vt.cuda.CUDAGraph()
    with vt.cuda.graph(outer):
        with (
            pytest.raises(RuntimeError, match="captures a graph already"),
            vt.cuda.graph(vt.cuda.CUDAGraph()),
        ):
            pass
        x.add_(1)
    outer.replay()


def test_a_capture_runs_nothing_and_a_replay_all(driver):
    x = block()
    g = vt.cuda.CUDAGraph()
    before = driver.counters()["launches"]
    with vt.cuda.graph(g):
        assert vt.cuda.is_current_stream_capturing()
        for _ in range(3):
            driver.launch(x.data_ptr(), writes=1)
    assert not vt.cuda.is_current_stream_capturing()
    assert driver.counters()["launches"] == before
    g.replay()
    g.replay()
    assert driver.counters()["launches"] == before + 6
    assert driver.counters()["graph_launches"] == 2


def test_replays_are_ordered_like_any_work(driver):
    x, side = block(), vt.cuda.Stream()
    g = vt.cuda.CUDAGraph()
    with vt.cuda.graph(g):
        driver.launch(x.data_ptr(), writes=1)
    g.replay()
    driver.launch(x.data_ptr(), reads=1)
    assert driver.violations() == []
    driver.launch(x.data_ptr(), reads=1, stream=side)
    assert len(driver.violations()) == 1
    driver.clear()
    side.synchronize()
    with vt.cuda.stream(side):
        g.replay()
    assert len(driver.violations()) == 1
    driver.clear()
    vt.cuda.synchronize()


def test_copies_in_a_graph_move_bytes_anew(driver):
    source = vt.zeros(16, dtype=vt.uint8).pin_memory()
    x = block(16)
    g = vt.cuda.CUDAGraph()
    with vt.cuda.graph(g):
        x.copy_(source, non_blocking=True)
    for value in (3, 5):
        source.fill_(value)
        g.replay()
        vt.cuda.synchronize()
        assert driver.peek(x.data_ptr(), 16) == bytes([value]) * 16


def test_memory_of_a_graph_stays_its_own(driver):
    g = vt.cuda.CUDAGraph()
    with vt.cuda.graph(g):
        temporary = block(4 << 20)
        inside = temporary.data_ptr()
        driver.launch(inside, writes=1)
        del temporary
        again = block(4 << 20)
        assert again.data_ptr() == inside, "the pool reuses what the capture gave back"
        driver.launch(inside, writes=1)
    del again
    outside = [block(4 << 20) for _ in range(8)]
    assert inside not in [t.data_ptr() for t in outside]
    g.replay()
    g.reset()


def test_pools_are_shared_on_request(driver):
    first, second = vt.cuda.CUDAGraph(), vt.cuda.CUDAGraph()
    with vt.cuda.graph(first):
        x = block(4 << 20)
        address = x.data_ptr()
        driver.launch(address, writes=1)
        del x
    with vt.cuda.graph(second, pool=first.pool()):
        x = block(4 << 20)
        assert x.data_ptr() == address
        driver.launch(address, writes=1)
        del x
    assert first.pool() == second.pool() != vt.cuda.graph_pool_handle()
    first.replay()
    second.replay()
    first.reset()
    second.replay()


def test_freeing_graphs_gives_all_memory_back(driver):
    def live():
        vt.cuda.synchronize()
        vt.cuda.empty_cache()
        return driver.counters()["live_bytes"]

    start = live()
    pool = vt.cuda.graph_pool_handle()
    for _ in range(3):
        graphs = []
        for _ in range(3):
            g = vt.cuda.CUDAGraph()
            with vt.cuda.graph(g, pool=pool):
                x = block(8 << 20)
                driver.launch(x.data_ptr(), writes=1)
            del x
            graphs.append(g)
        for g in graphs:
            g.replay()
        assert live() > start
        for g in graphs:
            g.reset()
        del graphs, g
        assert live() == start


def test_a_forked_stream_joins_the_capture(driver):
    x, side = block(), vt.cuda.Stream()
    g = vt.cuda.CUDAGraph()
    with vt.cuda.graph(g):
        driver.launch(x.data_ptr(), writes=1)
        side.wait_stream(vt.cuda.current_stream())
        driver.launch(x.data_ptr(), writes=1, stream=side)
        assert side.is_capturing()
        vt.cuda.current_stream().wait_stream(side)
        driver.launch(x.data_ptr(), writes=1)
    g.replay()
    assert driver.counters()["launches"] == 3


def test_a_forked_stream_that_does_not_join_fails(driver):
    x, side = block(), vt.cuda.Stream()
    g = vt.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="unjoined"), vt.cuda.graph(g):
        side.wait_stream(vt.cuda.current_stream())
        driver.launch(x.data_ptr(), writes=1, stream=side)
    assert not side.is_capturing()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        g.replay()


def test_waiting_inside_a_capture_raises_and_the_process_goes_on(driver):
    x = vt.empty(4, device="cuda")
    for wait in (
        vt.cuda.synchronize,
        lambda: vt.cuda.current_stream().synchronize(),
        lambda: vt.cuda.current_stream().query(),
        x.cpu,
        lambda: x.view(-1)[0].item(),
    ):
        g = vt.cuda.CUDAGraph()
        with pytest.raises(RuntimeError, match="captur"), vt.cuda.graph(g):
            wait()
        assert not vt.cuda.is_current_stream_capturing()
        x.cpu()
    g = vt.cuda.CUDAGraph()
    with vt.cuda.graph(g):
        driver.launch(x.data_ptr(), writes=1)
    g.replay()


def test_an_exception_inside_is_the_one_that_comes_out(driver):
    g = vt.cuda.CUDAGraph()
    with pytest.raises(ZeroDivisionError), vt.cuda.graph(g):
        block()
        1 / 0  # noqa: B018
    assert not vt.cuda.is_current_stream_capturing()


def test_rules_of_use(driver):
    g = vt.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="without a preceding"):
        g.replay()
    with pytest.raises(RuntimeError, match="non-default stream"):
        g.capture_begin()
    with pytest.raises(RuntimeError, match="Unknown capture error mode"):
        g.capture_begin(capture_error_mode="strict")
    with pytest.raises(RuntimeError, match="without capture_begin"):
        g.capture_end()
    x = block()
    with vt.cuda.graph(g):
        driver.launch(x.data_ptr())
        with pytest.raises(RuntimeError, match="already"):
            vt.cuda.CUDAGraph().capture_begin()
    with pytest.raises(RuntimeError, match="already owns a captured graph"), vt.cuda.graph(g):
        pass
    g.reset()
    with vt.cuda.graph(g):
        driver.launch(x.data_ptr())
    g.replay()


def test_kept_graphs_and_dumps(driver, tmp_path):
    x = block()
    g = vt.cuda.CUDAGraph(keep_graph=True)
    with vt.cuda.graph(g):
        driver.launch(x.data_ptr(), name="vt_here")
    assert g.raw_cuda_graph()
    g.debug_dump(str(tmp_path / "graph.dot"))
    assert "vt_here" in (tmp_path / "graph.dot").read_text()
    g.instantiate()
    g.replay()
    assert driver.counters()["launches"] == 1


def test_kernels_are_loaded_inside_a_capture(driver):
    g = vt.cuda.CUDAGraph()
    with vt.cuda.graph(g):
        vt.cuda._sleep(1)
    g.replay()
    assert driver.counters()["launches"] == 1


def test_host_numbers_are_those_of_each_replay(driver):
    import struct

    from vibetensor.core import capture

    seen, counted = [], []
    g = vt.cuda.CUDAGraph()
    assert capture.active() is None
    with vt.cuda.graph(g):
        graph = capture.active()
        numbers = [graph.number(lambda i=i: 10.0 * i + len(counted)) for i in range(300)]
        graph.after_replay(lambda: counted.append(1))
        driver.launch(numbers[0].data_ptr(), reads=1)
    assert capture.active() is None
    for _ in range(3):
        g.replay()
        vt.cuda.synchronize()
        seen.append([struct.unpack("d", driver.peek(n.data_ptr(), 8))[0] for n in numbers])
    for replay, values in enumerate(seen):
        assert values == [10.0 * i + replay for i in range(300)]


def test_random_numbers_go_on_from_replay_to_replay(driver):
    import struct

    generator = vt.cuda.random.default_generator()
    generator.manual_seed(11)
    g = vt.cuda.CUDAGraph()
    driver.record()
    with vt.cuda.graph(g):
        vt.rand(4, device="cuda")
    assert generator.get_offset() == 0
    g.replay()
    first = generator.get_offset()
    assert first > 0
    vt.rand(4, device="cuda")
    between = generator.get_offset()
    assert between == 2 * first
    g.replay()
    record = g._numbers._buffers[0]
    vt.cuda.synchronize()
    assert struct.unpack("QQ", driver.peek(record.data_ptr(), 16)) == (11, between)
    assert generator.get_offset() == 3 * first
    generator.manual_seed(12)
    g.replay()
    vt.cuda.synchronize()
    assert struct.unpack("QQ", driver.peek(record.data_ptr(), 16)) == (12, 0)


# --- on a device -----------------------------------------------------------------------------------


@pytest.mark.gpu
def test_a_second_graph_in_the_same_pool_keeps_the_firsts_results(device):
    g1, g2 = vt.cuda.CUDAGraph(), vt.cuda.CUDAGraph()
    x = vt.arange(1000, dtype=vt.float32, device=device)
    (x * 2 + 1).sum()
    with vt.cuda.graph(g1):
        a = x * 2
    with vt.cuda.graph(g2, pool=g1.pool()):
        b = a + 1
    g1.replay()
    g2.replay()
    assert b.sum().item() == 999 * 1000 + 1000
    x.fill_(1)
    g1.replay()
    g2.replay()
    assert b.sum().item() == 3000
