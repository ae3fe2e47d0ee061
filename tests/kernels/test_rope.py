"""The rope kernel in Triton's interpreter, its host code on the simulated driver, and on a device."""

import itertools

import pytest
import torch

import vibetensor as vt
import vibetensor.nn.functional as F

INTERPRETED = """
import torch
from vibetensor.kernels.rope import rope_kernel

worst = 0.0
for interleaved in (False, True):
    for heads, features, pairs, packed in ((3, 16, 8, False), (2, 12, 5, True)):
        x = torch.randn(2, 5, heads, 3, features)[:, :, :, 1] if packed else torch.randn(2, 5, heads, features)
        cos, sin = torch.randn(5, pairs), torch.randn(5, pairs)
        first = slice(0, 2 * pairs, 2) if interleaved else slice(0, pairs)
        second = slice(1, 2 * pairs, 2) if interleaved else slice(pairs, 2 * pairs)
        for sign in (1.0, -1.0):
            a, b, c, s = x[..., first], x[..., second], cos[:, None], sign * sin[:, None]
            expected = x.clone()
            expected[..., first], expected[..., second] = a * c - b * s, b * c + a * s
            out = torch.full(x.shape, torch.nan)
            rope_kernel[(2 * 3, (heads + 1) // 2)](
                x, out, cos, sin, 5, heads, features, *x.stride(), *out.stride(), pairs, pairs, sign,
                PAIRS=pairs, BLOCK_TIME=2, BLOCK_HEADS=2, BLOCK_PAIRS=8,
                BLOCK_REST=2 if features > 2 * pairs else 0, INTERLEAVED=interleaved, UNIT=True,
            )
            worst = max(worst, (out - expected).abs().max().item())
print(worst)
"""


def test_interpreted(python):
    assert float(python(INTERPRETED, forbid=(), TRITON_INTERPRET="1")) < 1e-6


def formula(x, cos, sin, interleaved):
    n = cos.shape[1]
    first = slice(0, 2 * n, 2) if interleaved else slice(0, n)
    second = slice(1, 2 * n, 2) if interleaved else slice(n, 2 * n)
    a, b = x[..., first].double(), x[..., second].double()
    c, s = cos[:, None].double(), sin[:, None].double()
    out = x.double().clone()
    out[..., first], out[..., second] = a * c - b * s, b * c + a * s
    return out


@pytest.mark.parametrize("interleaved", [False, True])
def test_gradients(interleaved):
    cos, sin = vt.randn(3, 2, dtype=vt.float64), vt.randn(3, 2, dtype=vt.float64)
    x = vt.randn(2, 3, 2, 5, dtype=vt.float64).requires_grad_()

    def f(x):
        return F.rotary_embedding(x, cos, sin, interleaved)

    assert vt.autograd.gradcheck(f, (x,)) and vt.autograd.gradgradcheck(f, (x,))


def test_mixed_dtypes():
    """The angles may be wider than what is turned, and need not be contiguous."""
    x = torch.randn(2, 3, 2, 8).bfloat16()
    cos, sin = torch.randn(4, 3), torch.randn(4, 3)
    ours = F.rotary_embedding(vt.from_dlpack(x), vt.from_dlpack(cos).T, vt.from_dlpack(sin).T)
    exact = formula(x, cos.T, sin.T, False)
    assert (torch.from_dlpack(ours).double() - exact).abs().max() < 3e-2


@pytest.mark.parametrize(
    ("x", "cos", "sin", "text"),
    [
        ((3, 2, 8), (3, 4), (3, 4), "expected input of shape"),
        ((1, 3, 2, 8), (2, 4), (2, 4), "expected cos of shape"),
        ((1, 3, 2, 8), (3, 5), (3, 5), "at most features / 2 pairs"),
        ((1, 3, 2, 8), (3, 4), (3, 3), "expected sin of the shape and dtype of cos"),
    ],
)
def test_bad_input(x, cos, sin, text):
    with pytest.raises(RuntimeError, match=text):
        F.rotary_embedding(vt.ones(x), vt.ones(cos), vt.ones(sin))
    with pytest.raises(NotImplementedError):
        F.rotary_embedding(vt.ones(1, 3, 2, 8, dtype=vt.int64), vt.ones(3, 4), vt.ones(3, 4))


# --- on the simulated driver -------------------------------------------------------------------------


