"""The optimizers against PyTorch's, step by step in float64, and their state dictionaries."""

import copy

import numpy as np
import pytest
import torch

import vibetensor as vt

SHAPES = ((3, 4), (5,), (), (2, 1, 2))

CONFIGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "maximize": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.6), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "maximize": True}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "betas": (0.5, 0.6), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05, "maximize": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
]


def values(seed, dtype=np.float64):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype(dtype) for shape in SHAPES]


class Problem:
    """Parameters of either library and the same sequence of gradients for them."""

    def __init__(self, lib, name, options, dtype=np.float64):
        self.lib, self.dtype = lib, dtype
        self.params = [lib.nn.Parameter(lib.from_numpy(v)) for v in values(0, dtype)]
        self.optimizer = getattr(lib.optim, name)(self.params, **options)

    def step(self, number, without=()):
        for i, (p, v) in enumerate(zip(self.params, values(number + 1, self.dtype), strict=True)):
            p.grad = None if i in without else self.lib.from_numpy(v)
        self.optimizer.step()

    def compare(self, other, tolerance=1e-12):
        for mine, theirs in zip(self.params, other.params, strict=True):
            np.testing.assert_allclose(
                mine.detach().numpy(), theirs.detach().numpy(), rtol=tolerance, atol=tolerance
            )
            ours, peers = self.optimizer.state[mine], other.optimizer.state[theirs]
            assert {k for k in ours if ours[k] is not None} == {
                k for k in peers if peers[k] is not None
            }
            for key, value in ours.items():
                assert value.shape == peers[key].shape
                np.testing.assert_allclose(
                    value.numpy(), peers[key].numpy(), rtol=tolerance, atol=tolerance
                )


@pytest.mark.parametrize(("name", "options"), CONFIGS)
def test_steps(name, options):
    ours, theirs = Problem(vt, name, options), Problem(torch, name, options)
    for number in range(10):
        # Parameters that sit some steps out have counts of their own.
        without = {0: (1,), 3: (0, 2)}.get(number, ())
        ours.step(number, without)
        theirs.step(number, without)
        ours.compare(theirs)


@pytest.mark.parametrize(("name", "options"), CONFIGS)
def test_float32(name, options):
    problems = [Problem(lib, name, options, np.float32) for lib in (vt, torch)]
    for number in range(5):
        for problem in problems:
            problem.step(number)
    problems[0].compare(problems[1], 2e-6)


@pytest.mark.parametrize(("name", "options"), CONFIGS)
def test_state_dict_round_trip(name, options):
    whole, first = Problem(vt, name, options), Problem(vt, name, options)
    for number in range(3):
        whole.step(number)
        first.step(number)
    second = Problem(vt, name, {"lr": 0.7})
    for mine, theirs in zip(second.params, first.params, strict=True):
        with vt.no_grad():
            mine.copy_(theirs)
    saved = first.optimizer.state_dict()
    second.optimizer.load_state_dict(saved)
    for number in range(3, 6):
        whole.step(number)
        second.step(number)
    whole.compare(second, 0)
    # The loaded state is a copy.
    assert saved["param_groups"][0]["lr"] == first.optimizer.param_groups[0]["lr"]
    for mine, theirs in zip(second.params, first.params, strict=True):
        for key, value in first.optimizer.state[theirs].items():
            assert value is not second.optimizer.state[mine][key]


