"""graphed() training steps and make_graphed_callables()."""

import math

import pytest

import vibetensor as vt
from vibetensor import nn, optim
from vibetensor.nn import functional as F

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
    with pytest.raises(
        RuntimeError, match=rf"item\(\) at .*test_graphed\.py:{line} cannot be part"
    ):
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
