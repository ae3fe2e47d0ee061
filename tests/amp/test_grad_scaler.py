"""GradScaler against PyTorch's: scales, skipped steps, weights, errors."""

import copy
import pickle

import numpy as np
import pytest
import torch

import vibetensor as vt

BAD = {2: float("inf"), 5: float("nan"), 6: -float("inf")}  # by step: one element of a gradient


def optimizers(lib, name, weights):
    groups = {
        "sgd": lambda: lib.optim.SGD(weights, lr=0.1),
        "momentum": lambda: lib.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.01),
        "nesterov": lambda: lib.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True),
        "dampening": lambda: lib.optim.SGD(weights, lr=0.1, momentum=0.9, dampening=0.5),
        "adam": lambda: lib.optim.Adam(weights, lr=0.1),
        "adamw": lambda: lib.optim.AdamW(weights, lr=0.1),
        "amsgrad": lambda: lib.optim.AdamW(weights, lr=0.1, amsgrad=True),
    }
    return groups[name]()


def train(lib, name, bad, unscale=False, steps=10):
    """Weights, scales and the state of the optimizer, with bad gradients in some of the steps."""
    weights = [
        lib.tensor([1.0, -2.0, 3.0]).requires_grad_(),
        lib.tensor([[0.5]]).requires_grad_(),
    ]
    optimizer = optimizers(lib, name, weights)
    scaler = lib.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    scales, path = [], []
    for step in range(steps):
        optimizer.zero_grad()
        loss = (weights[0] ** 2).sum() + weights[1].sum()
        scaler.scale(loss).backward()
        if step in bad:
            weights[step % 2].grad.view(-1)[0] = bad[step]
        if unscale:
            scaler.unscale_(optimizer)
            lib.nn.utils.clip_grad_norm_(weights, 1.0)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        path.append(np.concatenate([w.detach().numpy().reshape(-1) for w in weights]))
    return np.array(path), scales, optimizer, scaler


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("bad", [{}, BAD, {0: float("inf"), **BAD}])
@pytest.mark.parametrize(
    "name", ["sgd", "momentum", "nesterov", "dampening", "adam", "adamw", "amsgrad"]
)
def test_steps_are_those_of_pytorch(name, bad, unscale):
    ours, our_scales, optimizer, _ = train(vt, name, bad, unscale)
    theirs, their_scales, peer, _ = train(torch, name, bad, unscale)
    assert our_scales == their_scales
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert np.isfinite(ours).all()
    for step in bad:
        if step:
            assert (ours[step] == ours[step - 1]).all(), "left out"
    if "adam" in name or name == "amsgrad":
        ours, theirs = optimizer.state_dict()["state"], peer.state_dict()["state"]
        for number in theirs:
            assert float(ours[number]["step"]) == float(theirs[number]["step"]) == 10 - len(bad)
            assert set(ours[number]) == set(theirs[number])


def test_adam_counts_apart_what_does_not_step_together():
    """A parameter without a gradient in a step that is left out."""

    def steps(lib):
        weights = [lib.ones(2, requires_grad=True) for _ in range(3)]
        optimizer = lib.optim.AdamW(weights, lr=0.1)
        scaler = lib.amp.GradScaler("cpu", init_scale=2.0)
        for step in range(8):
            optimizer.zero_grad()
            used = weights if step % 3 else weights[:2]
            scaler.scale(sum(((w - step) ** 2).sum() for w in used)).backward()
            if step in (1, 3, 4):
                weights[0].grad[0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
        counts = [float(s["step"]) for s in optimizer.state_dict()["state"].values()]
        return counts, np.concatenate([w.detach().numpy() for w in weights])

    ours, theirs = steps(vt), steps(torch)
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6)


def test_a_loaded_optimizer_goes_on():
    weights, _, optimizer, scaler = train(vt, "adamw", BAD)
    saved, scaling = copy.deepcopy(optimizer.state_dict()), scaler.state_dict()
    w = vt.tensor(weights[-1][:3].tolist(), requires_grad=True)
    v = vt.tensor([[float(weights[-1][3])]], requires_grad=True)
    again = vt.optim.AdamW([w, v], lr=0.1)
    again.load_state_dict(saved)
    other = vt.amp.GradScaler("cpu")
    other.load_state_dict(scaling)
    assert other.state_dict() == scaling == pickle.loads(pickle.dumps(scaler)).state_dict()
    longer, scales, _, _ = train(vt, "adamw", BAD, steps=12)
    for _ in range(2):
        again.zero_grad()
        other.scale((w**2).sum() + v.sum()).backward()
        other.step(again)
        other.update()
    assert other.get_scale() == scales[-1]
    np.testing.assert_array_equal(np.append(w.detach().numpy(), v.item()), longer[-1])


def test_several_optimizers_share_a_scale():
    def scales(lib):
        a, b = lib.ones(2, requires_grad=True), lib.ones(2, requires_grad=True)
        first, second = lib.optim.SGD([a], lr=0.1), lib.optim.Adam([b], lr=0.1)
        scaler = lib.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        seen = []
        for step in range(5):
            first.zero_grad()
            second.zero_grad()
            losses = scaler.scale([a.sum(), (b * b).sum()])
            for loss in losses:
                loss.backward()
            if step == 1:
                b.grad[1] = float("nan")
            scaler.step(first)
            scaler.step(second)
            scaler.update()
            seen.append(scaler.get_scale())
        return seen, a.tolist(), b.tolist()

    ours, theirs = scales(vt), scales(torch)
    assert ours[0] == theirs[0]
    assert ours[1] == pytest.approx(theirs[1]) and ours[2] == pytest.approx(theirs[2])


