"""Attention with all its options on the CPU, against formulas in PyTorch and against its own form in
other operators."""

import contextlib
import math

import pytest
import torch

import vibetensor as vt
from vibetensor.autograd import gradcheck, gradgradcheck
from vibetensor.nn import functional as F
from vibetensor.nn.attention import SDPBackend, attention, sdpa_kernel
from vibetensor.nn.attention.varlen import AuxRequest, varlen_attn

MATH = SDPBackend.MATH


def ours(t):
    mine = vt.from_numpy(t.detach().numpy().copy())
    return mine.requires_grad_() if t.requires_grad else mine


def theirs(t):
    return torch.from_numpy(t.detach().numpy().copy())


def close(mine, expected):
    tolerance = 1e-10 if expected.dtype == torch.float64 else 3e-5
    torch.testing.assert_close(
        theirs(mine), expected.detach(), rtol=tolerance, atol=tolerance, check_dtype=False
    )


def reference(q, k, v, mask=None, low=-math.inf, high=math.inf, slopes=None):
    """The definition, with distances from the ends of the sequences, and the log-sum-exp."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    queries, keys = q.shape[2], k.shape[2]
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[3])
    distance = (torch.arange(keys) - keys) - (torch.arange(queries) - queries)[:, None]
    if slopes is not None:
        scores = scores - slopes.to(q.dtype).reshape(-1, q.shape[1], 1, 1) * distance.abs()
    hidden = (distance < low) | (distance > high)
    if mask is not None and mask.dtype == torch.bool:
        hidden = hidden | ~mask
    elif mask is not None:
        scores = scores + mask
    scores = scores.masked_fill(hidden, -math.inf)
    # A row that sees nothing would have NaN in the gradient of the softmax.
    top = scores.amax(-1, keepdim=True).detach() if keys else torch.zeros(())
    e = torch.exp(scores - torch.where(top == -math.inf, 0.0, top))
    total = e.sum(-1, keepdim=True)
    weights = e / torch.where(total == 0, 1.0, total)
    return weights @ v, torch.logsumexp(scores, -1)


SIZES = [  # batch, heads, heads of keys, queries, keys, features, features of values
    (2, 4, 2, 37, 53, 8, 6),
    (1, 2, 2, 1, 1, 4, 4),
    (2, 2, 1, 150, 130, 16, 16),
    (1, 2, 2, 9, 0, 4, 4),
    (1, 2, 2, 0, 9, 4, 4),
]
FEATURES = ["plain", "causal", "window", "causal at the ends", "alibi", "added", "bool", "all"]


def options(feature, size, dtype):
    """Keywords for attention and for the reference, and the bias, of both."""
    batch, heads, _, queries, keys, _, _ = size
    mine, peer, bias = {}, {}, ()
    if feature == "causal":
        mine["is_causal"], peer["high"] = True, queries - keys
    if feature in ("window", "all"):
        mine["window_size"], peer["low"], peer["high"] = (20, 3), -20, 3
    if feature == "causal at the ends":
        mine["window_size"], peer["high"] = (-1, 0), 0
    if feature in ("alibi", "all"):
        peer["slopes"] = torch.rand(heads)
        mine["alibi_slopes"] = ours(peer["slopes"])
    if feature in ("added", "all"):
        mask = torch.randn(1, heads, queries, keys, dtype=dtype).requires_grad_()
        peer["mask"], mine["attn_mask"] = mask, ours(mask)
        bias = (mine["attn_mask"], mask)
    if feature == "bool":
        peer["mask"] = torch.rand(batch, 1, 1, keys) < 0.6
        mine["attn_mask"] = ours(peer["mask"])
    return mine, peer, bias


def make(size, dtype):
    batch, heads, kv_heads, queries, keys, dim, value_dim = size
    torch.manual_seed(0)
    shapes = (heads, queries, dim), (kv_heads, keys, dim), (kv_heads, keys, value_dim)
    return [torch.randn(batch, *shape, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("feature", FEATURES)
def test_attention(dtype, size, feature):
    peers = make(size, dtype)
    mine = [ours(t) for t in peers]
    keywords, peer_keywords, bias = options(feature, size, dtype)
    out, lse = attention(*mine, enable_gqa=True, **keywords)
    expected, expected_lse = reference(*peers, **peer_keywords)
    close(out, expected)
    close(lse, expected_lse)
    grad = torch.randn_like(expected)
    expected.backward(grad)
    out.backward(ours(grad))
    for a, b in zip(mine, peers, strict=True):
        close(a.grad, b.grad)
    if bias:
        close(bias[0].grad, bias[1].grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size", SIZES[:3], ids=str)
@pytest.mark.parametrize("feature", ["plain", "all"])
def test_dropout_is_the_same_choice_forward_and_backward(dtype, size, feature):
    peers = make(size, dtype)
    mine = [ours(t) for t in peers]
    keywords, _, bias = options(feature, size, dtype)
    results = []
    for way in (contextlib.nullcontext(), sdpa_kernel(MATH)):
        with way:
            generator = vt.Generator().manual_seed(7)
            out, _ = attention(
                *mine, enable_gqa=True, dropout_p=0.3, generator=generator, **keywords
            )
        inputs = [*mine, bias[0]] if bias else mine
        results.append([out, *vt.autograd.grad(out, inputs, vt.ones_like(out))])
    for a, b in zip(*results, strict=True):
        close(a, theirs(b))


def test_dropout_drops_as_often_as_it_says():
    x = vt.zeros(2, 4, 100, 200)
    for p in (0.1, 0.5, 0.9):
        # Equal weights of values that are 1: each result is the share that was kept, scaled.
        y = F.scaled_dot_product_attention(x, x, x + 1, dropout_p=p)
        assert abs(y.mean().item() - 1) < 6 * math.sqrt(p / (1 - p) / 200 / 800)
    assert (F.scaled_dot_product_attention(x, x, x + 1, dropout_p=1.0) == 0).all()
    generator = vt.Generator().manual_seed(1)
    first, second = (attention(x, x, x + 1, dropout_p=0.5, generator=generator)[0] for _ in "ab")
    assert not (first == second).all(), "two calls drew the same numbers"


def test_double_backward():
    torch.manual_seed(0)
    inputs = [ours(torch.randn(1, 2, 3, 4, dtype=torch.float64).requires_grad_()) for _ in "qkv"]
    bias = ours(torch.randn(1, 1, 3, 3, dtype=torch.float64).requires_grad_())
    slopes = vt.tensor([0.2, 0.4])

    def f(q, k, v, bias):
        generator = vt.Generator().manual_seed(3)
        return attention(
            q, k, v, bias, 0.3, window_size=(1, 1), alibi_slopes=slopes, generator=generator
        )[0]

    assert gradcheck(f, (*inputs, bias))
    assert gradgradcheck(f, (*inputs, bias))


# --- packed sequences --------------------------------------------------------------------------------------

LENGTHS = [(3, 5), (0, 4), (70, 70), (1, 0), (9, 30)]


def packed(dtype):
    torch.manual_seed(0)
    queries, keys = (sum(n) for n in zip(*LENGTHS, strict=True))
    sizes = (queries + 2, 4, 8), (keys + 1, 2, 8), (keys + 1, 2, 6)
    tensors = [torch.randn(size, dtype=dtype).requires_grad_() for size in sizes]
    ends = [torch.tensor([0, *n]).cumsum(0).int() for n in zip(*LENGTHS, strict=True)]
    return tensors, ends


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("window", [(-1, -1), (-1, 0), (4, 2)])
@pytest.mark.parametrize("way", [None, MATH])
def test_packed_sequences(dtype, window, way):
    peers, (cu_q, cu_k) = packed(dtype)
    slopes = torch.linspace(0.1, 0.4, 4)
    low, high = (
        -window[0] if window[0] >= 0 else -math.inf,
        window[1] if window[1] >= 0 else math.inf,
    )
    results, statistics = [], []
    for a, b, c, d in zip(cu_q, cu_q[1:], cu_k, cu_k[1:], strict=False):
        parts = [t.transpose(0, 1)[None] for t in (peers[0][a:b], peers[1][c:d], peers[2][c:d])]
        out, lse = reference(*parts, low=low, high=high, slopes=slopes)
        results.append(out[0].transpose(0, 1))
        statistics.append(lse[0].transpose(0, 1))
    expected = torch.cat([*results, torch.zeros(2, 4, 6, dtype=dtype)])
    mine = [ours(t) for t in peers]
    with sdpa_kernel(way) if way is not None else contextlib.nullcontext():
        out, lse = varlen_attn(
            *mine, ours(cu_q), ours(cu_k), 70, 70, window_size=window, enable_gqa=True,
            alibi_slopes=ours(slopes), return_aux=AuxRequest(lse=True),
        )  # fmt: skip
    close(out, expected)
    close(lse[: cu_q[-1]], torch.cat(statistics))
    grad = torch.randn_like(expected)
    expected.backward(grad)
    out.backward(ours(grad))
    for a, b in zip(mine, peers, strict=True):
        close(a.grad, b.grad)


@pytest.mark.parametrize("window", [(-1, -1), (4, 2)])
def test_dropout_of_packed_sequences(window):
    peers, (cu_q, cu_k) = packed(torch.float64)
    mine = [ours(t) for t in peers]
    results = []
    for way in (contextlib.nullcontext(), sdpa_kernel(MATH)):
        with way:
            out = varlen_attn(
                *mine, ours(cu_q), ours(cu_k), 70, 70, window_size=window, enable_gqa=True,
                dropout_p=0.4, generator=vt.Generator().manual_seed(2),
            )  # fmt: skip
        results.append([out, *vt.autograd.grad(out, mine, vt.ones_like(out))])
    for a, b in zip(*results, strict=True):
        close(a, theirs(b))


@pytest.mark.parametrize("counts", [([0, 0], [0, 3]), ([0], [0]), ([0, 2, 2], [0, 0, 0])])
def test_packed_sequences_of_nothing(counts):
    """All queries, or all keys, belong to no sequence."""
    queries, keys = (vt.tensor(c, dtype=vt.int32) for c in counts)
    for k in (vt.randn(4, 2, 8), vt.empty(0, 2, 8)):
        if k.shape[0] < counts[1][-1]:
            continue
        for way in (contextlib.nullcontext(), sdpa_kernel(MATH)):
            q, key = vt.randn(3, 2, 8, requires_grad=True), k.detach().requires_grad_()
            with way:
                out, lse = varlen_attn(
                    q, key, key, queries, keys, 2, 3, return_aux=AuxRequest(lse=True)
                )
            out.sum().backward()
            belong = counts[0][-1]
            assert not out.any() and not q.grad.any()
            assert not key.grad.any()
            assert (lse[:belong] == -math.inf).all() and not lse[belong:].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_float32_mask(dtype):
    """PyTorch takes one with queries of any dtype."""
    q, k, v = (torch.randn(2, 2, 5, 8).to(dtype) for _ in range(3))
    mask = torch.randn(5, 5).to(torch.bfloat16).float()  # no rounding by the cast
    kind = getattr(vt, str(dtype).split(".")[1])
    mine = [ours(t.double()).to(kind).requires_grad_() for t in (q, k, v)]
    bias = ours(mask).requires_grad_()
    out = F.scaled_dot_product_attention(*mine, bias)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
    assert out.dtype == kind
    tolerance = {torch.float64: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(
        theirs(out.double()), expected.double(), rtol=tolerance, atol=tolerance
    )
    out.float().sum().backward()
    assert bias.grad.dtype == vt.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gradient_of_a_broadcast_mask_is_summed_before_it_is_rounded(dtype):
    """As close to float64's as PyTorch's own."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 33, 8).to(dtype) for _ in range(3))
    for shape in ((1, 33), (1, 1, 33, 33), (33, 33)):
        mask = torch.randn(shape).to(dtype).requires_grad_()
        exact = mask.detach().double().requires_grad_()
        mine = ours(mask.detach().double()).to(getattr(vt, str(dtype)[6:])).requires_grad_()
        function = torch.nn.functional.scaled_dot_product_attention
        function(q, k, v, mask).sum().backward()
        function(q.double(), k.double(), v.double(), exact).sum().backward()
        mq, mk, mv = (ours(t.double()).to(mine.dtype) for t in (q, k, v))
        F.scaled_dot_product_attention(mq, mk, mv, mine).sum().backward()
        error = (theirs(mine.grad.double()) - exact.grad).norm()
        assert error <= 1.5 * (mask.grad.double() - exact.grad).norm(), shape


