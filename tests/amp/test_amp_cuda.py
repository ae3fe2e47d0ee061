"""Mixed precision on CUDA, on the simulated driver: launches, waits and captured steps."""

import pytest

import vibetensor as vt
from vibetensor import nn
from vibetensor.nn import functional as F


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
        alone = len(driver.launches(lambda: weight.half()))
    assert alone == 1
    half = weight.detach().half()
    plain = len(driver.launches(lambda: [F.linear(x, half) for _ in range(3)]))
    assert len(driver.launches(products)) == plain + 1
    assert len(driver.launches(products)) == plain + 1, "a new region, a new cast"


def test_a_region_casts_at_once_what_the_last_one_cast(driver):
    x = vt.ones(64, 64, device="cuda", dtype=vt.float16)
    first, second, third = (vt.ones(64, 64, device="cuda", requires_grad=True) for _ in range(3))

    def casts(*weights):
        """The casts of a region that uses these weights, in this order."""

        def region():
            with vt.autocast("cuda"):
                for weight in weights:
                    (x @ weight).sum()

        return driver.launches(region).count("vt_cast_list_small_f32")

    casts(third)  # whatever was before
    assert casts(first, second) == 2
    assert casts(first, second, third) == 2, "the two together, and the third"
    assert casts(second, first, third) == 1
    assert casts(first) == 1, "all of them, in vain"
    assert casts(first, second) == 2, "what was cast in vain is not cast again"
    assert casts(third, first) == 2
    with vt.autocast("cuda"), vt.no_grad():
        assert not (x @ third).requires_grad
        with vt.enable_grad():
            assert (x @ first).requires_grad
    assert casts(third, first) == 1
    del third
    assert casts(first, second) == 2


def test_a_weight_that_changed_after_a_joint_cast_is_cast_again(driver):
    x = vt.ones(64, 64, device="cuda", dtype=vt.float16)
    first, second = (vt.ones(64, 64, device="cuda", requires_grad=True) for _ in range(2))

    def region(change):
        with vt.autocast("cuda"):
            x @ first
            if change:
                with vt.no_grad():
                    second.zero_()
            x @ second

    region(False)
    assert driver.launches(lambda: region(False)).count("vt_cast_list_small_f32") == 1
    assert driver.launches(lambda: region(True)).count("vt_cast_list_small_f32") == 2


@pytest.mark.parametrize("bias", [False, True])
def test_gradients_of_weights_are_made_in_float32(driver, bias):
    layer = nn.Linear(64, 64, bias=bias, device="cuda")
    x = vt.ones(64, 64, device="cuda", dtype=vt.bfloat16)
    with vt.autocast("cuda", vt.bfloat16):
        out = layer(x)
    grad = vt.ones(64, 64, device="cuda", dtype=vt.bfloat16)
    assert driver.launches(lambda: out.backward(grad)) == ["cublasLtMatmul"]
    assert all(p.grad.dtype == vt.float32 for p in layer.parameters())


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
        step = ["vt_cast_f32_f16", "vt_cast_list_small_f32", "cublasLtMatmul"]
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


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("count", [3, 400])
def test_joint_casts_have_the_values_of_single_ones(dtype, count):
    rounded = getattr(vt, dtype)
    sizes = [(), (1,), (7,), (1024,), (1025,), (33, 129), (0, 3)]
    whole = [vt.randn(*sizes[i % len(sizes)], device="cuda") * 10**3 for i in range(count)]
    # Also memory that does not begin at a multiple of 16 bytes, and gaps between rows.
    odd = vt.randn(50, device="cuda")[3:]
    tensors = [
        *whole,
        odd,
        vt.randn(20, 30, device="cuda")[:, 4:9],
        vt.randn(6, 5, device="cuda").T,
    ]
    results = [vt.empty_like(t, dtype=rounded) for t in tensors]
    vt.ops._cast_tensors_(results, tensors)
    for result, t in zip(results, tensors, strict=True):
        assert (result == t.to(rounded)).all().item()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [vt.float16, vt.bfloat16])
def test_gradients_in_float32_on_the_device(dtype):
    """They have the sums of the products of the half numbers, not rounded to half."""
    vt.manual_seed(0)
    for bias, features in ((True, 64), (False, 72), (True, 3)):
        layer = nn.Linear(40, features, bias=bias, device="cuda")
        x = vt.randn(256, 40, device="cuda", dtype=dtype)
        grad = vt.randn(256, features, device="cuda", dtype=dtype)
        with vt.autocast("cuda", dtype):
            layer(x).backward(grad)
        expected = grad.double().T @ x.double()
        error = (layer.weight.grad.double() - expected).abs().max() / expected.abs().max()
        assert error.item() < 1e-6
        if bias:
            expected = grad.double().sum(0)
            error = (layer.bias.grad.double() - expected).abs().max() / expected.abs().max()
            assert error.item() < 1e-6
