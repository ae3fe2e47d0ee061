"""Matrix products, attention and conv1d on the simulated driver: plans, copies, calls and their order."""

import threading

import pytest
import torch

import vibetensor as vt
import vibetensor.nn.functional as F
from vibetensor.nn.attention import SDPBackend, sdpa_kernel

PRODUCT = "cublasLtMatmul"


@pytest.fixture
def stats(driver):
    from vibetensor.cuda import _blas

    return _blas.stats


def zeros(*shape, dtype=vt.float32, **options):
    return vt.zeros(*shape, dtype=dtype, device="cuda", **options)


def test_one_call_and_one_plan_for_a_shape(driver, stats):
    a, b = zeros(64, 64), zeros(64, 64)
    assert driver.launches(lambda: a @ b) == [PRODUCT]
    assert stats()["plans"] == stats()["misses"] == stats()["calls"] == 1
    for _ in range(5):
        a @ b
        b @ a
    assert stats() == {"plans": 1, "misses": 1, "calls": 11, "unsupported": 0}
    zeros(65, 64) @ b
    a.t() @ b
    vt.zeros(8, 8, device="cuda", dtype=vt.float64) @ zeros(8, 8, dtype=vt.float64)
    assert stats()["plans"] == 4


def test_the_precision_is_part_of_the_plan(driver, stats):
    a = zeros(64, 64)
    try:
        for precision in ("highest", "high", "medium", "highest"):
            vt.set_float32_matmul_precision(precision)
            assert vt.backends.cuda.matmul.allow_tf32 == (precision != "highest")
            a @ a
        assert stats()["plans"] == 2
        vt.backends.cuda.matmul.allow_tf32 = True
        assert vt.get_float32_matmul_precision() == "high"
        b = zeros(64, 64, dtype=vt.bfloat16)
        b @ b
        vt.backends.cuda.matmul.allow_tf32 = False
        b @ b
        assert stats()["plans"] == 3
    finally:
        vt.set_float32_matmul_precision("highest")
    with pytest.raises(RuntimeError, match="precision"):
        vt.set_float32_matmul_precision("low")


def test_many_plans_are_kept(stats):
    for i in range(1, 40):
        for j in range(1, 40):
            zeros(i, 33) @ zeros(33, j)
    assert stats()["plans"] == stats()["misses"] == 39 * 39
    for i in range(1, 40):
        for j in range(1, 40):
            zeros(i, 33) @ zeros(33, j)
    assert stats()["plans"] == stats()["misses"] == 39 * 39


def test_threads_share_plans(driver, stats):
    a = [zeros(n, n) for n in range(33, 62)]
    errors = []

    def work():
        try:
            for _ in range(10):
                for x in a:
                    x @ x
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert stats()["plans"] == stats()["misses"] == 29 and stats()["calls"] == 8 * 10 * 29


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
)
def test_layouts_that_need_no_copy(driver, dtype):
    kind = getattr(vt, dtype)
    a, b = zeros(6, 40, dtype=kind), zeros(40, 10, dtype=kind)
    wide, tall = zeros(6, 120, dtype=kind), zeros(120, 10, dtype=kind)
    out = zeros(10, 6, dtype=kind).t()
    for call in (
        lambda: a @ b,
        lambda: zeros(40, 6, dtype=kind).t() @ b,
        lambda: a @ zeros(10, 40, dtype=kind).t(),
        lambda: wide[:, 40:80] @ tall[40:80],
        lambda: wide[::2, :40] @ b,
        lambda: vt.mm(a, b, out=out),
        lambda: a[:1] @ b,
        lambda: a @ b[:, :1],
        lambda: zeros(40, 1, dtype=kind).t() @ b,
    ):
        driver.clear()
        driver.record()
        call()
        driver.record(False)
        names = [e["name"] for e in driver.log() if e["kind"] == "launch"]
        assert [n for n in names if n.startswith("vt_strided")] == []
        assert names.count(PRODUCT) == 1


