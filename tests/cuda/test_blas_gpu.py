"""Values of matrix products, attention and conv1d on a GPU, against PyTorch on the same GPU."""

import pytest
import torch

import vibetensor as vt
import vibetensor.nn.functional as F
from vibetensor.nn.attention import SDPBackend, sdpa_kernel

pytestmark = pytest.mark.gpu

TF = torch.nn.functional
FLOATING = ["float16", "bfloat16", "float32", "float64"]
ALL = [*FLOATING, "complex64", "complex128"]
# Relative to the largest element: sums of up to a few hundred products.
TOLERANCE = {
    "float16": 2e-3,
    "bfloat16": 1.6e-2,
    "float32": 3e-6,
    "float64": 1e-12,
    "complex64": 5e-6,
    "complex128": 1e-12,
}


@pytest.fixture(autouse=True)
def needs_device():
    if not vt.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.manual_seed(0)


def make(*shape, dtype):
    kind = getattr(torch, dtype)
    wide = torch.complex128 if kind.is_complex else torch.float64
    return torch.randn(*shape, dtype=wide).to(kind).cuda()


def ours(t):
    return vt.from_dlpack(t.detach())


def check(got, expected, dtype, factor=1.0):
    got = torch.from_dlpack(got.detach())
    assert got.shape == expected.shape and got.dtype == expected.dtype
    if expected.numel() == 0:
        return
    wide = torch.complex128 if got.is_complex() else torch.float64
    scale = max(1.0, expected.to(wide).abs().max().item())
    error = (got.to(wide) - expected.to(wide)).abs().max().item()
    assert error <= TOLERANCE[dtype] * factor * scale, (error, scale)


def exact(t):
    return t.to(torch.complex128 if t.is_complex() else torch.float64)


def layouts(m, n, dtype):
    yield make(m, n, dtype=dtype)
    yield make(n, m, dtype=dtype).t()
    yield make(m, 2 * n, dtype=dtype)[:, ::2]
    yield make(m, n + 3, dtype=dtype)[:, 3:]
    yield make(m, 1, dtype=dtype).expand(m, n)
    yield make(1, n, dtype=dtype).expand(m, n)


SIZES = [
    (64, 48, 80),
    (1, 33, 17),
    (33, 1, 17),
    (5, 7, 1),
    (1, 1, 300),
    (130, 70, 257),
    (3, 5, 7),
    (32, 32, 32),
    (1, 32, 1),
    (0, 4, 3),
    (4, 3, 0),
]


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mm_of_any_layout(dtype, size):
    m, n, k = size
    for a in layouts(m, k, dtype):
        for b in layouts(k, n, dtype):
            check(ours(a) @ ours(b), (exact(a) @ exact(b)).to(a.dtype), dtype)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize(
    "size", [(64, 48, 80), (1, 33, 17), (33, 1, 17), (4, 16, 0), (7, 9, 5)], ids=str
)
def test_linear_and_addmm(dtype, size):
    m, n, k = size
    x, w = make(m, k, dtype=dtype), make(n, k, dtype=dtype)
    for bias in (make(n, dtype=dtype), make(2 * n, dtype=dtype)[::2], make(n + 1, dtype=dtype)[1:]):
        expected = exact(x) @ exact(w).t() + exact(bias)
        check(F.linear(ours(x), ours(w), ours(bias)), expected.to(x.dtype), dtype)
        check(vt.addmm(ours(bias), ours(x), ours(w).t()), expected.to(x.dtype), dtype)
    for full in layouts(m, n, dtype):
        for beta, alpha in ((1, 1), (0.5, 2.0), (0, 1)):
            if beta == 0:
                full = torch.full_like(full, float("nan"))
            expected = alpha * (exact(x) @ exact(w).t()) + (beta * exact(full) if beta else 0)
            got = vt.addmm(ours(full), ours(x), ours(w).t(), beta=beta, alpha=alpha)
            check(got, expected.to(x.dtype), dtype)


