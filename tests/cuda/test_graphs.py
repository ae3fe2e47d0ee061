"""Capture and replay: graphs, pools, graphed callables and graphed training steps."""

import math

import pytest

import vibetensor as vt
from vibetensor import nn, optim
from vibetensor.nn import functional as F
from vibetensor.testing.cuda import has_gpu, simulated_driver, uses_gpu


@pytest.fixture
def driver():
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if uses_gpu():
        pytest.skip("this process uses a GPU")
    with simulated_driver(devices=2, memory=4 << 30) as driver:
        yield driver
        assert driver.violations() == []


@pytest.fixture
def device():
    if not has_gpu():
        pytest.skip("needs a CUDA device")
    yield "cuda"
    vt.cuda.synchronize()


def block(n=1024):
    return vt.empty(n, dtype=vt.uint8, device="cuda")


# --- CUDAGraph on the simulated driver -----------------------------------------------------------


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


# --- graphed steps on the simulated driver ---------------------------------------------------------


def make(dropout=0.0, seed=0, dtype=None):
    vt.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4))
    model = model.to("cuda", dtype) if dtype else model.to("cuda")
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200)

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return model, optimizer, schedule, step


def batch(n=32, seed=0):
    g = vt.Generator().manual_seed(seed)
    x = vt.randn(n, 8, generator=g).to("cuda")
    return x, vt.randint(0, 4, (n,), generator=g).to("cuda")


def test_graphed_step_launches_once_and_never_waits(driver):
    _model, optimizer, _schedule, step = make(dropout=0.1)
    graphed = vt.cuda.graphed(step)
    for i in range(4):
        graphed(*batch(seed=i))
    assert graphed.num_graphs == 1
    x, y = batch(seed=9)
    before = driver.counters()
    loss = graphed(x, y)
    after = driver.counters()
    assert loss.shape == () and loss.is_cuda
    assert after["graph_launches"] == before["graph_launches"] + 1
    assert after["host_syncs"] == before["host_syncs"] and after["waits"] == before["waits"]
    assert after["allocations"] == before["allocations"]
    assert all(int(s["step"]) == 5 for s in optimizer.state.values())


def test_a_changed_shape_or_constant_captures_anew(driver):
    calls = []

    def function(x, factor=1.0):
        calls.append(x.shape)
        return {"out": [x * factor]}

    graphed = vt.cuda.graphed(function, warmup=1)
    for n in (4, 4, 4, 6, 6, 6):
        out = graphed(vt.ones(n, device="cuda"))
        assert out["out"][0].shape == (n,)
    assert graphed.num_graphs == 2 and len(calls) == 4
    for _ in range(3):
        graphed(vt.ones(4, device="cuda"), factor=2.0)
    assert graphed.num_graphs == 3
    x = vt.ones(4, 4, device="cuda")
    for _ in range(2):
        graphed(x)
        graphed(x.t())
    assert graphed.num_graphs == 5, "a transposed square has other strides"
    graphed.reset()
    assert graphed.num_graphs == 0


def test_arguments_that_a_graph_cannot_take(driver):
    graphed = vt.cuda.graphed(lambda x, *rest: x)
    x = vt.ones(2, device="cuda")
    with pytest.raises(TypeError, match=r"argument\[0\] is a tensor on cpu"):
        graphed(vt.ones(2))
    with pytest.raises(TypeError, match=r"argument\[1\] is a set"):
        graphed(x, {1})
    with pytest.raises(ValueError, match="requires grad"):
        graphed(vt.ones(2, device="cuda", requires_grad=True))
    with pytest.raises(ValueError, match="warmup"):
        vt.cuda.graphed(lambda x: x, warmup=0)


def test_the_same_tensor_twice_is_another_kind_of_call(driver):
    graphed = vt.cuda.graphed(lambda x, y: x + y, warmup=1)
    x, y = vt.ones(2, device="cuda"), vt.ones(2, device="cuda")
    for _ in range(2):
        graphed(x, x)
        graphed(x, y)
    assert graphed.num_graphs == 2