def test_layouts_that_are_copied(driver):
    a, b = zeros(4, 128), zeros(64, 4)
    assert driver.launches(lambda: a[:, ::2] @ b) == ["vt_strided_copy_4", PRODUCT]
    grad = vt.ones((), device="cuda").expand(4, 64)
    assert driver.launches(lambda: grad @ b) == ["vt_strided_copy_4", PRODUCT]
    out = zeros(4, 8)[:, ::2]
    x = zeros(4, 64)
    assert driver.launches(lambda: vt.mm(x, b, out=out)) == [PRODUCT, "vt_move_4"]


@pytest.mark.parametrize(
    ("dtype", "suffix"), [("float16", "f16"), ("bfloat16", "bf16"), ("float32", "f32")]
)
def test_small_products_need_no_library(driver, stats, dtype, suffix):
    kind = getattr(vt, dtype)
    a, b, bias = zeros(8, 32, dtype=kind), zeros(32, 8, dtype=kind), zeros(8, dtype=kind)
    full, out = zeros(8, 8, dtype=kind), zeros(8, 16, dtype=kind)[:, ::2]
    for call in (
        lambda: a @ b,
        lambda: b.t() @ a.t(),
        lambda: a[:, ::2] @ b[::2],
        lambda: vt.mm(a, b, out=out),
        lambda: vt.addmm(full, a, b, alpha=2, beta=3),
        lambda: vt.addmm(bias, a, b),
        lambda: F.linear(a, b.t(), bias),
    ):
        names = driver.launches(call)
        assert [n for n in names if not n.startswith("vt_move")] == [f"vt_small_product_{suffix}"]
    assert stats()["calls"] == 0
    assert driver.launches(lambda: zeros(33, 2, dtype=kind) @ zeros(2, 2, dtype=kind)) == [PRODUCT]


def test_bias_and_addition_are_part_of_the_product(driver, stats):
    x, w, bias = zeros(5, 64), zeros(16, 64), zeros(16)
    assert driver.launches(lambda: F.linear(x, w, bias)) == [PRODUCT]
    assert driver.launches(lambda: F.linear(x, w)) == [PRODUCT]
    assert driver.launches(lambda: vt.addmm(bias, x, w.t())) == [PRODUCT]
    assert driver.launches(lambda: vt.addmm(bias, x, w.t(), alpha=2)) == [PRODUCT]
    full = zeros(5, 16)
    assert driver.launches(lambda: vt.addmm(full, x, w.t(), beta=0.5)) == [PRODUCT]
    columns = zeros(16, 5).t()
    names = driver.launches(lambda: vt.addmm(columns, x, w.t()))
    assert names == ["vt_strided_copy_4", PRODUCT]
    odd = zeros(17)[1:]  # at an address that the epilogue cannot take
    assert driver.launches(lambda: F.linear(x, w, odd)) == ["vt_strided_copy_4", PRODUCT]
    assert stats()["unsupported"] == 0


def test_a_bias_without_an_epilogue(driver, stats):
    x, w, bias = (zeros(*s, dtype=vt.complex64) for s in ((5, 8), (16, 8), (16,)))
    assert driver.launches(lambda: F.linear(x, w, bias)) == ["vt_strided_copy_16", PRODUCT]
    assert stats()["unsupported"] == 1
    F.linear(x, w, bias)
    assert stats()["plans"] == 2  # the refusal is remembered


def test_batches(driver):
    a, b = zeros(3, 4, 8), zeros(3, 8, 6)
    assert driver.launches(lambda: vt.bmm(a, b)) == [PRODUCT]
    assert driver.launches(lambda: vt.bmm(a, b[:1].expand(3, 8, 6))) == [PRODUCT]
    between = zeros(4, 3, 8).transpose(0, 1)
    assert driver.launches(lambda: vt.bmm(between, b)) == [PRODUCT]
    many, others = zeros(70000, 1, 2), zeros(70000, 2, 1)
    assert driver.launches(lambda: vt.bmm(many, others)) == [PRODUCT, PRODUCT]


