"""The plain attention kernels: in Triton's interpreter, their host code on the simulated driver, and the
operator on a device against float64 and against PyTorch."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vibetensor as vt
import vibetensor.nn.functional as F
from vibetensor.nn.attention import SDPBackend, attention, sdpa_kernel
from vibetensor.nn.attention.varlen import varlen_attn

from .attention_launch import UNBOUNDED, dropout_factors, reference

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def test_interpreted():
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, HERE / "attention_interpreter.py"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0 and done.stdout.strip() == "ok", done.stderr


def test_the_choice_of_dropout_is_its_description():
    """The operator that writes it out, on the CPU, against the text of vt/attention_dropout.h."""
    x = vt.zeros(1, 2, 3, 4)
    generator = vt.Generator().manual_seed(5 << 33 | 7)
    generator.set_offset(1 << 40)
    # Equal weights, of values that are the unit vectors.
    keys = 70
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out, _ = attention(
            x, vt.zeros(1, 2, keys, 4), vt.eye(keys).expand(1, 2, keys, keys), dropout_p=0.3,
            generator=generator,
        )  # fmt: skip
    factors = dropout_factors(1, 2, 3, keys, 0.3, 5 << 33 | 7, 1 << 40)
    torch.testing.assert_close(torch.from_numpy(out.numpy().copy()) * keys, factors)


# --- host code ---------------------------------------------------------------------------------------------


PLAIN = ["attention_backward_queries", "attention_backward_keys"]
HOPPER = ["attention_backward_prepare", "attention_backward", "attention_backward_finish"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(
    ("time", "dim", "p", "backward"),
    [
        (40, 32, 0.1, ["attention_backward_short"]),
        (1024, 64, 0.1, PLAIN),
        (60, 128, 0.0, PLAIN),
        (200, 32, 0.0, PLAIN),
        (130, 128, 0.0, HOPPER),
        (1024, 64, 0.0, HOPPER),
    ],
)
def test_launches(driver, dtype, time, dim, p, backward):
    pytest.importorskip("triton")
    if dtype == "float32" and backward is HOPPER:
        backward = PLAIN
    packed = vt.zeros(2, time, 3, 4, dim, device="cuda", dtype=getattr(vt, dtype))
    q, k, v = (packed[:, :, i].transpose(1, 2).requires_grad_() for i in range(3))
    results = []
    names = driver.launches(
        lambda: results.append(F.scaled_dot_product_attention(q, k, v, None, p, True)),
    )
    assert names == ["attention_forward"]
    (out,) = results
    assert out.transpose(1, 2).is_contiguous()  # merging the heads copies nothing
    grad = vt.zeros(2, time, 4, dim, device="cuda", dtype=out.dtype).transpose(1, 2)
    names = driver.launches(lambda: out.backward(grad))
    ours = [name for name in names if name.startswith("attention")]
    assert ours == backward


def test_the_table_of_the_hopper_kernels_is_theirs():
    """The host code's rows are those of the kernels' own table."""
    pytest.importorskip("triton")
    from vibetensor.kernels.attention import hopper_choices

    header = ROOT / "vibetensor" / "cuda" / "kernels" / "attention_choices.h"
    text = header.read_text(encoding="utf-8")
    words = {"true": True, "false": False, "kEvery": hopper_choices.ANY}

    def rows(name):
        body = text.split(f"{name}[] = {{")[1].split("};")[0] + "}"
        return [
            tuple(words[w] if w in words else int(w) for w in row.split(", "))
            for row in re.findall(r"\{([^{}]+)\}", body)
        ]

    assert rows("kHopperForward") == [tuple(r) for r in hopper_choices.FORWARD]
    assert rows("kHopperBackward") == [tuple(r) for r in hopper_choices.BACKWARD]


def test_gradient_of_a_bias_is_one_more_launch(driver):
    pytest.importorskip("triton")
    q = vt.zeros(2, 4, 40, 32, device="cuda", requires_grad=True)
    bias = vt.zeros(4, 40, 40, device="cuda", requires_grad=True)
    out = F.scaled_dot_product_attention(q, q, q, bias)
    names = driver.launches(lambda: out.sum().backward())
    assert names.count("attention_backward_bias") == 1
    assert bias.grad.shape == bias.shape


def test_without_triton(driver):
    """Every option works by products or by other operators."""
    before = vt.kernels.enable(False)
    try:
        q = vt.zeros(2, 4, 40, 32, device="cuda", requires_grad=True)
        F.scaled_dot_product_attention(q, q, q, dropout_p=0.1).sum().backward()
        attention(q, q, q, window_size=(3, 3), alibi_slopes=vt.ones(4, device="cuda"))[0].sum()
        names = driver.launches(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True))
        assert any(name.startswith("vt_attention_softmax") for name in names)
        assert not any(name.startswith("attention_") for name in names)
    finally:
        vt.kernels.enable(before)


def test_backends(driver):
    q = vt.zeros(2, 4, 40, 32, device="cuda")
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        names = driver.launches(lambda: F.scaled_dot_product_attention(q, q, q))
        assert any(name.startswith("vt_attention_softmax") for name in names)
    with sdpa_kernel(SDPBackend.MATH):
        names = driver.launches(lambda: F.scaled_dot_product_attention(q, q, q))
        assert not any("attention" in name for name in names)
    with (
        sdpa_kernel(SDPBackend.CUDNN_ATTENTION),
        pytest.raises(RuntimeError, match="No available kernel"),
    ):
        F.scaled_dot_product_attention(q, q, q)
    assert vt.backends.cuda.flash_sdp_enabled() and vt.backends.cuda.math_sdp_enabled()


# --- values on a device ------------------------------------------------------------------------------------

# Relative to the norm of the result.
TOLERANCE = {"float16": 1.5e-3, "bfloat16": 8e-3, "float32": 4e-6, "tf32": 3e-3}
SIZES = [  # batch, heads, heads of keys, queries, keys, features
    (2, 4, 2, 200, 333, 64),
    (2, 4, 4, 128, 128, 32),
    (2, 2, 1, 40, 50, 32),
    (1, 2, 1, 77, 90, 40),
    (1, 2, 2, 130, 257, 128),
    (1, 2, 1, 100, 100, 96),
    (1, 1, 1, 150, 65, 256),
    (1, 2, 2, 1, 1, 64),
    (1, 2, 2, 1, 700, 64),
    (1, 4, 2, 600, 777, 64),
    (1, 2, 2, 1024, 1024, 128),
    (1, 2, 2, 777, 600, 96),
]
FEATURES = ["plain", "causal", "window", "alibi", "added", "bool", "dropout", "all"]


@pytest.fixture
def tf32(request):
    before = vt.get_float32_matmul_precision()
    yield vt.set_float32_matmul_precision
    vt.set_float32_matmul_precision(before)


def ours(t, grad=False):
    return None if t is None else vt.from_dlpack(t.detach()).requires_grad_(grad)


def error(mine, expected):
    """Relative; a gradient whose terms, of about 1 each, cancel is measured against them."""
    mine = torch.from_dlpack(mine.detach()).double()
    scale, terms = expected.norm().item(), math.sqrt(expected.numel())
    return (mine - expected).norm().item() / (scale if scale > 1e-9 * terms else terms)


def make(size, kind):
    batch, heads, kv_heads, queries, keys, dim = size
    shapes = (heads, queries), (kv_heads, keys), (kv_heads, keys)
    return [
        torch.randn(batch, t, h, dim, device="cuda", dtype=kind).transpose(1, 2) for h, t in shapes
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("feature", FEATURES)
def test_values(device, tf32, dtype, size, feature):
    torch.manual_seed(0)
    tf32("high" if dtype == "tf32" else "highest")
    kind = getattr(torch, "float32" if dtype == "tf32" else dtype)
    batch, heads, _, queries, keys, _ = size
    tensors = make(size, kind)
    keywords, peer = {}, {}
    if feature == "causal":
        keywords["is_causal"], peer["high"] = True, queries - keys
    if feature in ("window", "all"):
        keywords["window_size"], peer["low"], peer["high"] = (50, 20), -50, 20
    bias = slopes = None
    if feature in ("alibi", "all"):
        slopes = torch.rand(1, heads, device="cuda")
    if feature in ("added", "all"):
        bias = torch.randn(1, heads, queries, keys, device="cuda", dtype=kind)
    if feature == "bool":
        bias = torch.rand(batch, 1, queries, keys, device="cuda") < 0.7
    factors = None
    if feature in ("dropout", "all"):
        generator = vt.Generator("cuda").manual_seed(3)
        keywords |= {"dropout_p": 0.3, "generator": generator}
        # The same choice, written out by another operator on the CPU.
        factors = dropped(batch, heads, queries, keys)
    added = bias is not None and bias.dtype != torch.bool
    leaves = [t.double().requires_grad_() for t in tensors]
    leaf_bias = bias.double().requires_grad_() if added else bias
    expected, lse = reference(*leaves, leaf_bias, slopes, factors=factors, **peer)
    grad = torch.randn_like(tensors[0])
    expected.backward(grad.double())

    mine = [ours(t, True) for t in tensors]
    my_bias = ours(bias, added)
    out, my_lse = attention(*mine, my_bias, enable_gqa=True, alibi_slopes=ours(slopes), **keywords)
    out.backward(ours(grad))
    limit = TOLERANCE[dtype]
    assert error(out, expected.detach()) <= limit
    finite = torch.isfinite(lse)
    assert (torch.isfinite(torch.from_dlpack(my_lse)) == finite).all()
    distance = (torch.from_dlpack(my_lse)[finite] - lse[finite]).abs()
    assert (distance <= max(limit, 1e-5) * 4).all()
    for a, b in zip(mine, leaves, strict=True):
        if keys > 1:  # the gradient of the only weight's score is zero but for rounding
            assert error(a.grad, b.grad) <= 2 * limit
    if added and keys > 1:
        assert error(my_bias.grad, leaf_bias.grad) <= 2 * limit


def dropped(batch, heads, queries, keys):
    """What dropout multiplies by, of a generator seeded with 3."""
    x = vt.zeros(batch, heads, queries, 1)
    out, _ = attention(
        x, vt.zeros(batch, heads, keys, 1), vt.eye(keys).expand(batch, heads, keys, keys),
        dropout_p=0.3, generator=vt.Generator().manual_seed(3),
    )  # fmt: skip
    return torch.from_numpy(out.numpy().copy()).double().cuda() * keys


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("lengths", [[(3, 5), (0, 4), (70, 70), (1, 0)], [(300, 200), (129, 513)]])
def test_packed_sequences(device, dtype, lengths):
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    ends = [torch.tensor([0, *n]).cumsum(0).int() for n in zip(*lengths, strict=True)]
    sizes = [(int(ends[0][-1]) + 2, 4), (int(ends[1][-1]) + 1, 2), (int(ends[1][-1]) + 1, 2)]
    tensors = [torch.randn(n, h, 64, device="cuda", dtype=kind) for n, h in sizes]
    leaves = [t.double().requires_grad_() for t in tensors]
    parts = []
    for a, b, c, d in zip(ends[0], ends[0][1:], ends[1], ends[1][1:], strict=False):
        heads = [t.transpose(0, 1)[None] for t in (leaves[0][a:b], leaves[1][c:d], leaves[2][c:d])]
        if b > a and d > c:
            parts.append(reference(*heads, high=0)[0][0].transpose(0, 1))
        else:
            parts.append(leaves[0][a:b] * 0)
    expected = torch.cat([*parts, torch.zeros(2, 4, 64, device="cuda", dtype=torch.float64)])
    grad = torch.randn_like(expected)
    expected.backward(grad)
    mine = [ours(t, True) for t in tensors]
    longest = [max(n) for n in zip(*lengths, strict=True)]
    cu = [ours(e.cuda()) for e in ends]
    out = varlen_attn(*mine, *cu, *longest, window_size=(-1, 0), enable_gqa=True)
    out.backward(ours(grad.to(kind)))
    limit = TOLERANCE[dtype]
    assert error(out, expected.detach()) <= limit
    for a, b in zip(mine, leaves, strict=True):
        assert error(a.grad, b.grad) <= 2 * limit


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [(4, 4, 4, 128, 128, 32), (2, 4, 4, 1024, 1024, 64)], ids=str)
def test_error_is_not_much_above_pytorchs(device, dtype, causal, size):
    torch.manual_seed(0)
    tensors = make(size, getattr(torch, dtype))
    high = 0 if causal else UNBOUNDED
    leaves = [t.double().requires_grad_() for t in tensors]
    expected, _ = reference(*leaves, high=high)
    grad = torch.randn_like(tensors[0])
    expected.backward(grad.double())
    peers = [t.clone().requires_grad_() for t in tensors]
    peer = torch.nn.functional.scaled_dot_product_attention(*peers, is_causal=causal)
    peer.backward(grad)
    mine = [ours(t, True) for t in tensors]
    out = F.scaled_dot_product_attention(*mine, is_causal=causal)
    out.backward(ours(grad))
    results = [(out, peer, expected)]
    results += [(a.grad, b.grad, c.grad) for a, b, c in zip(mine, peers, leaves, strict=True)]
    for a, b, c in results:
        theirs = ((b.detach().double() - c).norm() / c.norm()).item()
        assert error(a, c.detach()) <= 1.5 * theirs


@pytest.mark.gpu
def test_tf32_is_rounded_to_the_nearest(device, tf32):
    """Bits that are cut off would make all results smaller."""
    tf32("high")
    ulp = 2.0**-10
    v = vt.full((1, 1, 64, 32), 1 + 0.7 * ulp, device="cuda")
    q = vt.randn(1, 1, 64, 32, device="cuda")
    out = F.scaled_dot_product_attention(q, q, v)
    assert (out - (1 + ulp)).abs().max().item() < 0.3 * ulp


def fill_cached_memory():
    """Leaves nan in the memory that the allocator will hand out: what a kernel reads before it is
    written shows in its results. compute-sanitizer's initcheck cannot find that here. It does not
    see what TMA stores, and would report that as well if nothing else had written there."""
    sizes = [1 << 26, *(1 << bits for bits in range(20, 10, -1) for _ in range(8))]
    blocks = [vt.full((size // 4,), float("nan"), device="cuda") for size in sizes]
    vt.cuda.synchronize()
    del blocks


@pytest.mark.gpu
@pytest.mark.sanitizer
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize(
    ("heads", "queries", "keys", "causal", "dropout"),
    [
        (2, 777, 777, True, 0.0),  # where there is Hopper, some of these by its kernels
        (1, 1001, 1001, False, 0.0),
        (2, 1, 777, False, 0.0),
        (1, 65, 333, True, 0.0),
        (2, 77, 77, True, 0.1),
        (1, 333, 333, False, 0.1),
    ],
)
def test_odd_lengths(device, dim, heads, queries, keys, causal, dropout):
    """Under compute-sanitizer as well: nothing is read or written beyond the last row."""
    torch.manual_seed(0)
    tensors = make((1, 2, heads, queries, keys, dim), torch.bfloat16)
    leaves = [t.double().requires_grad_() for t in tensors]
    generator = vt.Generator("cuda").manual_seed(3)
    factors = dropped(1, 2, queries, keys) if dropout else None
    high = queries - keys if causal else UNBOUNDED
    expected, _ = reference(*leaves, factors=factors, high=high)
    grad = torch.randn_like(tensors[0])
    expected.backward(grad.double())
    mine = [ours(t, True) for t in tensors]
    fill_cached_memory()
    out, _ = attention(
        *mine, is_causal=causal, dropout_p=0.3 if dropout else 0.0, enable_gqa=True,
        generator=generator,
    )  # fmt: skip
    out.backward(ours(grad))
    assert error(out, expected.detach()) <= TOLERANCE["bfloat16"]
    for a, b in zip(mine, leaves, strict=True):
        assert error(a.grad, b.grad) <= 2 * TOLERANCE["bfloat16"]


@pytest.mark.gpu
def test_gradients_are_the_same_bits_at_every_run(device):
    torch.manual_seed(0)
    tensors = make((2, 4, 2, 300, 300, 64), torch.bfloat16)
    runs = []
    for _ in range(3):
        mine = [ours(t, True) for t in tensors]
        attention(*mine, is_causal=True, enable_gqa=True, deterministic=True)[0].sum().backward()
        runs.append([torch.from_dlpack(t.grad) for t in mine])
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.gpu
def test_dropout_in_a_captured_graph(device):
    """Every replay draws anew, backward as forward, as the eager calls would have."""
    x = vt.randn(2, 2, 128, 32, device="cuda")

    def step(x):
        q = x.clone().requires_grad_()
        out = F.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
        (grad,) = vt.autograd.grad(out, q, vt.ones_like(out))
        return out.detach(), grad

    vt.cuda.manual_seed(1)
    eager = [step(x) for _ in range(2)]
    captured = vt.cuda.graphed(step, warmup=1)
    captured(x)
    captured(x)
    vt.cuda.manual_seed(1)
    for out, grad in eager:
        again, again_grad = captured(x)
        assert (again == out).all().item() and (again_grad == grad).all().item()
    assert not math.isclose(eager[0][0].sum().item(), eager[1][0].sum().item())


def test_the_table_is_shown_and_its_border_moved(driver):
    """vibetensor.backends.cuda.attention: what is shown is what is taken."""
    pytest.importorskip("triton")
    choice = vt.backends.cuda.attention
    q = vt.empty(1, 2, 1024, 64, device="cuda", dtype=vt.bfloat16)

    def taken():
        names = driver.launches(lambda: F.scaled_dot_product_attention(q, q, q))
        return "plain" if names == ["attention_forward"] and plain(driver) else "hopper"

    def plain(driver):
        [launch] = [e for e in driver.log() if e["kind"] == "launch"][-1:]
        row = next(
            r
            for r in choice.table()
            if r.step == "forward" and r.family == "plain" and r.precision == "half"
            and r.head_size >= 64 and r.max_keys is None
        )  # fmt: skip
        blocks = 2 * 1024 // row.queries
        return launch["grid"] == (blocks, 1, 1) and launch["block"] == (32 * row.warps, 1, 1)

    table = choice.table()
    assert {r.family for r in table} == {"hopper", "plain"}
    hopper = [r for r in table if r.family == "hopper" and r.step == "forward"]
    from vibetensor.kernels.attention import hopper_choices

    assert [(r.head_size, r.causal, r.max_queries or hopper_choices.ANY, r.queries, r.keys)
            for r in hopper] == [tuple(r)[:5] for r in hopper_choices.FORWARD]  # fmt: skip
    assert "hopper_min_rows = 128" in repr(choice) and len(repr(choice).splitlines()) == 2 + len(
        table
    )
    assert taken() == "hopper"
    choice.hopper_min_rows = 1025
    try:
        assert taken() == "plain"
    finally:
        choice.hopper_min_rows = 128
    for wrong, error in ((0, ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error, match="hopper_min_rows"):
            choice.hopper_min_rows = wrong
    with pytest.raises(AttributeError, match="Unknown"):
        choice.rows = 1