def test_item_inside_names_its_line(driver):
    def step(x):
        y = x * 2
        if y.sum().item() > 1e9:  # this line
            y = y * 2
        return y

    graphed = vt.cuda.graphed(step, warmup=1)
    x = vt.ones(2, device="cuda")
    graphed(x)
    line = step.__code__.co_firstlineno + 2
    with pytest.raises(RuntimeError, match=rf"item\(\) at .*test_graphs\.py:{line} cannot be part"):
        graphed(x)
    assert not vt.cuda.is_current_stream_capturing()
    vt.cuda.graphed(lambda x: x + 1, warmup=1)(x)


def test_gradients_are_those_of_the_graph_that_ran(driver):
    model, _optimizer, _schedule, step = make()
    graphed = vt.cuda.graphed(step, warmup=1)
    addresses = []
    for n in (32, 32, 16, 16, 32, 16, 32):
        graphed(*batch(n))
        addresses.append(model[0].weight.grad.data_ptr())
    assert addresses[4] == addresses[6] != addresses[3] == addresses[5]


def test_make_graphed_callables(driver):
    model, optimizer, _schedule, _step = make()
    x, y = batch()
    layer = vt.cuda.make_graphed_callables(model, (x,))
    assert layer is model
    before = driver.counters()["graph_launches"]
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert driver.counters()["graph_launches"] == before + 4
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    model(x)
    assert driver.counters()["graph_launches"] == before + 4
    with pytest.raises(TypeError, match="only Tensors"):
        vt.cuda.make_graphed_callables(nn.Linear(2, 2), (1,))


# --- values, on a device ---------------------------------------------------------------------------


def train(step, schedule, steps, batches):
    losses = []
    for i in range(steps):
        losses.append(step(*batches[i % len(batches)]))
        schedule.step()
    return [float(loss) for loss in losses]


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_200_captured_steps_equal_200_eager_steps(device, dropout):
    batches = [batch(seed=i) for i in range(7)]
    results = []
    for captured in (False, True):
        model, _optimizer, schedule, step = make(dropout)
        vt.cuda.manual_seed(4)
        if captured:
            step = vt.cuda.graphed(step)
        losses = train(step, schedule, 200, batches)
        results.append((losses, [p.detach().cpu() for p in model.parameters()]))
    (eager, ours), (graphed, theirs) = results
    assert graphed == pytest.approx(eager, rel=1e-5, abs=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).abs().max()) < 1e-4
    assert not math.isnan(eager[-1]) and eager[-1] < eager[0]


@pytest.mark.gpu
def test_dropout_differs_from_replay_to_replay_and_follows_the_eager_sequence(device):
    x = vt.ones(1000, device=device)
    graphed = vt.cuda.graphed(lambda x: F.dropout(x, 0.5), warmup=1)
    vt.cuda.manual_seed(3)
    found = [graphed(x).cpu().tolist() for _ in range(5)]
    vt.cuda.manual_seed(3)
    assert found == [F.dropout(x, 0.5).cpu().tolist() for _ in range(5)]
    assert len({tuple(f) for f in found}) == 5


@pytest.mark.gpu
def test_graphed_callables_compute_what_the_module_does(device):
    model, *_ = make()
    x, y = batch()
    expected = model(x)
    F.cross_entropy(expected, y).backward()
    gradients = [p.grad.cpu() for p in model.parameters()]
    for p in model.parameters():
        p.grad = None
    vt.cuda.make_graphed_callables(model, (batch(seed=3)[0],))
    out = model(x)
    assert float((out - expected).abs().max()) < 1e-6
    F.cross_entropy(out, y).backward()
    for p, g in zip(model.parameters(), gradients, strict=True):
        assert float((p.grad.cpu() - g).abs().max()) < 1e-6


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
