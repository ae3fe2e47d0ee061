"""Every operator on a list of autocast: the dtype and the value of its result, against PyTorch.

PyTorch on the CPU is the oracle for the CPU's lists. What its CUDA lists give is written down here as
data, and compared on the simulated driver, which knows dtypes but no values.
"""

import itertools

import pytest
import torch

import vibetensor as vt
from vibetensor._gen.load import load

OPS = load().OPS
DTYPES = ("bfloat16", "float16", "float32", "float64")
LOW = ("bfloat16", "float16")


def draw(lib, dtype, *shape, device="cpu"):
    """The same positive numbers in both libraries."""
    n = 1
    for size in shape:
        n *= size
    values = [0.25 + ((7 * i) % 11) / 8 for i in range(n)]
    return lib.tensor(values, dtype=getattr(lib, dtype)).reshape(shape).to(device)


def ints(lib, *values, device="cpu"):
    return lib.tensor(values, dtype=lib.int64).to(device)


# name: function(lib, x, i) with x(which, *shape) a tensor of the first or second dtype, i(*values) an
# int64 tensor. Results are a tensor.
def linear_gelu(lib, x, weight, bias):
    """Ours, and of PyTorch what it stands for; so the next two."""
    F = lib.nn.functional
    if hasattr(F, "linear_gelu"):
        return F.linear_gelu(x, weight, bias)
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


def gelu_mlp(lib, x, weight1, bias1, weight2, bias2):
    F = lib.nn.functional
    if hasattr(F, "gelu_mlp"):
        return F.gelu_mlp(x, weight1, bias1, weight2, bias2)
    return F.linear(linear_gelu(lib, x, weight1, bias1), weight2, bias2)


def linear_cross_entropy(lib, x, weight, target):
    F = lib.nn.functional
    if lib is vt:
        return F.linear_cross_entropy(x, weight, target)
    return F.cross_entropy(F.linear(x, weight), target)