def test_an_optimizer_that_does_not_know_scalers():
    class Plain(vt.optim.Optimizer):
        steps = 0

        def __init__(self, params):
            super().__init__(params, {})

        def _update(self, group):
            Plain.steps += 1

    w = vt.ones(2, requires_grad=True)
    optimizer, scaler = Plain([w]), vt.amp.GradScaler("cpu")
    for bad in (False, True, False):
        optimizer.zero_grad()
        scaler.scale(w.sum()).backward()
        if bad:
            w.grad[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
    assert Plain.steps == 2 and scaler.get_scale() == 2.0**15


def test_a_disabled_scaler_passes_everything():
    w = vt.ones(2, requires_grad=True)
    optimizer, scaler = vt.optim.SGD([w], lr=1.0), vt.amp.GradScaler("cpu", enabled=False)
    loss = w.sum()
    assert scaler.scale(loss) is loss and not scaler.is_enabled()
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [0.0, 0.0] and scaler.state_dict() == {} and scaler.get_scale() == 1.0


def test_errors():
    w = vt.ones(2, requires_grad=True)
    optimizer, scaler = vt.optim.SGD([w], lr=1.0), vt.amp.GradScaler("cpu")
    with pytest.raises(AssertionError, match="Attempted step but _scale is None"):
        scaler.step(optimizer)
    with pytest.raises(AssertionError, match="Attempted update but _scale is None"):
        scaler.update()
    with pytest.raises(ValueError, match="outputs must be a Tensor or an iterable of Tensors"):
        scaler.scale(3)
    loss = scaler.scale(w.sum())
    with pytest.raises(AssertionError, match="No inf checks were recorded for this optimizer"):
        scaler.step(optimizer)
    scaler = vt.amp.GradScaler("cpu")
    scaler.scale(w.sum())
    with pytest.raises(AssertionError, match="No inf checks were recorded prior to update"):
        scaler.update()
    loss.backward()
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):
        scaler.step(optimizer, closure=lambda: None)
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) has already been called"):
        scaler.unscale_(optimizer)
    with pytest.raises(AssertionError, match="may only be pickled"):
        pickle.dumps(scaler)
    scaler.step(optimizer)
    assert "found_inf" not in vars(optimizer)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) is being called after step\(\)"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"step\(\) has already been called"):
        scaler.step(optimizer)
    scaler.update(4.0)
    assert scaler.get_scale() == 4.0
    scaler.update(vt.tensor([8.0]))
    assert scaler.get_scale() == 8.0
    with pytest.raises(AssertionError, match="new_scale should be"):
        scaler.update(vt.ones(2))
    with pytest.raises(RuntimeError, match="source state dict is empty"):
        scaler.load_state_dict({})
    with pytest.raises(AssertionError, match=r"growth factor must be > 1\.0"):
        vt.amp.GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(AssertionError, match=r"backoff factor must be < 1\.0"):
        vt.amp.GradScaler("cpu", backoff_factor=1.0)
    half = vt.ones(2, dtype=vt.float16, requires_grad=True)
    optimizer = vt.optim.SGD([half], lr=1.0)
    scaler.scale(half.float().sum()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scaler.unscale_(optimizer)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 5000])
def test_unscaling(dtype, n):
    for bad in (None, float("inf"), -float("inf"), float("nan")):
        lists, found = {}, {}
        for lib in (vt, torch):
            x = lib.arange(n, dtype=lib.float32).to(getattr(lib, dtype))
            y = lib.ones(3, 4, dtype=getattr(lib, dtype)).t()
            if bad is not None:
                x[n // 2] = bad
            f = lib.zeros((), dtype=lib.float32)
            op = (vt.ops if lib is vt else torch)._amp_foreach_non_finite_check_and_unscale_
            op([x, y], f, lib.tensor(0.125))
            lists[lib] = [torch.tensor(t.double().tolist()) for t in (x, y)]
            found[lib] = f.item()
        assert found[vt] == found[torch] == (0.0 if bad is None else 1.0)
        for ours, theirs in zip(lists[vt], lists[torch], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(RuntimeError, match="found_inf must be a float32 tensor with one element"):
        vt.ops._amp_foreach_non_finite_check_and_unscale_([vt.ones(2)], vt.zeros(2), vt.tensor(1.0))


def test_updates_of_the_scale():
    for start, tracker, found in ((4.0, 0, 0.0), (4.0, 2, 0.0), (4.0, 2, 1.0), (3e38, 2, 0.0)):
        results = []
        for lib in (vt, torch):
            scale = lib.tensor(start)
            count = lib.tensor(tracker, dtype=lib.int32)
            op = (vt.ops if lib is vt else torch)._amp_update_scale_
            op(scale, count, lib.tensor(found), 2.0, 0.5, 3)
            results.append((scale.item(), count.item()))
        assert results[0] == results[1]
    with pytest.raises(RuntimeError, match="growth_tracker must be a int32 tensor"):
        vt.ops._amp_update_scale_(vt.tensor(1.0), vt.tensor(1.0), vt.tensor(0.0), 2.0, 0.5, 3)
