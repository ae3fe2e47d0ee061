"""Loss-curve parity: the miniGPT trained here and in PyTorch, same weights, same batches.

The one definition: dropout 0; in float64 within 1e-8 relative at every step; in every other
precision the root mean square of the distance to PyTorch's float64 run is at most twice that of
PyTorch's own run in that precision.
"""

import numpy as np
import pytest
import torch

import vibetensor as vt

STEPS = 100
BATCH = 4


@pytest.fixture(scope="module")
def minigpt(example):
    return example("minigpt")


def losses(minigpt, lib, dtype, low=None):
    """The losses of a run; the weights are drawn by PyTorch in float64 for all runs. ``low``: of the
    products, by autocast; with float16 the loss is scaled."""
    config = minigpt.Config(context=32, dim=32, layers=2, heads=4)
    torch.manual_seed(0)
    weights = minigpt.build_model(torch, config).double().state_dict()
    model = minigpt.build_model(lib, config).to(getattr(lib, dtype))
    model.load_state_dict(
        {name: lib.from_numpy(value.numpy().copy()) for name, value in weights.items()}
    )
    optimizer = minigpt.build_optimizer(lib, model, 1e-3)
    schedule = minigpt.build_schedule(lib, optimizer, 1e-3, 10, STEPS)
    scaler = lib.amp.GradScaler("cpu") if low == "float16" else None
    low = getattr(lib, low) if low else None
    text = minigpt.Text(minigpt.default_text(), config.context)
    run = []
    for step in range(STEPS):
        arrays = text.batch(True, BATCH, 0, step)
        batch = map(lib.from_numpy, arrays)
        loss = minigpt.train_step(lib, model, optimizer, *batch, low, scaler)
        schedule.step()
        run.append(loss.item())
    return np.array(run)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The matrices are small, and two thread pools in one process disturb each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference(minigpt):
    return losses(minigpt, torch, "float64")


def test_float64(minigpt, reference):
    assert reference[-1] < 0.8 * reference[0]
    np.testing.assert_allclose(losses(minigpt, vt, "float64"), reference, rtol=1e-8)


def test_float32(minigpt, reference):
    def distance(lib):
        return np.sqrt(np.mean((losses(minigpt, lib, "float32") - reference) ** 2))

    assert distance(vt) <= 2 * distance(torch)


@pytest.mark.parametrize("low", ["bfloat16", "float16"])
def test_autocast(minigpt, reference, low):
    def distance(lib):
        return np.sqrt(np.mean((losses(minigpt, lib, "float32", low) - reference) ** 2))

    assert distance(vt) <= 2 * distance(torch)