@pytest.mark.parametrize("dtype", ALL)
def test_bmm_of_any_layout(dtype):
    for batch, m, n, k in [
        (3, 16, 24, 8),
        (1, 5, 7, 3),
        (4, 1, 9, 5),
        (4, 9, 1, 5),
        (2, 3, 4, 0),
        (70000, 1, 1, 2),
    ]:
        a, b = make(batch, m, k, dtype=dtype), make(batch, k, n, dtype=dtype)
        lefts = [
            a,
            a.transpose(1, 2).contiguous().transpose(1, 2),
            a.transpose(0, 1).contiguous().transpose(0, 1),
            a[:1].expand(batch, m, k),
        ]
        rights = [b, b.transpose(1, 2).contiguous().transpose(1, 2), b[:1].expand(batch, k, n)]
        for left in lefts:
            for right in rights:
                check(
                    vt.bmm(ours(left), ours(right)), (exact(left) @ exact(right)).to(a.dtype), dtype
                )


def test_precision_of_float32():
    a, b = make(256, 512, dtype="float32"), make(512, 256, dtype="float32")
    expected = exact(a) @ exact(b)

    def error():
        return (torch.from_dlpack(ours(a) @ ours(b)).double() - expected).abs().max().item()

    assert error() < 5e-4
    try:
        vt.set_float32_matmul_precision("high")
        assert 1e-3 < error() < 0.2
    finally:
        vt.set_float32_matmul_precision("highest")
    assert error() < 5e-4


def test_plans_are_reused():
    from vibetensor.cuda import _blas

    a = vt.ones(37, 41, device="cuda")
    a @ a.t()
    before = _blas.stats()
    for _ in range(10):
        a @ a.t()
    after = _blas.stats()
    assert after["misses"] == before["misses"] and after["calls"] == before["calls"] + 10
    assert _blas.version() >= 130000


def test_a_product_captured_at_first_use():
    a, b = make(43, 8192, dtype="bfloat16"), make(8192, 40, dtype="bfloat16")
    x, y = ours(a), ours(b)
    graph = vt.cuda.CUDAGraph()
    with vt.cuda.graph(graph):
        z = x @ y
    for _ in range(3):
        graph.replay()
    vt.cuda.synchronize()
    check(z, (exact(a) @ exact(b)).to(a.dtype), "bfloat16")


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("keep", [False, True])
def test_linear_gelu(dtype, keep):
    op = vt.ops.surface("ops")["_linear_gelu"]
    for rows, n, k in [(64, 128, 96), (1, 8, 3), (5, 9, 4), (256, 1024, 512)]:
        tensors = [make(rows, k, dtype=dtype), make(n, k, dtype=dtype), make(n, dtype=dtype)]
        tensors = [t / 4 for t in tensors]
        for bias in (True, False):
            theirs = [exact(t).detach().clone().requires_grad_() for t in tensors]
            mine = [ours(t).clone().requires_grad_() for t in tensors]
            expected = TF.gelu(
                TF.linear(theirs[0], theirs[1], theirs[2] if bias else None), approximate="tanh"
            )
            got = op(mine[0], mine[1], mine[2] if bias else None, keep)[0]
            # The tanh form, not the one by the error function, which differs by 4e-4.
            check(got, expected.detach().to(tensors[0].dtype), dtype, 4)
            grad = make(rows, n, dtype=dtype)
            expected.backward(exact(grad))
            got.backward(ours(grad))
            for a, t in zip(mine, theirs, strict=True):
                if t.grad is not None:
                    check(a.grad, t.grad.to(tensors[0].dtype), dtype, 8)


# --- attention -------------------------------------------------------------------------------------------


def heads(batch, count, time, features, dtype, layout):
    if layout == "heads first":
        return make(batch, count, time, features, dtype=dtype)
    if layout == "packed":
        wide = make(batch, time, 2 * count * features, dtype=dtype)
        return wide[..., count * features :].unflatten(-1, (count, features)).transpose(1, 2)
    return make(batch, time, count, features, dtype=dtype).transpose(1, 2)


