"""What a program can go on from: no memory in the middle of a step, errors that kernels found."""

import gc

import pytest

import vibetensor as vt
import vibetensor.nn.functional as F

pytestmark = pytest.mark.gpu


def build():
    vt.manual_seed(0)
    model = vt.nn.Sequential(
        vt.nn.Linear(256, 2048), vt.nn.GELU(), vt.nn.Linear(2048, 256), vt.nn.LayerNorm(256)
    ).cuda()
    return model, vt.optim.AdamW(model.parameters(), lr=1e-3)


def batch(step, size=512):
    generator = vt.Generator().manual_seed(step)
    x = vt.randn(size, 256, generator=generator)
    return x.cuda(), x.flip(1).cuda()


def train_step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def test_a_step_without_memory_and_the_next_one():
    model, optimizer = build()
    expected = [train_step(model, optimizer, *batch(step)) for step in range(4)]
    weights = [p.detach().cpu() for p in model.parameters()]
    del model, optimizer
    gc.collect()

    model, optimizer = build()
    losses = [train_step(model, optimizer, *batch(step)) for step in range(2)]
    vt.cuda.empty_cache()
    _, total = vt.cuda.mem_get_info()
    spare = 64 << 20
    fraction = (vt.cuda.memory_reserved() + spare) / total
    large = batch(9, 16384)
    ballast = None
    try:
        vt.cuda.memory.set_per_process_memory_fraction(fraction)
        # The forward of this batch alone takes 128 MiB for the inner activations.
        with pytest.raises(vt.OutOfMemoryError, match="set_per_process_memory_fraction"):
            train_step(model, optimizer, *large)
        # Nothing is left for the small step either, until the caller frees memory.
        ballast = []
        with pytest.raises(vt.OutOfMemoryError):
            while True:
                ballast.append(vt.empty(1 << 18, device="cuda"))
        with pytest.raises(vt.OutOfMemoryError):
            train_step(model, optimizer, *batch(9, 4096))
        ballast = large = None
        gc.collect()
        losses += [train_step(model, optimizer, *batch(step)) for step in range(2, 4)]
    finally:
        vt.cuda.memory.set_per_process_memory_fraction(1.0)
    assert losses == expected
    for p, q in zip(model.parameters(), weights, strict=True):
        assert bool((p.detach().cpu() == q).all())


def test_what_a_kernel_found_has_the_type_that_pytorch_raises():
    bad = {
        IndexError: (
            lambda: vt.arange(4, device="cuda").index_select(0, vt.tensor([5], device="cuda")),
            "index_select.*index 5 is out of bounds for dimension 0 with size 4",
        ),
        RuntimeError: (
            lambda: vt.bernoulli(vt.full((3,), 1.5, device="cuda")),
            "bernoulli.*Expected p_in >= 0",
        ),
    }
    for kind, (call, text) in bad.items():
        for wait in (vt.cuda.synchronize, lambda: vt.ones(1, device="cuda").item()):
            with pytest.raises(kind, match=text) as caught:
                call()
                wait()
            assert type(caught.value) is kind
            vt.cuda.synchronize()  # reported once