CASES = {
    "mm": lambda lib, x, i: lib.mm(x(0, 3, 4), x(1, 4, 2)),
    "bmm": lambda lib, x, i: lib.bmm(x(0, 2, 3, 4), x(1, 2, 4, 2)),
    "addmm": lambda lib, x, i: lib.addmm(x(1, 2), x(0, 3, 4), x(1, 4, 2)),
    "matmul": lambda lib, x, i: x(0, 2, 3, 4) @ x(1, 4, 2),
    "linear": lambda lib, x, i: lib.nn.functional.linear(x(0, 2, 3, 4), x(1, 2, 4), x(1, 2)),
    "baddbmm": lambda lib, x, i: lib.baddbmm(x(1, 2), x(0, 2, 3, 4), x(1, 2, 4, 2)),
    "linear_gelu": lambda lib, x, i: linear_gelu(lib, x(0, 2, 3, 4), x(1, 2, 4), x(1, 2)),
    "gelu_mlp": lambda lib, x, i: gelu_mlp(
        lib, x(0, 2, 3, 4), x(1, 5, 4), x(1, 5), x(1, 2, 5), x(1, 2)
    ),
    "linear_cross_entropy": lambda lib, x, i: linear_cross_entropy(
        lib, x(0, 2, 4), x(1, 4, 4), i(3, 1)
    ),
    "conv1d": lambda lib, x, i: lib.nn.functional.conv1d(x(0, 1, 2, 5), x(1, 3, 2, 2), x(1, 3)),
    "scaled_dot_product_attention": lambda lib, x, i: (
        lib.nn.functional.scaled_dot_product_attention(
            x(0, 1, 2, 3, 4), x(1, 1, 2, 3, 4), x(1, 1, 2, 3, 4), attn_mask=x(1, 3, 3)
        )
    ),
    "exp": lambda lib, x, i: lib.exp(x(0, 3)),
    "expm1": lambda lib, x, i: lib.expm1(x(0, 3)),
    "log": lambda lib, x, i: x(0, 3).log(),
    "log2": lambda lib, x, i: lib.log2(x(0, 3)),
    "log1p": lambda lib, x, i: lib.log1p(x(0, 3)),
    "reciprocal": lambda lib, x, i: lib.reciprocal(x(0, 3)),
    "rsqrt": lambda lib, x, i: lib.rsqrt(x(0, 3)),
    "pow": lambda lib, x, i: x(0, 3) ** 1.5,
    "square": lambda lib, x, i: lib.square(x(0, 3)),
    "true_divide": lambda lib, x, i: 2 / x(0, 3),
    "layer_norm": lambda lib, x, i: lib.nn.functional.layer_norm(
        x(0, 2, 4), (4,), x(1, 4), x(1, 4)
    ),
    "rms_norm": lambda lib, x, i: lib.nn.functional.rms_norm(x(0, 2, 4), (4,), x(1, 4), 1e-5),
    "cross_entropy": lambda lib, x, i: lib.nn.functional.cross_entropy(x(0, 2, 4), i(3, 1)),
    "cross_entropy_of_each": lambda lib, x, i: lib.nn.functional.cross_entropy(
        x(0, 2, 4), i(3, 1), x(1, 4), label_smoothing=0.25, reduction="none"
    ),
    "cross_entropy_of_probabilities": lambda lib, x, i: lib.nn.functional.cross_entropy(
        x(0, 2, 4), x(1, 2, 4)
    ),
    "nll_loss": lambda lib, x, i: lib.nn.functional.nll_loss(x(0, 2, 4), i(3, 1)),
    "mse_loss": lambda lib, x, i: lib.nn.functional.mse_loss(x(0, 3), x(1, 3)),
    "sum": lambda lib, x, i: x(0, 2, 3).sum(1),
    "prod": lambda lib, x, i: lib.prod(x(0, 3)),
    "cumsum": lambda lib, x, i: lib.cumsum(x(0, 3), 0),
    "softmax": lambda lib, x, i: x(0, 2, 3).softmax(-1),
    "log_softmax": lambda lib, x, i: lib.nn.functional.log_softmax(x(0, 2, 3), -1),
    "cat": lambda lib, x, i: lib.cat([x(0, 3), x(1, 2)]),
    "stack": lambda lib, x, i: lib.stack([x(0, 3), x(1, 3)]),
    "index_put": lambda lib, x, i: x(0, 4).index_put((i(0, 2),), x(1, 2)),
    "scatter_add": lambda lib, x, i: lib.scatter_add(x(0, 4), 0, i(0, 2), x(1, 2)),
    # On no list: they run in what they are given.
    "add": lambda lib, x, i: x(0, 3) + x(1, 3),
    "mean": lambda lib, x, i: x(0, 3).mean(),
    "sqrt": lambda lib, x, i: lib.sqrt(x(0, 3)),
    "gelu": lambda lib, x, i: lib.nn.functional.gelu(x(0, 3)),
    "where": lambda lib, x, i: lib.where(x(0, 3) > 1, x(0, 3), x(1, 3)),
    "std": lambda lib, x, i: x(0, 3).std(),
}
# Of which no function is public; the latter two are cross_entropy's.
PRIVATE = {"_linear_gelu", "_cross_entropy", "_cross_entropy_probabilities"}


def run(lib, name, dtypes, low, device="cpu"):
    with lib.autocast(device, getattr(lib, low)):
        return CASES[name](
            lib,
            lambda which, *shape: draw(lib, dtypes[which], *shape, device=device),
            lambda *values: ints(lib, *values, device=device),
        )