def test_nothing_to_multiply(driver):
    a, b, none = zeros(0, 4), zeros(4, 3), zeros(4, 0)
    assert driver.launches(lambda: a @ b) == []
    assert driver.launches(lambda: a @ none) == []
    a, b = zeros(2, 0), zeros(0, 3)
    assert driver.launches(lambda: a @ b) == ["vt_matrix_scale_f32"]
    w, bias = zeros(3, 0), zeros(3)
    assert driver.launches(lambda: F.linear(a, w, bias)) == ["vt_matrix_scale_f32"]


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_have_no_products(driver, dtype):
    a = zeros(2, 2, dtype=getattr(vt, dtype))
    with pytest.raises((NotImplementedError, RuntimeError)):
        a @ a


def test_workspace_comes_from_the_allocator(driver):
    a, b = zeros(16, 8192), zeros(8192, 16)
    a @ b  # the stand-in wants a workspace for a long inner dimension
    driver.clear()
    driver.record()
    before = driver.counters()["allocations"]
    a @ b
    driver.record(False)
    assert driver.counters()["allocations"] == before  # kept for the next call
    call = [e for e in driver.log() if e["name"] == PRODUCT]
    assert len(call) == 1 and len(call[0]["touched"]) == 4


def test_products_under_capture_at_first_use(driver, stats):
    a, b, bias = zeros(8, 48), zeros(48, 16), zeros(16)
    graph = vt.cuda.CUDAGraph()
    with vt.cuda.graph(graph):
        c = vt.addmm(bias, a, b)
        long = zeros(4, 8192) @ zeros(8192, 4)
    assert stats()["plans"] == 2
    graph.replay()
    del c, long


def test_side_streams_are_ordered(driver):
    a, b = zeros(8, 8), zeros(8, 8)
    s = vt.cuda.Stream()
    s.wait_stream(vt.cuda.current_stream())
    with vt.cuda.stream(s):
        c = a[:, ::2] @ b[::2]
    a.record_stream(s)
    b.record_stream(s)
    vt.cuda.current_stream().wait_stream(s)
    c @ c


# --- attention and conv1d ------------------------------------------------------------------------------


@pytest.fixture
def composed():
    """Attention by products and a softmax kernel, not by the fused kernels."""
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        yield


def packed(batch, time, heads, features, dtype=vt.float32):
    """(batch, heads, time, features) as a projection leaves it."""
    return (
        zeros(batch, time, heads * features, dtype=dtype)
        .view(batch, time, heads, features)
        .transpose(1, 2)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_attention_launches(driver, composed, dtype):
    kind = getattr(vt, dtype)
    q = zeros(2, 4, 16, 8, dtype=kind)
    names = driver.launches(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True))
    suffix = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}[dtype]
    softmax = f"vt_attention_softmax_128_{suffix}"
    # The result lies as (batch, time, heads, features).
    assert names == [PRODUCT, softmax, PRODUCT, "vt_strided_copy_16"]
    x = packed(2, 16, 4, 8, kind)
    names = driver.launches(lambda: F.scaled_dot_product_attention(x, x, x))
    assert names == ["vt_strided_copy_16", PRODUCT, softmax, PRODUCT, "vt_strided_copy_16"]


@pytest.mark.parametrize(
    ("keys", "kernel"), [(128, "128"), (129, "256"), (512, "512"), (1024, "1024"), (1025, "loop")]
)
def test_attention_by_length(driver, composed, keys, kernel):
    q, k = zeros(1, 1, 4, 8), zeros(1, 1, keys, 8)
    names = driver.launches(lambda: F.scaled_dot_product_attention(q, k, k))
    assert names == [PRODUCT, f"vt_attention_softmax_{kernel}_f32", PRODUCT]