CASES = [
    (2, 4, 4, 40, 40, 32, 32),
    (2, 4, 2, 33, 65, 16, 24),
    (1, 1, 1, 1, 7, 8, 8),
    (2, 2, 1, 5, 200, 64, 64),
    (1, 2, 2, 130, 300, 64, 32),
    (1, 2, 2, 10, 1000, 16, 16),
    (1, 1, 1, 70, 2500, 32, 32),
    (3, 2, 2, 80, 80, 128, 128),
]


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("layout", ["heads first", "packed", "time first"])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("mask", ["none", "causal", "bool", "added"])
@pytest.mark.parametrize("backend", ["FLASH_ATTENTION", "EFFICIENT_ATTENTION"])
def test_attention(dtype, layout, case, mask, backend):
    if dtype == "float64" and backend == "FLASH_ATTENTION":
        pytest.skip("the fused kernels have no float64")
    batch, h, kv, t, s, d, e = case
    shapes = ((h, t, d), (kv, s, d), (kv, s, e))
    tensors = [heads(batch, *shape, dtype, layout) for shape in shapes]
    theirs = [exact(x).requires_grad_() for x in tensors]
    mine = [ours(x).requires_grad_() for x in tensors]
    bias = their_bias = None
    if mask == "bool":
        bias = torch.rand(batch, 1, t, s, device="cuda") < 0.7
        bias[..., 0] = True
        their_bias, my_bias = bias, ours(bias)
    elif mask == "added":
        bias = make(h, t, s, dtype=dtype)
        their_bias, my_bias = exact(bias).requires_grad_(), ours(bias).requires_grad_()
    else:
        my_bias = None
    expected = TF.scaled_dot_product_attention(
        *theirs, attn_mask=their_bias, is_causal=mask == "causal", enable_gqa=h != kv
    )
    with sdpa_kernel(SDPBackend[backend]):
        got = F.scaled_dot_product_attention(
            *mine, attn_mask=my_bias, is_causal=mask == "causal", enable_gqa=h != kv
        )
    check(got, expected.detach().to(tensors[0].dtype), dtype, 4)
    grad = make(*expected.shape, dtype=dtype)
    expected.backward(exact(grad))
    got.backward(ours(grad))
    for a, x in zip(mine, theirs, strict=True):
        check(a.grad, x.grad.to(tensors[0].dtype), dtype, 8)
    if mask == "added":
        check(my_bias.grad, their_bias.grad.to(tensors[0].dtype), dtype, 8)


def test_rows_that_see_no_key_are_zero():
    q = make(1, 2, 4, 8, dtype="float32")
    mask = torch.ones(4, 4, dtype=torch.bool, device="cuda")
    mask[1] = False
    x = ours(q).requires_grad_()
    y = F.scaled_dot_product_attention(x, x, x, attn_mask=ours(mask))
    y.sum().backward()
    assert vt.isfinite(x.grad).all().item()
    assert (y[:, :, 1] == 0).all().item()


# --- conv1d ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize(
    "case",
    [
        (2, 3, 4, 50, 3, 1, 1, 1, 1),
        (2, 4, 6, 41, 3, 2, 2, 2, 2),
        (1, 6, 6, 80, 2, 1, 0, 1, 6),
        (3, 5, 2, 7, 1, 1, 0, 1, 1),
        (2, 12, 6, 70, 3, 3, 1, 1, 6),
        (4, 64, 128, 300, 5, 1, 2, 1, 1),
    ],
    ids=str,
)
def test_conv1d(dtype, case):
    n, cin, cout, length, kernel, stride, padding, dilation, groups = case
    tensors = [
        make(n, cin, length, dtype=dtype),
        make(cout, cin // groups, kernel, dtype=dtype),
        make(cout, dtype=dtype),
    ]
    theirs = [exact(t).cpu().requires_grad_() for t in tensors]
    mine = [ours(t).requires_grad_() for t in tensors]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    expected = TF.conv1d(*theirs, **options)
    got = F.conv1d(*mine, **options)
    kind = tensors[0].dtype
    check(got, expected.detach().to(kind).cuda(), dtype, 4)
    grad = make(*expected.shape, dtype=dtype)
    expected.backward(exact(grad).cpu())
    got.backward(ours(grad))
    for a, t in zip(mine, theirs, strict=True):
        check(a.grad, t.grad.to(kind).cuda(), dtype, 8)