# PyTorch's lists: whatever of them is declared here, now or later, has to be on ours.
PYTORCH = {
    ("cuda", "lower"): "conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d "
    "conv_transpose3d convolution prelu addmm addmv addr matmul einsum mm mv vecdot linear addbmm "
    "baddbmm bmm chain_matmul multi_dot lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell "
    "scaled_dot_product_attention",
    ("cuda", "float32"): "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt "
    "sinh tan pow softplus layer_norm rms_norm group_norm cosine_similarity poisson_nll_loss "
    "cosine_embedding_loss nll_loss hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss "
    "mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss "
    "multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp norm",
    ("cuda", "float32_dtype"): "prod softmax log_softmax cumprod cumsum vector_norm "
    "matrix_norm sum",
    ("cuda", "widest"): "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put "
    "tensordot scatter_add cat stack",
    ("cpu", "lower"): "conv1d conv2d conv3d bmm mm vecdot baddbmm addmm addbmm linear matmul "
    "conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d prelu "
    "scaled_dot_product_attention",
    ("cpu", "float32"): "avg_pool3d binary_cross_entropy grid_sampler polar quantile nanquantile "
    "stft cdist trace view_as_complex cholesky inverse mse_loss cosine_embedding_loss nll_loss "
    "hinge_embedding_loss poisson_nll_loss l1_loss huber_loss margin_ranking_loss "
    "soft_margin_loss triplet_margin_loss multi_margin_loss ctc_loss kl_div smooth_l1_loss "
    "multilabel_margin_loss binary_cross_entropy_with_logits",
    ("cpu", "float32_dtype"): "prod",
    ("cpu", "widest"): "cat stack index_copy",
}


@pytest.mark.parametrize(("device", "policy"), PYTORCH)
def test_what_pytorch_lists_is_listed(device, policy):
    names = [name for name in PYTORCH[device, policy].split() if name in OPS]
    assert names or policy == "float32", "nothing to compare"
    assert {name: OPS[name].autocast.get(device) for name in names} == dict.fromkeys(names, policy)


def test_every_listed_operator_has_a_case():
    listed = {name for name, op in OPS.items() if op.autocast}
    assert listed - PRIVATE <= set(CASES)


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("name", CASES)
def test_cpu_results_are_those_of_pytorch(name, low):
    compared = 0
    for dtypes in itertools.product(DTYPES, DTYPES):
        if name == "rms_norm" and dtypes.count("float64") == 1:
            continue  # PyTorch promotes, in a region or not; here the dtypes have to be the same
        try:
            expected = run(torch, name, dtypes, low)
        except RuntimeError:
            continue  # a mix that PyTorch refuses
        got = run(vt, name, dtypes, low)
        assert str(got.dtype).split(".")[1] == str(expected.dtype).split(".")[1], dtypes
        computed = {*dtypes, low, str(expected.dtype).split(".")[1]}
        tolerance = 2e-2 if "bfloat16" in computed else 3e-3 if "float16" in computed else 1e-5
        torch.testing.assert_close(
            torch.tensor(got.double().tolist(), dtype=torch.float64),
            expected.double(),
            rtol=tolerance,
            atol=tolerance,
        )
        compared += 1
    assert compared >= 4


# What PyTorch's lists for CUDA give for (first dtype, second dtype), in a float16 region.
FIRST, SECOND = ("float16", "float32", "bfloat16"), ("float16", "float32")
CUDA_RESULTS = {
    "low": "mm bmm addmm baddbmm matmul linear linear_gelu gelu_mlp conv1d "
    "scaled_dot_product_attention",
    "float32": "exp expm1 log log2 log1p reciprocal rsqrt pow square true_divide layer_norm rms_norm "
    "cross_entropy cross_entropy_of_each cross_entropy_of_probabilities nll_loss mse_loss sum prod "
    "cumsum softmax log_softmax linear_cross_entropy",
    "widest": "cat stack index_put scatter_add",
    "first": "mean sqrt gelu std",
    "promoted": "add where",
}


def cuda_result(kind, first, second):
    if kind in ("low", "float32", "first"):
        return {"low": "float16", "float32": "float32", "first": first}[kind]
    return first if first == second else "float32"