# --- wrong input -------------------------------------------------------------------------------------------

x = vt.zeros(2, 4, 3, 8)
WRONG = {
    "3D": (lambda: attention(x[0], x[0], x[0]), "4D"),
    "heads": (lambda: attention(x, x[:, :3], x[:, :3], enable_gqa=True), "shapes do not fit"),
    "heads without gqa": (lambda: attention(x, x[:, :2], x[:, :2]), "shapes do not fit"),
    "features": (lambda: attention(x, x[..., :4], x), "shapes do not fit"),
    "dtypes": (lambda: attention(x, x.double(), x), "same dtype.*Float key.dtype: Double and"),
    "mask": (lambda: attention(x, x, x, vt.zeros(3, 2)), "broadcast"),
    "mask dtype": (lambda: attention(x, x, x, vt.zeros(3, 3).double()), "attn_mask"),
    "slopes": (lambda: attention(x, x, x, alibi_slopes=vt.zeros(3)), "alibi_slopes"),
    "slopes with a gradient": (
        lambda: attention(x, x, x, alibi_slopes=vt.zeros(4, requires_grad=True)),
        "alibi_slopes have no gradient",
    ),
    "integers": (lambda: attention(x.long(), x.long(), x.long()), "Float"),
    "no backend": (lambda: with_backends([SDPBackend.CUDNN_ATTENTION]), "No available kernel"),
}


