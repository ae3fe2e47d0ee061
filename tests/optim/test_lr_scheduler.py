"""The schedules against PyTorch's, rate by rate."""

import math

import pytest
import torch

import vibetensor as vt


def optimizer(lib, lr=0.5):
    groups = [
        {"params": [lib.nn.Parameter(lib.ones(1))]},
        {"params": [lib.nn.Parameter(lib.ones(1))], "lr": lr / 3},
    ]
    return lib.optim.SGD(groups, lr=lr)


def sequence(lib, o):
    s = lib.optim.lr_scheduler
    parts = [
        s.LinearLR(o, 0.1, total_iters=4),
        s.CosineAnnealingLR(o, 10, eta_min=0.01),
        s.StepLR(o, 3, 0.5),
    ]
    return s.SequentialLR(o, parts, milestones=[4, 14])


SCHEDULES = {
    "LambdaLR": lambda lib, o: lib.optim.lr_scheduler.LambdaLR(o, lambda n: 0.9**n),
    "LambdaLR list": lambda lib, o: lib.optim.lr_scheduler.LambdaLR(
        o, [lambda n: 0.9**n, lambda n: 1 / (n + 1)]
    ),
    "StepLR": lambda lib, o: lib.optim.lr_scheduler.StepLR(o, 4, gamma=0.3),
    "LinearLR": lambda lib, o: lib.optim.lr_scheduler.LinearLR(o),
    "LinearLR down": lambda lib, o: lib.optim.lr_scheduler.LinearLR(o, 1.0, 0.2, 7),
    "CosineAnnealingLR": lambda lib, o: lib.optim.lr_scheduler.CosineAnnealingLR(o, 9, 0.05),
    "SequentialLR": sequence,
    "warm-up and cosine": lambda lib, o: lib.optim.lr_scheduler.SequentialLR(
        o,
        [
            lib.optim.lr_scheduler.LinearLR(o, 1 / 5, total_iters=5),
            lib.optim.lr_scheduler.CosineAnnealingLR(o, 15, eta_min=0.01),
        ],
        [5],
    ),
}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch")


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates(name):
    ours, theirs = optimizer(vt), optimizer(torch)
    mine, peer = SCHEDULES[name](vt, ours), SCHEDULES[name](torch, theirs)
    for _ in range(25):
        actual = [group["lr"] for group in ours.param_groups]
        expected = [group["lr"] for group in theirs.param_groups]
        assert actual == pytest.approx(expected, rel=1e-14, abs=1e-17)
        assert mine.get_last_lr() == actual
        assert mine.last_epoch == peer.last_epoch
        theirs.step()
        mine.step()
        peer.step()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("stop", [0, 3, 4, 5, 12])
def test_resume(name, stop):
    whole = optimizer(vt)
    schedule = SCHEDULES[name](vt, whole)
    states, rates = None, []
    for number in range(20):
        if number == stop:
            states = whole.state_dict(), schedule.state_dict()
        rates.append([group["lr"] for group in whole.param_groups])
        schedule.step()
    resumed = optimizer(vt, lr=7.0)
    again = SCHEDULES[name](vt, resumed)
    resumed.load_state_dict(states[0])
    again.load_state_dict(states[1])
    for number in range(stop, 20):
        assert [group["lr"] for group in resumed.param_groups] == rates[number]
        again.step()


def test_warm_up_reaches_the_rate_and_the_floor():
    o = optimizer(vt)
    schedule = SCHEDULES["warm-up and cosine"](vt, o)
    rates = []
    for _ in range(21):
        rates.append(o.param_groups[0]["lr"])
        schedule.step()
    assert math.isclose(rates[0], 0.1) and math.isclose(rates[5], 0.5)
    assert rates[:6] == sorted(rates[:6]) and rates[5:] == sorted(rates[5:], reverse=True)
    assert math.isclose(rates[20], 0.01)


class Halving:
    def __init__(self):
        self.base = 0.5

    def __call__(self, number):
        return self.base**number


def test_lambda_state():
    o = optimizer(vt)
    function = Halving()
    schedule = vt.optim.lr_scheduler.LambdaLR(o, [function, lambda n: 1.0])
    function.base = 0.25
    state = schedule.state_dict()
    assert state["lr_lambdas"] == [{"base": 0.25}, None]
    other = vt.optim.lr_scheduler.LambdaLR(optimizer(vt), [Halving(), lambda n: 1.0])
    other.load_state_dict(state)
    assert other.lr_lambdas[0].base == 0.25 and callable(other.lr_lambdas[1])


def test_chained_schedules():
    def run(lib):
        o = optimizer(lib)
        s = lib.optim.lr_scheduler
        parts = [s.StepLR(o, 2, 0.5), s.LinearLR(o, 0.5, total_iters=6)]
        rates = []
        for _ in range(10):
            rates.append(o.param_groups[0]["lr"])
            o.step()
            for part in parts:
                part.step()
        return rates

    assert run(vt) == pytest.approx(run(torch), rel=1e-14)


def test_resume_by_last_epoch():
    def run(lib):
        o = optimizer(lib)
        for group in o.param_groups:
            group["initial_lr"] = group["lr"]
        schedule = lib.optim.lr_scheduler.StepLR(o, 3, 0.5, last_epoch=4)
        rates = [o.param_groups[0]["lr"]]
        for _ in range(4):
            schedule.step()
            rates.append(o.param_groups[0]["lr"])
        return rates

    assert run(vt) == pytest.approx(run(torch), rel=1e-14)


WRONG = [
    lambda lib, o, s: s.StepLR(3, 1),
    lambda lib, o, s: s.StepLR(o, 1, last_epoch=3),
    lambda lib, o, s: s.LinearLR(o, start_factor=0.0),
    lambda lib, o, s: s.LinearLR(o, end_factor=1.5),
    lambda lib, o, s: s.LambdaLR(o, [lambda n: 1.0]),
    lambda lib, o, s: s.SequentialLR(o, [], []),
    lambda lib, o, s: s.SequentialLR(o, [s.StepLR(o, 1)], [1]),
    lambda lib, o, s: s.SequentialLR(o, [s.StepLR(optimizer(lib), 1)], []),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors(number):
    with pytest.raises(Exception) as expected:
        WRONG[number](torch, optimizer(torch), torch.optim.lr_scheduler)
    with pytest.raises(type(expected.value)):
        WRONG[number](vt, optimizer(vt), vt.optim.lr_scheduler)
