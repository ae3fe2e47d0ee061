"""Fused operators beyond the grid: dropout and its random stream, accuracy against float64 beside
PyTorch's separate operators, gradients of gradients, and the loss that makes its gradients ahead."""

import pytest
import torch
import torch.nn.functional as peer

import vibetensor as vt
import vibetensor.nn.functional as F
from vibetensor.autograd import gradgradcheck

from . import fused_peers
from .oracle import ours, theirs

HALVES = (torch.bfloat16, torch.float16)


def leaf(x):
    return ours(x.clone()).requires_grad_()


def normal(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def error(x, exact):
    """The root mean square distance to a float64 result."""
    return (x.double() - exact).square().mean().sqrt().item()


# --- dropout ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
@pytest.mark.parametrize("shape", [(7, 9), (1000,), (3, 2, 64)])
def test_dropout_add_is_dropout_and_addition(dtype, shape):
    x, r = ours(normal(*shape, dtype=dtype)), ours(normal(*shape, seed=1, dtype=dtype))
    x.requires_grad_()
    r.requires_grad_()
    vt.manual_seed(5)
    dropped = F.dropout(x, 0.4)
    vt.manual_seed(5)
    fused = F.dropout_add(x, r, 0.4)
    kept = theirs(dropped) != 0
    assert 0.3 < kept.double().mean() < 0.9
    exact = theirs(r).double() + theirs(x).double() * kept / (1 - 0.4)
    tolerance = torch.finfo(dtype).eps
    torch.testing.assert_close(
        theirs(fused).double(), exact, rtol=4 * tolerance, atol=2 * tolerance
    )
    by_x, by_r = vt.autograd.grad(fused, [x, r], vt.ones_like(fused))
    torch.testing.assert_close(
        theirs(by_x).double(), kept.double() / 0.6, rtol=tolerance, atol=0, check_dtype=False
    )
    assert bool((by_r == 1).all())


def test_dropout_draws_again_in_its_gradient():
    x = leaf(normal(50, 7))
    y = F.dropout(x, 0.3)
    (by_x,) = vt.autograd.grad(y.sum(), [x])
    assert torch.equal(theirs(by_x) != 0, theirs(y) != 0)
    noncontiguous = leaf(normal(7, 50))
    y = F.dropout(noncontiguous.t(), 0.3)
    (by_x,) = vt.autograd.grad(y.sum(), [noncontiguous])
    assert torch.equal(theirs(by_x).t() != 0, theirs(y) != 0)


def add_norm(kind, x, r, weight, bias, p):
    if kind == "layer":
        return F.add_layer_norm(x, r, (weight.shape[0],), weight, bias, 1e-5, p)
    return F.add_rms_norm(x, r, (weight.shape[0],), weight, 1e-5, p)


def separate_norm(kind, total, weight, bias, lib=F):
    if kind == "layer":
        return lib.layer_norm(total, (weight.shape[0],), weight, bias, 1e-5)
    return lib.rms_norm(total, (weight.shape[0],), weight, 1e-5)


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("width", [64, 130, 2048])
@pytest.mark.parametrize("p", [0.0, 0.25])
def test_add_norm_with_dropout(kind, width, p):
    values = [
        normal(5, width),
        normal(5, width, seed=1),
        normal(width, seed=2),
        normal(width, seed=3),
    ]
    seeds = [ours(normal(5, width, seed=4)), ours(normal(5, width, seed=5))]
    results = []
    for fused in (True, False):
        x, r, weight, bias = inputs = [leaf(v) for v in values]
        vt.manual_seed(11)
        if fused:
            out, total = add_norm(kind, x, r, weight, bias, p)
        else:
            total = r + F.dropout(x, p)
            out = separate_norm(kind, total, weight, bias)
        wanted = inputs if kind == "layer" else inputs[:3]
        results.append([out, total, *vt.autograd.grad([out, total], wanted, seeds)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(theirs(found), theirs(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "width"), [(1100, 4096), (600, 8192), (40000, 64)])
def test_add_norm_of_more_rows_than_a_device_has_groups(kind, dtype, rows, width):
    x, r = normal(rows, width, dtype=dtype), normal(rows, width, seed=1, dtype=dtype)
    weight, bias = normal(width, seed=2, dtype=dtype), normal(width, seed=3, dtype=dtype)
    seeds = [normal(rows, width, seed=4 + i, dtype=dtype) for i in range(2)]
    inputs = [leaf(v) for v in (x, r, weight, bias)[: 4 if kind == "layer" else 3]]
    out = add_norm(kind, *inputs, *([None] if kind == "rms" else []), 0.0)
    found = vt.autograd.grad(list(out), inputs, [ours(s) for s in seeds])
    total = (x + r).double().requires_grad_()
    exact = [total, weight.double().requires_grad_(), bias.double().requires_grad_()]
    exact = exact[: len(inputs) - 1]
    normed = separate_norm(kind, *exact, *([None] if kind == "rms" else []), lib=peer)
    wanted = torch.autograd.grad([normed, total], exact, [s.double() for s in seeds])
    wanted = [wanted[0], *wanted]
    for mine, theirs_, name in zip(
        found, wanted, ("x", "residual", "weight", "bias"), strict=False
    ):
        scale = theirs_.square().mean().sqrt().item()
        limit = torch.finfo(dtype).eps * (0.5 if dtype == torch.bfloat16 else 8)
        assert error(theirs(mine), theirs_) <= limit * scale, name


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_add_norm_where_only_one_result_is_used(kind):
    for used in (0, 1):
        x, r, w, b = (
            leaf(normal(*s, seed=i)) for i, s in enumerate([(3, 16), (3, 16), (16,), (16,)])
        )
        add_norm(kind, x, r, w, b, 0.0)[used].sum().backward()
        assert (w.grad is not None) == (used == 0)
        torch.testing.assert_close(theirs(x.grad), theirs(r.grad))
        if used == 1:
            assert bool((r.grad == 1).all())


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_add_norm_gradients_of_gradients(kind):
    inputs = [leaf(normal(*s, seed=i)) for i, s in enumerate([(3, 8), (3, 8), (8,), (8,)])]
    count = 4 if kind == "layer" else 3

    def f(*values):
        values = [*values, *inputs[len(values) :]]
        return add_norm(kind, *values, 0.0)

    assert gradgradcheck(f, inputs[:count])


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("half", HALVES)
def test_half_input_beside_a_float32_residual(kind, half):
    values = [
        normal(6, 128, dtype=half),
        normal(6, 128, seed=1, dtype=torch.float32),
        normal(128, seed=2, dtype=torch.float32),
        normal(128, seed=3, dtype=torch.float32),
    ]
    x, r, weight, bias = inputs = [leaf(v) for v in values]
    out, total = add_norm(kind, x, r, weight, bias, 0.0)
    assert out.dtype == total.dtype == vt.float32
    (out.sum() + (total * total).sum()).backward()
    assert x.grad.dtype == x.dtype and r.grad.dtype == vt.float32
    exact = [v.double().requires_grad_() for v in values]
    total64 = exact[0] + exact[1]
    (separate_norm(kind, total64, *exact[2:], peer).sum() + (total64 * total64).sum()).backward()
    torch.testing.assert_close(theirs(total).double(), total64.detach(), rtol=1e-6, atol=1e-6)
    for mine, wide in zip(inputs[: 4 if kind == "layer" else 3], exact, strict=False):
        eps = 4 * torch.finfo(theirs(mine).dtype).eps
        torch.testing.assert_close(theirs(mine.grad).double(), wide.grad, rtol=eps, atol=2e-5 + eps)


# --- accuracy --------------------------------------------------------------------------------------------

CASES = {
    "add_layer_norm": lambda d: (
        [normal(64, 512, seed=i, dtype=d) for i in range(2)]
        + [(512,), 1 + normal(512, seed=2, dtype=d) / 8, normal(512, seed=3, dtype=d)]
    ),
    "add_rms_norm": lambda d: (
        [normal(64, 512, seed=i, dtype=d) for i in range(2)]
        + [(512,), 1 + normal(512, seed=2, dtype=d) / 8]
    ),
    "bias_gelu": lambda d: [normal(64, 512, dtype=d), normal(512, seed=1, dtype=d)],
    "bias_silu": lambda d: [normal(64, 512, dtype=d), normal(512, seed=1, dtype=d)],
    "swiglu": lambda d: [normal(64, 512, dtype=d)],
    "linear_gelu": lambda d: [
        normal(64, 256, dtype=d),
        normal(512, 256, seed=1, dtype=d) / 16,
        normal(512, seed=2, dtype=d),
    ],
    "gelu_mlp": lambda d: [
        normal(64, 256, dtype=d),
        normal(512, 256, seed=1, dtype=d) / 16,
        normal(512, seed=2, dtype=d),
        normal(256, 512, seed=3, dtype=d) / 16,
        normal(256, seed=4, dtype=d),
    ],
    # Of few bits each, so that the logits are exact in float32: the error is that of loss and gradient, not
    # that of the order in which a library adds products.
    "linear_cross_entropy": lambda d: [
        (normal(64, 256, dtype=d) * 16).round() / 16,
        (normal(1000, 256, seed=1, dtype=d) * 8).round() / 64,
        torch.arange(0, 640, 10),
    ],
}


def outcome(lib, function, args, convert):
    """Results and gradients, as PyTorch's tensors."""
    values = [convert(a) if isinstance(a, torch.Tensor) else a for a in args]
    leaves = [v for v in values if isinstance(v, lib.Tensor) and v.is_floating_point()]
    for v in leaves:
        v.requires_grad_()
    out = function(*values)
    outs = list(out) if isinstance(out, tuple) else [out]
    dtypes = {torch.float64: torch.float64}
    grads = []
    for i, o in enumerate(outs):
        seed = normal(*o.shape, seed=9 + i) if o.ndim else torch.ones((), dtype=torch.float64)
        kind = str(o.dtype).rpartition(".")[2]
        grads.append(convert(seed.to(dtypes.get(o.dtype, getattr(torch, kind)))))
    return [*outs, *lib.autograd.grad(outs, leaves, grads)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_error_beside_that_of_separate_operators(name, dtype, device):
    args = CASES[name](dtype)
    reference = fused_peers.PEERS[name]
    widen = lambda a: a.double() if a.is_floating_point() else a  # noqa: E731
    exact = outcome(
        torch,
        reference,
        [widen(a) if isinstance(a, torch.Tensor) else a for a in args],
        lambda a: widen(a).clone(),
    )
    mine = [theirs(t) for t in outcome(vt, getattr(F, name), args, lambda a: ours(a.clone()))]
    peers = outcome(torch, reference, args, lambda a: a.to(device, copy=True))
    peers = [t.detach().cpu() for t in peers]  # PyTorch's on the same device
    for i, (x, y, z) in enumerate(zip(mine, peers, exact, strict=True)):
        # A single number's error is chance; half a unit of its last place is no error.
        floor = torch.finfo(dtype).eps * z.abs().mean().item() * (0.5 if z.ndim == 0 else 0.05)
        assert error(x, z) <= 1.5 * error(y, z) + floor, (
            f"{name}, result or gradient {i}: {error(x, z):.3g}, PyTorch's {error(y, z):.3g}"
        )


# --- linear and cross entropy ----------------------------------------------------------------------------

OPTIONS = [
    {},
    {"reduction": "sum"},
    {"label_smoothing": 0.2, "ignore_index": 3},
    {"label_smoothing": 0.1, "reduction": "sum"},
]


def loss_problem(dtype=torch.float64, rows=37, ignored=-100):
    target = torch.arange(rows) * 5 % 11
    target[::6] = ignored
    return (
        normal(rows, 8, dtype=dtype),
        normal(11, 8, seed=1, dtype=dtype),
        normal(11, seed=2, dtype=dtype),
        target,
    )


# VT_F16 and so on of include/vibetensor/types.h.
CODES = {vt.float16: 6, vt.bfloat16: 7, vt.float32: 8, vt.float64: 9}


@pytest.fixture
def small_chunks():
    """The private operator; behind the rows at a time come the dtypes of loss and gradient."""
    operator = vt.ops.surface("ops")["_linear_cross_entropy"]
    return lambda x, *rest: operator(x, *rest, CODES[x.dtype], CODES[x.dtype])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("chunk", [1, 5, 37, 100])
def test_linear_cross_entropy_in_chunks(small_chunks, options, chunk):
    x, w, b, target = loss_problem(ignored=options.get("ignore_index", -100))
    mine = [leaf(t) for t in (x, w, b)]
    loss = small_chunks(
        *mine,
        ours(target),
        options.get("reduction", "mean") == "mean",
        options.get("ignore_index", -100),
        options.get("label_smoothing", 0.0),
        (1, 1, 1),
        chunk,
    )[0]
    exact = [t.clone().requires_grad_() for t in (x, w, b)]
    expected = peer.cross_entropy(peer.linear(*exact), target, **options)
    torch.testing.assert_close(theirs(loss), expected.detach(), rtol=1e-12, atol=1e-12)
    (loss * 3).backward()
    (expected * 3).backward()
    for found, wanted in zip(mine, exact, strict=True):
        torch.testing.assert_close(theirs(found.grad), wanted.grad, rtol=1e-11, atol=1e-12)


def test_linear_cross_entropy_gradients_are_formed_for_what_needs_them():
    x, w, b, target = (ours(t) for t in loss_problem())
    with vt.no_grad():
        assert not F.linear_cross_entropy(x, w, target, linear_bias=b).requires_grad
    w.requires_grad_()
    (by_w,) = vt.autograd.grad(F.linear_cross_entropy(x, w, target), [w])
    assert by_w.shape == w.shape


def test_linear_cross_entropy_may_be_backward_again():
    x, w, b, target = loss_problem()
    mine = [leaf(t) for t in (x, w, b)]
    loss = F.linear_cross_entropy(mine[0], mine[1], ours(target), linear_bias=mine[2])
    first = vt.autograd.grad(loss, mine, retain_graph=True)
    kept = [theirs(g).clone() for g in first]
    doubled = vt.autograd.grad(loss, mine, ours(torch.tensor(2.0, dtype=torch.float64)))
    for one, two, before in zip(first, doubled, kept, strict=True):
        torch.testing.assert_close(theirs(one), before, rtol=0, atol=0)
        torch.testing.assert_close(theirs(two), 2 * before)


def test_linear_cross_entropy_can_be_differentiated_twice():
    x, w, b, target = loss_problem(rows=7)
    mine = [leaf(t) for t in (x, w, b)]
    where = ours(target)

    def f(x, w, b):
        return F.linear_cross_entropy(x, w, where, linear_bias=b)

    assert gradgradcheck(f, mine)


@pytest.mark.parametrize("dtype", HALVES)
def test_linear_cross_entropy_with_a_scaled_loss(small_chunks, dtype, device):
    x, w, b, target = loss_problem(dtype, rows=400)
    mine = [leaf(t) for t in (x, w, b)]
    loss = small_chunks(*mine, ours(target), True, -100, 0.0, (1, 1, 1), 128)[0]
    (loss * 1024).backward()
    exact = [t.double().requires_grad_() for t in (x, w, b)]
    (peer.cross_entropy(peer.linear(*exact), target) * 1024).backward()
    theirs_too = [t.to(device, copy=True).requires_grad_() for t in (x, w, b)]
    (peer.cross_entropy(peer.linear(*theirs_too), target.to(device)) * 1024).backward()
    for found, wanted, other in zip(mine, exact, theirs_too, strict=True):
        floor = 0.05 * torch.finfo(dtype).eps * wanted.grad.abs().mean().item()
        bound = 1.5 * error(other.grad.cpu(), wanted.grad) + floor
        assert error(theirs(found.grad), wanted.grad) <= bound


def test_linear_cross_entropy_of_no_samples_and_of_ignored_ones():
    x, w, _, _ = loss_problem()
    for rows in (0, 4):
        mine, matrix = leaf(x[:rows]), leaf(w)
        target = torch.full((rows,), -100)
        loss = F.linear_cross_entropy(mine, matrix, ours(target))
        assert bool(vt.isnan(loss))
        F.linear_cross_entropy(mine, matrix, ours(target), reduction="sum").backward()
        assert not bool((matrix.grad != 0).any())


# --- wrong arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "exception", "text"),
    [
        (lambda m: F.dropout_add(m(3), m(4)), RuntimeError, "shape of input"),
        (lambda m: F.dropout_add(m(3), m(3).double()), RuntimeError, "dtype of input"),
        (lambda m: F.dropout_add(m(3), m(3), 1.5), ValueError, "between 0 and 1"),
        (lambda m: F.add_layer_norm(m(2, 4), m(1, 4), (4,)), RuntimeError, "shape of input"),
        (lambda m: F.add_layer_norm(m(2, 4), m(2, 4), (3,)), RuntimeError, "normalized_shape"),
        (lambda m: F.add_rms_norm(m(2, 4), m(2, 4), (4,), m(3)), RuntimeError, "normalized_shape"),
        (lambda m: F.add_rms_norm(m(2, 4), m(2, 4), (4,), dropout_p=-1.0), ValueError, "between"),
        (lambda m: F.swiglu(m(2, 3)), RuntimeError, "even size"),
        (lambda m: F.swiglu(m(2, 3), m(3)), RuntimeError, "shape and dtype"),
        (lambda m: F.linear_gelu(m(2, 3), m(4, 2)), RuntimeError, "cannot be multiplied"),
        (lambda m: F.gelu_mlp(m(2, 3), m(4, 3), None, m(2, 3), None), RuntimeError, "multiplied"),
        (
            lambda m: F.embedding_with_position(
                vt.zeros(9, dtype=vt.int64).to(m(1).device), m(3, 4), m(5, 4)
            ),
            RuntimeError,
            "at least 9, 4",
        ),
        (
            lambda m: F.linear_cross_entropy(
                m(2, 3), m(4, 3), vt.zeros(3, dtype=vt.int64).to(m(1).device)
            ),
            ValueError,
            "batch_size",
        ),
    ],
)
def test_wrong_arguments(call, exception, text):
    with pytest.raises(exception, match=text):
        call(lambda *shape: ours(torch.ones(shape)))


@pytest.mark.parametrize("half", HALVES)
def test_linear_cross_entropy_inside_autocast(half):
    """Products in low precision, as PyTorch's two operators, and a loss in float32."""
    x, w, _, target = loss_problem(torch.float32, rows=40)
    mine = [leaf(t) for t in (x, w)]
    with vt.autocast("cpu", dtype=getattr(vt, str(half).split(".")[1])):
        loss = F.linear_cross_entropy(mine[0], mine[1], ours(target))
    assert loss.dtype == vt.float32
    (loss * 1024).backward()
    others = [t.clone().requires_grad_() for t in (x, w)]
    with torch.autocast("cpu", dtype=half):
        expected = peer.cross_entropy(peer.linear(*others), target)
    (expected * 1024).backward()
    exact = [t.double().requires_grad_() for t in (x, w)]
    true = peer.cross_entropy(peer.linear(*exact), target)
    (true * 1024).backward()
    assert abs(loss.item() - true.item()) <= 1.5 * abs(expected.item() - true.item()) + 1e-3
    for found, wanted, other in zip(mine, exact, others, strict=True):
        assert found.grad.dtype == vt.float32
        bound = 1.5 * error(other.grad, wanted.grad) + 1e-3 * wanted.grad.abs().mean().item()
        assert error(theirs(found.grad), wanted.grad) <= bound