def test_cuda_result_dtypes(driver):
    expectations = {name: kind for kind, names in CUDA_RESULTS.items() for name in names.split()}
    assert set(expectations) == set(CASES)
    for name, kind in expectations.items():
        for first, second in itertools.product(FIRST, SECOND):
            got = run(vt, name, (first, second), "float16", "cuda")
            expected = cuda_result(kind, first, second)
            assert str(got.dtype) == f"vibetensor.{expected}", (name, first, second)


def test_cuda_leaves_float64_alone(driver):
    for name in ("exp", "softmax", "sum", "cat", "mm", "layer_norm"):
        got = run(vt, name, ("float64", "float64"), "bfloat16", "cuda")
        assert got.dtype == vt.float64, name


def test_a_region_concerns_the_tensors_of_its_device(driver):
    x, y = vt.ones(2, 2), vt.ones(2, 2, device="cuda")
    with vt.autocast("cuda"):
        assert (x @ x).dtype == vt.float32
        assert (y @ y).dtype == vt.float16
        with vt.autocast("cpu"):
            assert (x @ x).dtype == vt.bfloat16
            assert (y @ y).dtype == vt.float16
            assert y.exp().dtype == vt.float32
    with vt.autocast("cpu"):
        assert (y @ y).dtype == vt.float32
        assert (y.half() * 2).sum().dtype == vt.float16


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_float32_loss_of_low_logits(place, low, reduction):
    """The loss and the gradient of logits that were cast to float32, the gradient rounded once."""
    logits = torch.randn(6, 9, 4, generator=torch.Generator().manual_seed(0)).tolist()
    logits = vt.tensor(logits, dtype=getattr(vt, low), device=place)
    target = vt.tensor([[0, 8, 3, -100]] * 6, device=place)
    weight = vt.linspace(0.5, 1.5, 9, device=place)
    for shape in ((6, 9, 4), (24, 9)):
        x = logits.reshape(shape).requires_grad_()
        wide = x.detach().float().requires_grad_()
        t = target if len(shape) == 3 else target.reshape(-1)
        options = {"weight": weight, "label_smoothing": 0.125, "reduction": reduction}
        expected = vt.nn.functional.cross_entropy(wide, t, **options)
        with vt.autocast(place, getattr(vt, low)):
            got = vt.nn.functional.cross_entropy(x, t, **options)
        assert got.dtype == vt.float32
        (got * 1024.0).sum().backward()
        (expected * 1024.0).sum().backward()
        assert x.grad.dtype == x.dtype
        # On the CPU the same additions in the same order; of a pack on CUDA in another one.
        exact = {"rtol": 0, "atol": 0}
        close = exact if place == "cpu" else {"rtol": 1e-6, "atol": 1e-6}
        torch.testing.assert_close(
            torch.tensor(got.tolist()), torch.tensor(expected.tolist()), **close
        )
        digits = 2.0**-7 if low == "bfloat16" else 2.0**-10
        close = exact if place == "cpu" else {"rtol": digits, "atol": 1e-5}
        torch.testing.assert_close(
            torch.tensor(x.grad.float().tolist()),
            torch.tensor(wide.grad.to(x.dtype).float().tolist()),
            **close,
        )


def test_a_loss_of_low_logits_casts_nothing(driver):
    x = vt.zeros(8, 16, dtype=vt.bfloat16, device="cuda", requires_grad=True)
    t = vt.zeros(8, dtype=vt.int64, device="cuda")
    driver.clear()
    driver.record()
    with vt.autocast("cuda", vt.bfloat16):
        loss = vt.nn.functional.cross_entropy(x, t)
    loss.backward()
    driver.record(False)
    names = [e["name"] for e in driver.log() if e["kind"] == "launch"]
    assert loss.dtype == vt.float32
    assert x.grad.dtype == vt.bfloat16
    assert [n for n in names if "fill" not in n] == [
        "vt_cross_entropy_bf16", "vt_cross_entropy_finish_f32", "vt_cross_entropy_backward_bf16",
    ]  # fmt: skip