def with_backends(backends):
    with sdpa_kernel(backends):
        return attention(x, x, x)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name):
    function, message = WRONG[name]
    with pytest.raises(RuntimeError, match=message):
        function()


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_wrong_probability(p):
    with pytest.raises(RuntimeError, match="probability"):  # PyTorch's type here
        attention(x, x, x, dropout_p=p)


@pytest.mark.parametrize("window", [(), (1,), (1, 2, 3), (1.0, 0), 1, None])
def test_wrong_window(window):
    t, cu = vt.zeros(5, 2, 4), vt.tensor([0, 5], dtype=vt.int32)
    with pytest.raises(TypeError, match="attention: window_size must be two integers"):
        attention(x, x, x, window_size=window)
    with pytest.raises(TypeError, match="varlen_attn: window_size must be two integers"):
        varlen_attn(t, t, t, cu, cu, 5, 5, window_size=window)


def test_options_are_keywords():
    for lib, t in ((vt, x), (torch, theirs(x))):
        with pytest.raises(TypeError):
            lib.nn.functional.scaled_dot_product_attention(t, t, t, None, 0.0, False, 0.5)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 3, 2], "decrease"),
        ([0, 3, 9], "at most"),
        ([1, 3, 5], "from 0"),
        ([0, 5, 5], "longer than"),
        ([], "vector"),
    ],
)
def test_wrong_offsets(offsets, message):
    t = vt.zeros(5, 2, 4)
    cu = vt.tensor(offsets, dtype=vt.int32)
    with pytest.raises(RuntimeError, match=message):
        varlen_attn(t, t, t, cu, cu, 4, 4)
    with pytest.raises(RuntimeError, match="int32"):
        varlen_attn(t, t, t, cu.long(), cu.long(), 4, 4)


def test_backends_are_restored():
    with pytest.raises(ZeroDivisionError), sdpa_kernel(MATH):
        raise ZeroDivisionError
    assert attention(x, x, x)[0].shape == x.shape
