"""Mixed precision on CUDA, on the simulated driver: launches, waits and captured steps."""

import pytest

import vibetensor as vt
from vibetensor import nn
from vibetensor.nn import functional as F
from vibetensor.testing.cuda import simulated_driver, uses_gpu


@pytest.fixture
def driver():
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if uses_gpu():
        pytest.skip("this process uses a GPU")
    with simulated_driver(memory=4 << 30) as driver:
        yield driver
        assert driver.violations() == []


def make(optimizer, low=vt.float16, **options):
    vt.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4)).to(
        "cuda"
    )
    optimizer = optimizer(model.parameters(), **options)
    scaler = vt.amp.GradScaler()

    def step(x, y):
        optimizer.zero_grad()
        with vt.autocast("cuda", low):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    return model, optimizer, scaler, step


def batch():
    return vt.ones(4, 8, device="cuda"), vt.zeros(4, dtype=vt.int64, device="cuda")


def launches(driver, function):
    driver.clear()
    driver.record()
    function()
    driver.record(False)
    return [entry["name"] for entry in driver.log() if entry["kind"] == "launch"]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (vt.optim.AdamW, {}),
        (vt.optim.Adam, {"lr": 0.1}),
        (vt.optim.SGD, {"lr": 0.1}),
        (vt.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    ],
)
def test_a_step_never_waits(driver, optimizer, options):
    model, _, scaler, step = make(optimizer, **options)
    x, y = batch()
    before = driver.counters()
    for _ in range(3):
        loss = step(x, y)
    after = driver.counters()
    assert after["host_syncs"] == before["host_syncs"] and after["waits"] == before["waits"]
    assert loss.dtype == vt.float32
    assert all(p.grad.dtype == vt.float32 for p in model.parameters())
    scaler.get_scale()
    assert driver.counters()["host_syncs"] > after["host_syncs"], "which does wait"


def test_a_weight_is_cast_once(driver):
    weight = vt.ones(8, 8, device="cuda", requires_grad=True)
    x = vt.ones(8, 8, device="cuda", dtype=vt.float16)

    def products():
        with vt.autocast("cuda"):
            for _ in range(3):
                F.linear(x, weight)

    with vt.autocast("cuda", enabled=False):
        alone = len(launches(driver, lambda: weight.half()))
    assert alone == 1
    half = weight.detach().half()
    plain = len(launches(driver, lambda: [F.linear(x, half) for _ in range(3)]))
    assert len(launches(driver, products)) == plain + 1
    assert len(launches(driver, products)) == plain + 1, "a new region, a new cast"


def test_another_stream_casts_anew(driver):
    weight = vt.ones(8, 8, device="cuda", requires_grad=True)
    x = vt.ones(8, 8, device="cuda")
    side = vt.cuda.Stream()
    with vt.autocast("cuda"):
        x @ weight
        with vt.cuda.stream(side):
            side.wait_stream(vt.cuda.default_stream())
            node = (x @ weight).grad_fn.next_functions[1][0]
            assert (x @ weight).grad_fn.next_functions[1][0] is node
        vt.cuda.default_stream().wait_stream(side)


@pytest.mark.parametrize("outside", [False, True])
def test_casts_are_part_of_a_captured_step(driver, outside):
    """Also where the region is around the call, and has casts of its own."""
    weight = nn.Parameter(vt.ones(64, 64, device="cuda"))
    x = vt.ones(64, 64, device="cuda")

    def inner(x):
        return F.linear(x, weight)

    graphed = vt.cuda.graphed(inner if outside else vt.autocast("cuda")(inner), warmup=1)
    with vt.autocast("cuda", enabled=outside):
        if outside:
            inner(x)
        graphed(x)
        driver.record()
        assert graphed(x).dtype == vt.float16
        driver.record(False)
        # The log has what is captured, and what the replay does.
        step = ["vt_cast_f32_f16", "vt_cast_f32_f16", "cublasLtMatmul"]
        assert [e["name"] for e in driver.log() if e["captured"]] == 2 * step
        assert graphed.num_graphs == 1
    with vt.autocast("cuda", enabled=not outside):
        graphed(x)
    assert graphed.num_graphs == 1, "in another region it is another kind of call: a warm-up"


@pytest.mark.parametrize("optimizer", [vt.optim.AdamW, vt.optim.SGD])
def test_a_graphed_step_with_a_scaler(driver, optimizer):
    options = {"lr": 0.1, "momentum": 0.9} if optimizer is vt.optim.SGD else {}
    _, optimizer, scaler, step = make(optimizer, **options)
    graphed = vt.cuda.graphed(step)
    x, y = batch()
    for _ in range(4):
        graphed(x, y)
    assert graphed.num_graphs == 1
    before = driver.counters()
    graphed(x, y)
    after = driver.counters()
    assert after["graph_launches"] == before["graph_launches"] + 1
    assert after["host_syncs"] == before["host_syncs"] and after["waits"] == before["waits"]
    if options == {}:
        assert all(int(s["step"]) == 5 for s in optimizer.state.values())
    assert scaler.is_enabled()


def test_what_cannot_be_captured_first(driver):
    _, _, _, step = make(vt.optim.AdamW)
    graph = vt.cuda.CUDAGraph()
    x, y = batch()
    with pytest.raises(RuntimeError, match="call it once before"), vt.cuda.graph(graph):
        step(x, y)


def test_without_cuda_a_scaler_and_a_region_disable_themselves():
    if vt.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.warns(UserWarning, match="CUDA is not available"):
        assert not vt.amp.GradScaler().is_enabled()
    with pytest.warns(UserWarning, match="CUDA is not available"):
        region = vt.autocast("cuda")
    with region:
        assert not vt.is_autocast_enabled("cuda")
