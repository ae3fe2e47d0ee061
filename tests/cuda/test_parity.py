"""Loss curves of the four training programs on the GPU, over 200 steps, against PyTorch's.

The definition is that of tests/test_loss_curve.py. The reference is PyTorch's float64 run on the same
device; weights and batches are the same for all runs. A rounding error grows from step to step, so one
run of a lower precision says little: in bfloat16, the ratios of four ViT runs to PyTorch's were 0.8,
0.9, 1.0 and 3.6. The geometric mean of several is tested.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vibetensor as vt

pytestmark = pytest.mark.gpu

STEPS = 200
BATCHES = 8


# A sequence of GPT-2 at a time, so that its float64 run fits and ends.
OPTIONS = {"vit": {"dropout": 0.0}, "gpt2": {"batch": 1}}
SEEDS = {"reversal": 2, "minigpt": 2, "vit": 4, "gpt2": 2}  # of weights and batches


@pytest.fixture(scope="module")
def programs():
    """The module of the benchmarks that builds the programs."""
    root = str(Path(__file__).parents[2])
    sys.path.insert(0, root)
    yield importlib.import_module("bench.workloads")
    sys.path.remove(root)


def losses(programs, name, lib, precision, seed):
    """The losses of a run; the weights are drawn by PyTorch in float64 for all of them."""
    workload = programs.WORKLOADS[name](precision, **OPTIONS.get(name, {}))
    training = programs.example("training")
    lib.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.manual_seed(seed)
    weights = workload.build(torch).double().state_dict()
    dtype = lib.float64 if precision == "float64" else lib.float32
    model = workload.build(lib).to(device="cuda", dtype=dtype)
    model.load_state_dict(
        {key: lib.from_numpy(value.numpy().copy()) for key, value in weights.items()}
    )
    optimizer = training.build_optimizer(lib, model, 3e-4)
    schedule = training.build_schedule(lib, optimizer, 3e-4, 20, STEPS)
    random = np.random.default_rng(seed)
    batches = [
        [lib.from_numpy(array).to("cuda") for array in workload.batch(random)]
        for _ in range(BATCHES)
    ]
    autocast = lib.bfloat16 if precision == "bfloat16" else None
    run = []
    for step in range(STEPS):
        batch = batches[step % BATCHES]
        run.append(training.train_step(lib, model, optimizer, *batch, autocast))
        schedule.step()
    return np.array([loss.item() for loss in run])


@pytest.fixture(scope="module", params=list(SEEDS))
def reference(request, programs):
    """The name of a program and the losses of PyTorch's runs in float64."""
    name = request.param
    return name, [losses(programs, name, torch, "float64", i) for i in range(SEEDS[name])]


def test_float64(programs, reference):
    name, (expected, *_) = reference
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(losses(programs, name, vt, "float64", 0), expected, rtol=1e-8)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_lower_precision(programs, reference, precision):
    name, expected = reference

    ratios = []
    for seed, losses_of_peer in enumerate(expected):
        ours, peers = (
            np.sqrt(np.mean((losses(programs, name, lib, precision, seed) - losses_of_peer) ** 2))
            for lib in (vt, torch)
        )
        ratios.append(ours / peers)
        print(f"\n{name} {precision} {seed}: {ours:.2e} / {peers:.2e} = {ratios[-1]:.2f}", end="")
    assert np.exp(np.mean(np.log(ratios))) <= 2
