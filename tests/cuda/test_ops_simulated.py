"""The host path of every operator on the simulated driver: what is launched, allocated and waited for.

Kernels of the simulator compute nothing, so values are not looked at; everything else is: shape, dtype,
strides and errors are those of the CPU, nothing waits for the device without need, and the simulator's
own checks (order between streams, lifetime, access) find nothing.
"""

import importlib
import importlib.util
import pathlib
import sys
import warnings

import pytest
import torch

import vibetensor as vt
from vibetensor.testing.cuda import simulated_driver


def load_grid():
    """The samples of tests/ops, which are a package of their own."""
    name, folder = "vt_ops_grid", pathlib.Path(__file__).parents[1] / "ops"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return importlib.import_module(f"{name}.oracle"), importlib.import_module(f"{name}.samples")


oracle, grid_samples = load_grid()
OPS, samples = oracle.OPS, grid_samples.samples
DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64)

# The shape of the result depends on values, or a check has to see them: these must wait.
WAITING = {"nonzero", "masked_select", "one_hot", "index", "index_put", "index_put_"}
# What a device reports late, or not at all.
LATE = (
    "out of bounds",
    "out of range",
    "ZeroDivision",
    "Class values",
    "p_in",
    "multinomial",
    "between 0",
)
NEEDS_VALUES = {"nonzero", "masked_select", "one_hot"}


@pytest.fixture(scope="module")
def driver():
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    with simulated_driver(devices=2) as driver:
        yield driver


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def place(value):
    """Arguments on the device, with the strides they have."""
    if isinstance(value, torch.Tensor):
        return oracle.ours(value)
    if isinstance(value, (list, tuple)):
        return type(value)(place(v) for v in value)
    if isinstance(value, dict):
        return {k: place(v) for k, v in value.items()}
    return oracle.ours(value)


def known_gap(op, dtype, values):
    """Products of integers, as in PyTorch; and dtypes that the CPU only takes of nothing."""
    if dtype in grid_samples.INTEGRAL or dtype == torch.bool:
        return op.name in oracle.PRODUCTS
    return any(t.numel() == 0 for t in oracle.tensors(values))


def call(function, args, kwargs):
    try:
        return function(*args, **kwargs), None
    except Exception as error:
        return None, error


@pytest.mark.parametrize(
    ("op", "dtype"),
    [pytest.param(o, d, id=f"{o.name}-{str(d)[6:]}") for o in OPS.values() for d in DTYPES],
)
def test_host_path(driver, op, dtype):
    function = oracle.functions(op)[0]
    for args, kwargs in samples(op, dtype):
        where = op.name + oracle.describe(args, kwargs)
        oracle.place_arguments("cpu")
        expected, wanted = call(
            function, oracle.ours(oracle.fresh(list(args))), oracle.ours(kwargs)
        )
        oracle.place_arguments("cuda")
        try:
            mine, keywords = place(oracle.fresh(list(args))), place(kwargs)
        finally:
            oracle.place_arguments("cpu")
        before = driver.counters()
        found, error = call(function, mine, keywords)
        after = driver.counters()
        if wanted is not None:
            late = any(text in str(wanted) for text in LATE)
            assert late or isinstance(error, type(wanted)), f"{where}: {error!r}, not {wanted!r}"
            continue
        if isinstance(error, NotImplementedError) and known_gap(
            op, dtype, [args, kwargs, expected]
        ):
            continue
        assert error is None, f"{where}: {error!r}"
        if op.name not in WAITING:
            assert after["waits"] == before["waits"], f"{where}: waits for the device"
        launches = after["launches"] - before["launches"]
        results = oracle.tensors(found)
        if op.kind == "view":
            assert launches == 0, where
        elif op.kind == "pointwise":
            assert launches == (1 if results[0].numel() else 0), where
        if op.name in NEEDS_VALUES:
            continue
        for x, y in zip(results, oracle.tensors(expected), strict=True):
            assert x.is_cuda == any(t.is_cuda for t in oracle.tensors([mine, keywords])), where
            assert x.dtype is y.dtype and x.shape == y.shape and x.stride() == y.stride(), where
    assert driver.violations() == [], op.name


# --- a training step -------------------------------------------------------------------------------------


@pytest.fixture
def small_gpt(driver, example):
    module = example("minigpt")
    config = module.Config(context=16, dim=32, layers=2, heads=2, dropout=0.1)
    model = module.build_model(vt, config).to("cuda")
    return model, module.build_optimizer(vt, model, 1e-3)


def step(model, optimizer, tokens):
    logits = model(tokens[:, :-1])
    loss = vt.nn.functional.cross_entropy(logits.reshape(-1, 256), tokens[:, 1:].reshape(-1))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    vt.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


# Of one step of the model above. Fewer is progress: lower the bound.
LAUNCHES = 146


def test_a_training_step_neither_waits_nor_allocates(driver, small_gpt):
    model, optimizer = small_gpt
    tokens = vt.randint(0, 256, (4, 17), device="cuda")
    for _ in range(3):
        step(model, optimizer, tokens)
    before = driver.counters()
    loss = step(model, optimizer, tokens)
    after = driver.counters()
    assert loss.is_cuda
    assert after["waits"] == before["waits"]
    assert after["allocations"] == before["allocations"], (
        "memory came from the driver, not the cache"
    )
    assert after["copies"] - before["copies"] <= 1, (
        "more than the gradient of the slice of positions"
    )
    launches = after["launches"] - before["launches"]
    assert launches <= LAUNCHES, launches
    assert driver.violations() == []


def test_steps_leave_no_memory_behind(driver, small_gpt):
    model, optimizer = small_gpt
    tokens = vt.randint(0, 256, (4, 17), device="cuda")
    seen = []
    for _ in range(6):
        step(model, optimizer, tokens)
        seen.append(driver.counters()["blocks"])
    assert len(set(seen[2:])) == 1, seen


# --- streams of a backward -------------------------------------------------------------------------------


def test_backward_runs_where_the_forward_ran(driver):
    side = vt.cuda.Stream()
    x = vt.ones(64, device="cuda", requires_grad=True)
    y = x * 2
    side.wait_stream(vt.cuda.current_stream())
    with vt.cuda.stream(side):
        z = y * 3
        w = z.sum()
    vt.cuda.current_stream().wait_stream(side)
    driver.clear()
    driver.record(True)
    waits = driver.counters()["waits"]
    w.backward()
    driver.record(False)
    streams = {e["stream"] for e in driver.log() if e["kind"] == "launch"}
    assert side.cuda_stream in streams and len(streams) == 2
    assert driver.counters()["waits"] == waits
    assert driver.violations() == []
    (x.grad + 1).sum()
    assert driver.violations() == []


def test_gradients_of_two_streams_meet(driver):
    streams = [vt.cuda.Stream() for _ in range(3)]
    x = vt.ones(64, device="cuda", requires_grad=True)
    parts = []
    for s in streams:
        s.wait_stream(vt.cuda.current_stream())
        with vt.cuda.stream(s):
            parts.append((x * 2).exp())
    for s, p in zip(streams, parts):
        vt.cuda.current_stream().wait_stream(s)
        p.record_stream(vt.cuda.current_stream())
    total = parts[0] + parts[1] * parts[2]
    driver.clear()
    total.sum().backward()
    del parts, total
    x.grad.add_(1)
    assert driver.violations() == []
    grads = vt.autograd.grad((x * 2).sum(), [x])
    grads[0].mul_(2)
    assert driver.violations() == []
