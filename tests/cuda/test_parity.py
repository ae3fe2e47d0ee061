"""Loss curves of the four training programs on the GPU, over 200 steps, against PyTorch's.

The definition is that of tests/test_loss_curve.py. The reference is PyTorch's float64 run on the same
device; weights and batches are the same for all runs.
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


@pytest.fixture(scope="module")
def programs():
    """The module of the benchmarks that builds the programs."""
    root = str(Path(__file__).parents[2])
    sys.path.insert(0, root)
    yield importlib.import_module("bench.workloads")
    sys.path.remove(root)


def losses(programs, name, lib, precision):
    """The losses of a run; the weights are drawn by PyTorch in float64 for all of them."""
    workload = programs.WORKLOADS[name](precision, **OPTIONS.get(name, {}))
    training = programs.example("training")
    lib.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.manual_seed(0)
    weights = workload.build(torch).double().state_dict()
    dtype = lib.float64 if precision == "float64" else lib.float32
    model = workload.build(lib).to(device="cuda", dtype=dtype)
    model.load_state_dict(
        {key: lib.from_numpy(value.numpy().copy()) for key, value in weights.items()}
    )
    optimizer = training.build_optimizer(lib, model, 3e-4)
    schedule = training.build_schedule(lib, optimizer, 3e-4, 20, STEPS)
    random = np.random.default_rng(0)
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


@pytest.fixture(scope="module", params=["reversal", "minigpt", "vit", "gpt2"])
def reference(request, programs):
    """The name of a program and PyTorch's losses in float64."""
    return request.param, losses(programs, request.param, torch, "float64")


def test_float64(programs, reference):
    name, expected = reference
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(losses(programs, name, vt, "float64"), expected, rtol=1e-8)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_lower_precision(programs, reference, precision):
    name, expected = reference

    def distance(lib):
        return np.sqrt(np.mean((losses(programs, name, lib, precision) - expected) ** 2))

    assert distance(vt) <= 2 * distance(torch)