def test_attention_backward_launches(driver, composed):
    q, k, v = (zeros(2, 2, 16, 8, requires_grad=True) for _ in range(3))
    out = F.scaled_dot_product_attention(q, k, v)
    grad = zeros(2, 2, 16, 8)
    names = driver.launches(lambda: out.backward(grad))
    assert [n for n in names if n.startswith(("cublas", "vt_attention"))] == [
        PRODUCT,
        PRODUCT,
        "vt_attention_grad_128_f32",
        PRODUCT,
        PRODUCT,
        PRODUCT,
    ]
    v2 = v.detach().requires_grad_()
    out = F.scaled_dot_product_attention(q.detach(), k.detach(), v2)
    names = driver.launches(lambda: out.backward(grad))
    assert names.count(PRODUCT) == 2  # scores, and the gradient of the values


def test_large_scores_are_made_in_parts(driver, composed):
    q = zeros(4, 8, 2048, 8, dtype=vt.bfloat16)  # 512 MiB of scores
    vt.cuda.reset_peak_memory_stats()
    before = vt.cuda.memory_allocated()
    names = driver.launches(lambda: F.scaled_dot_product_attention(q, q, q))
    assert names.count("vt_attention_softmax_loop_bf16") == 2
    assert vt.cuda.max_memory_allocated() - before < 300 << 20
    one = zeros(1, 1, 16384, 8)  # 1 GiB for a single head: its rows are split
    names = driver.launches(lambda: F.scaled_dot_product_attention(one, one, one))
    assert names.count("vt_attention_softmax_loop_f32") == 4


def test_grouped_heads_are_one_product(driver, composed):
    q, k = zeros(2, 8, 16, 8), zeros(2, 2, 16, 8)
    names = driver.launches(lambda: F.scaled_dot_product_attention(q, k, k, enable_gqa=True))
    assert names.count(PRODUCT) == 2


def test_conv1d_launches(driver):
    x, w, bias = zeros(2, 4, 32), zeros(6, 4, 3), zeros(6)
    names = driver.launches(lambda: F.conv1d(x, w, bias, padding=1))
    assert names == ["vt_conv_columns_4", "vt_strided_copy_4", PRODUCT]
    grouped = zeros(8, 1, 3)
    names = driver.launches(lambda: F.conv1d(zeros(2, 8, 32), grouped, groups=8))
    assert names[-1] == "vt_conv_forward_f32"


def test_linear_gelu(driver):
    op = vt.ops.surface("ops")["_linear_gelu"]
    for dtype, name in ((vt.bfloat16, "bf16"), (vt.float32, "f32")):
        x, w, bias, odd = (zeros(*s, dtype=dtype) for s in ((4, 64), (16, 64), (16,), (5, 64)))
        beside = [PRODUCT, f"vt_matrix_gelu_{name}"]
        # The library's GELU is not good enough for float32.
        alone = [PRODUCT] if dtype == vt.bfloat16 else beside
        assert driver.launches(lambda: op(x, w, bias, False)) == alone
        assert driver.launches(lambda: op(x, w, bias, True)) == alone  # and what its gradient needs
        assert driver.launches(lambda: op(x, odd, None, True)) == beside


def test_linear_gelu_on_the_host():
    op = vt.ops.surface("ops")["_linear_gelu"]
    x, w, b = torch.randn(4, 8), torch.randn(5, 8), torch.randn(5)
    expected = torch.nn.functional.gelu(torch.nn.functional.linear(x, w, b), approximate="tanh")
    for keep in (False, True):
        ours = [vt.from_numpy(t.numpy()).clone().requires_grad_() for t in (x, w, b)]
        theirs = [t.clone().requires_grad_() for t in (x, w, b)]
        y = op(*ours, keep)[0]
        torch.testing.assert_close(torch.tensor(y.tolist()), expected, rtol=1e-5, atol=1e-5)
        y.sum().backward()
        torch.nn.functional.gelu(
            torch.nn.functional.linear(*theirs), approximate="tanh"
        ).sum().backward()
        for a, t in zip(ours, theirs, strict=True):
            torch.testing.assert_close(torch.tensor(a.grad.tolist()), t.grad, rtol=1e-4, atol=1e-5)