def test_one_launch_each_way(driver):
    packed = vt.empty(2, 6, 3, 4, 16, dtype=vt.bfloat16, device="cuda").requires_grad_()
    angles = vt.empty(6, 8, device="cuda")
    driver.record()
    out = F.rotary_embedding(packed[:, :, 0], angles, angles)
    assert [e["name"] for e in driver.log() if e["kind"] == "launch"] == ["rope_kernel"]
    out.backward(vt.empty_like(out))
    assert [e["name"] for e in driver.log() if e["kind"] == "launch"][:2] == ["rope_kernel"] * 2
    assert driver.violations() == []


def test_streams_are_checked(driver):
    x, angles = vt.empty(1, 4, 2, 8, device="cuda"), vt.empty(4, 4, device="cuda")
    out = F.rotary_embedding(x, angles, angles)
    with vt.cuda.stream(vt.cuda.Stream()):
        out + 1
    assert len(driver.violations()) == 1
    driver.clear()
    with vt.cuda.stream(vt.cuda.Stream()):
        F.rotary_embedding(angles.view(1, 4, 1, 4), angles[:, :2], angles[:, :2])  # reads
    assert "write" not in "".join(driver.violations())


def test_first_use_in_a_capture(driver):
    x, angles = vt.empty(1, 4, 2, 8, device="cuda"), vt.empty(4, 4, device="cuda")
    graph = vt.cuda.CUDAGraph()
    with vt.cuda.graph(graph):
        F.rotary_embedding(x, angles, angles)
    before = driver.counters()["launches"]
    graph.replay()
    assert driver.counters()["launches"] == before + 1


def test_nothing_to_do(driver):
    angles = vt.empty(4, 4, device="cuda")
    driver.clear()
    F.rotary_embedding(vt.empty(0, 4, 2, 8, device="cuda"), angles, angles)
    assert driver.counters()["launches"] == 0


def test_without_triton(python):
    code = """
    import vibetensor as vt
    import vibetensor.kernels
    assert not vt.kernels.is_available()
    x = vt.ones(1, 4, 2, 8, device="cuda")
    try:
        vt.nn.functional.rotary_embedding(x, x[0, :, 0, :4], x[0, :, 0, :4])
    except RuntimeError as error:
        print(error)
    """
    said = python(code, forbid=("torch", "triton"), VIBETENSOR_CUDA_DRIVER="simulated")
    assert "pip install 'vibetensor[cuda]'" in said


# --- on a device ---------------------------------------------------------------------------------------

LAYOUTS = {
    "contiguous": lambda x: x,
    "packed": lambda x: torch.stack([x, x, x], 2)[:, :, 1],
    "heads first": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "features strided": lambda x: torch.stack([x, x], -1)[..., 0],
}
SHAPES = [
    (2, 37, 12, 64, 32),
    (3, 5, 3, 96, 48),
    (2, 17, 4, 128, 64),
    (1, 9, 2, 33, 7),
    (2, 3, 1, 6, 3),
]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_on_a_device(device, dtype, layout):
    for (*shape, pairs), interleaved in itertools.product(SHAPES, (False, True)):
        x = LAYOUTS[layout](torch.randn(shape, dtype=torch.float64).to(getattr(torch, dtype)))
        cos, sin = torch.randn(2, shape[1], pairs).unbind()
        ours = vt.from_dlpack(x).to(device)
        ours = vt.as_strided(ours, ours.shape, ours.stride()).requires_grad_()
        out = F.rotary_embedding(
            ours, vt.from_dlpack(cos).to(device), vt.from_dlpack(sin).to(device), interleaved
        )
        exact = formula(x, cos, sin, interleaved)
        error = (torch.from_dlpack(out.detach().cpu()).double() - exact).abs()
        assert (error <= bound(x, exact, cos, sin, interleaved)).all()
        out.backward(out.detach())
        x = torch.from_dlpack(out.detach().cpu())
        exact = formula(x, cos, -sin, interleaved)
        error = (torch.from_dlpack(ours.grad.cpu()).double() - exact).abs()
        assert (error <= bound(x, exact, cos, sin, interleaved)).all()


def bound(x, exact, cos, sin, interleaved):
    """Rounding of the result to its dtype, and of two products and a sum in the wider one."""
    wide = torch.promote_types(x.dtype, torch.float32)
    terms = formula(x.abs(), cos.abs(), -sin.abs(), interleaved).abs()
    terms = torch.maximum(terms, formula(x.abs(), cos.abs(), sin.abs(), interleaved).abs())
    own = torch.finfo(x.dtype)
    return 0.51 * own.eps * exact.abs() + 2 * torch.finfo(wide).eps * terms + own.eps * own.tiny