def plain(state, lib):
    """A state dictionary with numpy arrays turned into one library's tensors."""
    if isinstance(state, dict):
        return {key: plain(value, lib) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(plain(value, lib) for value in state)
    return lib.from_numpy(state.numpy().copy()) if hasattr(state, "numpy") else state


@pytest.mark.parametrize(("name", "options"), CONFIGS)
def test_state_dict_is_pytorchs(name, options):
    ours, theirs = Problem(vt, name, options), Problem(torch, name, options)
    for number in range(2):
        ours.step(number)
        theirs.step(number)
    fresh, peer = Problem(vt, name, {"lr": 1.0}), Problem(torch, name, {"lr": 1.0})
    for mine, other in zip(fresh.params, theirs.params, strict=True):
        with vt.no_grad():
            mine.copy_(vt.from_numpy(other.detach().numpy().copy()))
    for mine, other in zip(peer.params, ours.params, strict=True):
        with torch.no_grad():
            mine.copy_(torch.from_numpy(other.detach().numpy().copy()))
    fresh.optimizer.load_state_dict(plain(theirs.optimizer.state_dict(), vt))
    peer.optimizer.load_state_dict(plain(ours.optimizer.state_dict(), torch))
    for number in range(2, 4):
        fresh.step(number)
        peer.step(number)
    fresh.compare(peer)


@pytest.mark.parametrize("count", [3, vt.tensor(3.0, dtype=vt.float64), vt.tensor([3])])
def test_adam_takes_any_count_of_steps(count):
    usual, other = (Problem(vt, "AdamW", {}) for _ in range(2))
    for problem in (usual, other):
        for number in range(3):
            problem.step(number)
    for state in other.optimizer.state.values():
        state["step"] = count if isinstance(count, int) else count.clone()
    for number in range(3, 5):
        usual.step(number)
        other.step(number)
    for mine, theirs in zip(usual.params, other.params, strict=True):
        np.testing.assert_array_equal(mine.detach().numpy(), theirs.detach().numpy())
    assert {int(state["step"]) for state in other.optimizer.state.values()} == {5}


def test_adam_steps_dtypes_in_turn():
    def run(lib):
        kinds = (lib.float32, lib.float64, lib.float32)
        params = [lib.nn.Parameter(lib.ones(3, dtype=kind)) for kind in kinds]
        optimizer = lib.optim.AdamW(params, lr=0.1)
        for number in range(3):
            for i, p in enumerate(params):
                p.grad = lib.full_like(p, number + i)
            optimizer.step()
        return [p.detach().numpy() for p in params]

    for mine, theirs in zip(run(vt), run(torch), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_groups():
    def build(lib):
        problem = Problem(lib, "SGD", {"lr": 0.1})
        problem.optimizer = lib.optim.SGD(
            [
                {"params": problem.params[:2], "lr": 0.5},
                {"params": problem.params[2], "momentum": 0.9},
            ],
            lr=0.1,
        )
        problem.optimizer.add_param_group({"params": (p for p in problem.params[3:])})
        return problem

    ours, theirs = build(vt), build(torch)
    for number in range(3):
        ours.step(number)
        theirs.step(number)
    for mine, other in zip(ours.params, theirs.params, strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), other.detach().numpy(), rtol=1e-12)
    packed = [group["params"] for group in ours.optimizer.state_dict()["param_groups"]]
    assert packed == [[0, 1], [2], [3]]


def test_closure():
    x = vt.nn.Parameter(vt.ones(1))
    optimizer = vt.optim.SGD([x], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with vt.no_grad():
        assert optimizer.step(closure).item() == 1.0
    assert x.item() == 0.5


def test_zero_grad():
    x = vt.nn.Parameter(vt.ones(1))
    optimizer = vt.optim.SGD([x], lr=0.25)
    (x * 2).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert x.grad.item() == 0
    optimizer.zero_grad()
    assert x.grad is None
    optimizer.step()
    assert x.item() == 1


def test_parameters_keep_their_identity():
    x = vt.nn.Parameter(vt.ones(3))
    view = x.detach()
    optimizer = vt.optim.AdamW([x], lr=0.1)
    (x * 2).sum().backward()
    optimizer.step()
    assert (view == x).all() and x.is_leaf and x.requires_grad and x.grad_fn is None


def leaf(lib):
    return lib.ones(1, requires_grad=True)


WRONG = [
    lambda lib: lib.optim.SGD([leaf(lib)], lr=-1),
    lambda lib: lib.optim.SGD([leaf(lib)], momentum=-1),
    lambda lib: lib.optim.SGD([leaf(lib)], weight_decay=-1),
    lambda lib: lib.optim.SGD([leaf(lib)], nesterov=True),
    lambda lib: lib.optim.SGD([leaf(lib)], nesterov=True, momentum=0.9, dampening=0.1),
    lambda lib: lib.optim.Adam([leaf(lib)], lr=-1),
    lambda lib: lib.optim.Adam([leaf(lib)], lr=float("nan")),
    lambda lib: lib.optim.Adam([leaf(lib)], eps=-1),
    lambda lib: lib.optim.AdamW([leaf(lib)], betas=(1.0, 0.9)),
    lambda lib: lib.optim.AdamW([leaf(lib)], betas=(0.9, -0.1)),
    lambda lib: lib.optim.AdamW([leaf(lib)], weight_decay=-1),
    lambda lib: lib.optim.SGD([]),
    lambda lib: lib.optim.SGD([leaf(lib) * 2]),
    lambda lib: lib.optim.SGD([1.0]),
    lambda lib: lib.optim.SGD([{"params": {leaf(lib)}}]),
    lambda lib: lib.optim.SGD([leaf(lib)]).add_param_group([leaf(lib)]),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors_are_pytorchs(number):
    with pytest.raises(Exception) as expected:
        WRONG[number](torch)
    with pytest.raises(type(expected.value)) as caught:
        WRONG[number](vt)
    assert str(caught.value) == str(expected.value)


def test_a_tensor_is_not_a_list():
    with pytest.raises(TypeError, match="should be an iterable of Tensors or dicts, but got"):
        vt.optim.SGD(vt.ones(1, requires_grad=True))


def test_a_parameter_belongs_to_one_group():
    x = vt.nn.Parameter(vt.ones(1))
    optimizer = vt.optim.SGD([x], lr=0.1)
    with pytest.raises(ValueError, match="appear in more than one parameter group"):
        optimizer.add_param_group({"params": [x]})
    assert len(optimizer.param_groups) == 1
    with pytest.warns(UserWarning, match="duplicate parameters"):
        vt.optim.SGD([x, x])


def test_load_state_dict_refuses_other_groups():
    a, b = (vt.nn.Parameter(vt.ones(1)) for _ in range(2))
    one, two = vt.optim.SGD([a], lr=1.0), vt.optim.SGD([a, b], lr=2.0)
    apart = vt.optim.SGD([{"params": [a]}, {"params": [b]}], lr=3.0)
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        one.load_state_dict(two.state_dict())
    with pytest.raises(ValueError, match="different number of parameter groups"):
        one.load_state_dict(apart.state_dict())
    assert one.param_groups[0]["lr"] == 1.0


def test_repr():
    def text(lib):
        return repr(lib.optim.SGD([leaf(lib)], lr=0.5, momentum=0.9))

    theirs = text(torch).split("\n")
    ignored = ("differentiable", "foreach", "fused")
    assert text(vt).split("\n") == [line for line in theirs if line.split()[0][:-1] not in ignored]


def test_copy_of_an_optimizer_with_its_model():
    model = vt.nn.Linear(2, 2)
    optimizer = vt.optim.AdamW(model.parameters(), lr=0.1)
    model(vt.ones(1, 2)).sum().backward()
    optimizer.step()
    other_model, other = copy.deepcopy((model, optimizer))
    assert other.param_groups[0]["params"][0] is other_model.weight
    assert "exp_avg" in other.state[other_model.weight]


MUON = [
    {},
    {"lr": 0.1, "nesterov": False, "weight_decay": 0.0},
    {"lr": 0.02, "momentum": 0.3, "adjust_lr_fn": "match_rms_adamw"},
    {"lr": 0.02, "ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 3, "adjust_lr_fn": "original"},
]


@pytest.mark.parametrize("options", MUON)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_muon(options, dtype):
    generator = np.random.default_rng(3)
    shapes = [(24, 16), (16, 24), (24, 16), (8, 8)]
    start = [generator.normal(size=s).astype(dtype) for s in shapes]
    steps = [[generator.normal(size=s).astype(dtype) for s in shapes] for _ in range(3)]
    results = []
    for lib in (vt, torch):
        params = [lib.nn.Parameter(lib.from_numpy(v.copy())) for v in start]
        optimizer = lib.optim.Muon(params, **options)
        for step in steps:
            for p, v in zip(params, step, strict=True):
                p.grad = lib.from_numpy(v.copy())
            params[3].grad = None if step is steps[1] else params[3].grad
            optimizer.step()
        results.append((params, optimizer))
    (ours, optimizer), (theirs, peer) = results
    # The orthogonal matrices are made in bfloat16, each element within a few units of its last place.
    step_size = options.get("lr", 1e-3) * (5 if "match" in str(options) else 2)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            mine.detach().numpy(), other.detach().numpy(), rtol=0, atol=0.03 * step_size
        )
        np.testing.assert_allclose(
            optimizer.state[mine]["momentum_buffer"].numpy(),
            peer.state[other]["momentum_buffer"].numpy(),
            rtol=1e-5 if dtype == np.float32 else 1e-12,
            atol=1e-6 if dtype == np.float32 else 1e-13,
        )
    assert optimizer.state_dict()["param_groups"] == [
        {k: v for k, v in peer.state_dict()["param_groups"][0].items() if k in optimizer.defaults}
        | {"params": [0, 1, 2, 3]}
    ]


def test_muon_makes_steps_orthogonal():
    w = vt.nn.Parameter(vt.zeros(8, 32))
    w.grad = vt.randn(8, 32)
    vt.optim.Muon([w], lr=1.0, weight_decay=0.0).step()
    singular = np.linalg.svd(w.detach().numpy(), compute_uv=False)
    assert singular.min() > 0.5 and singular.max() < 1.5


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": -1.0}, "Learning rate"),
        ({"momentum": -0.1}, "momentum"),
        ({"weight_decay": -0.1}, "weight decay"),
        ({"adjust_lr_fn": "x"}, "not supported"),
    ],
)
def test_muon_refuses(options, text):
    for lib in (vt, torch):
        with pytest.raises(ValueError, match=text):
            lib.optim.Muon([lib.nn.Parameter(lib.zeros(2, 2))], **options)
        with pytest.raises(ValueError, match="2D"):
            lib.optim.Muon([lib.nn.Parameter(lib.zeros(2))])
