"""Regions of autocast: state, kept casts, gradients, custom functions."""

import threading

import numpy as np
import pytest
import torch

import vibetensor as vt
from vibetensor import nn
from vibetensor.nn import functional as F


def test_state_of_a_region():
    assert not vt.is_autocast_enabled("cpu") and not vt.is_autocast_enabled()
    assert vt.get_autocast_dtype("cpu") == vt.bfloat16
    assert vt.get_autocast_dtype("cuda") == vt.float16
    with vt.autocast("cpu", vt.float16, cache_enabled=False) as region:
        assert region.fast_dtype == vt.float16
        assert vt.is_autocast_enabled("cpu") and not vt.is_autocast_enabled("cuda")
        assert vt.get_autocast_dtype("cpu") == vt.float16
        assert not vt.is_autocast_cache_enabled()
        with vt.autocast("cpu", enabled=False):
            assert not vt.is_autocast_enabled("cpu")
        with region:  # again
            assert vt.get_autocast_dtype("cpu") == vt.float16
        assert vt.is_autocast_enabled("cpu")
    assert not vt.is_autocast_enabled("cpu") and vt.is_autocast_cache_enabled()
    assert vt.get_autocast_dtype("cpu") == vt.bfloat16


def test_an_error_leaves_the_region():
    x = vt.ones(2, 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), vt.autocast("cpu"):
        try:
            x @ vt.ones(3, 3)
        finally:
            assert vt.is_autocast_enabled("cpu"), "the operator that raised left it on"
    assert not vt.is_autocast_enabled("cpu")
    assert (x @ x).dtype == vt.float32


def test_decorator_of_functions_and_generators():
    x = vt.ones(2, 2)

    @vt.autocast("cpu")
    def product(depth):
        """Docs."""
        return [(x @ x).dtype] + (product(depth - 1) if depth else [])

    @vt.autocast("cpu", dtype=vt.float16)
    def products():
        yield (x @ x).dtype
        yield (x @ x).dtype

    assert product(2) == [vt.bfloat16] * 3 and product.__doc__ == "Docs."
    for dtype in products():
        assert dtype == vt.float16
        assert (x @ x).dtype == vt.float32
    with pytest.raises(TypeError):
        vt.autocast("cpu")(3)


def test_functions_that_set_the_state():
    vt.set_autocast_enabled("cpu", True)
    try:
        vt.set_autocast_dtype("cpu", vt.float16)
        assert (vt.ones(2, 2) @ vt.ones(2, 2)).dtype == vt.float16
    finally:
        vt.set_autocast_enabled("cpu", False)
        vt.set_autocast_dtype("cpu", vt.bfloat16)
    assert vt.autocast_increment_nesting() == 1 and vt.autocast_decrement_nesting() == 0


def test_errors():
    with pytest.raises(ValueError, match="Expected `device_type` of type `str`, got: `int`"):
        vt.autocast(3)
    with pytest.raises(TypeError, match=r"autocast\(\): dtype must be vibetensor.dtype, not str"):
        vt.autocast("cpu", "bfloat16")
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'tpu'"):
        vt.autocast("tpu")
    with pytest.raises(RuntimeError, match="unknown device type for autocast: 'tpu'"):
        vt.is_autocast_enabled("tpu")
    with pytest.raises(RuntimeError, match=r"not in vibetensor\.float32"):
        vt.set_autocast_dtype("cpu", vt.float32)
    with pytest.raises(TypeError, match="must be bool"):
        vt.set_autocast_enabled("cpu", 1)
    with pytest.warns(UserWarning, match="CPU Autocast only supports"):
        region = vt.autocast("cpu", vt.float64)
    with region:
        assert not vt.is_autocast_enabled("cpu")
    assert vt.get_autocast_dtype("cpu") == vt.bfloat16
    assert vt.amp.is_autocast_available("cpu") and not vt.amp.is_autocast_available("meta")


def test_inplace_and_out_are_not_cast():
    x, out = vt.ones(2, 2), vt.empty(2, 2)
    with vt.autocast("cpu"):
        assert vt.mm(x * 1.001, x, out=out) is out
        assert vt.is_autocast_enabled("cpu")
    assert out[0, 0].item() == pytest.approx(2.002, rel=1e-6), "it ran in float32"


def test_regions_are_of_their_thread():
    seen = []

    def other():
        x = vt.ones(2, 2)
        seen.append((vt.is_autocast_enabled("cpu"), (x @ x).dtype))

    with vt.autocast("cpu"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [(False, vt.float32)]


# --- kept casts --------------------------------------------------------------------------------------


def cast_of(weight):
    """The node that cast the weight of a product."""
    out = vt.ones(1, 2) @ weight
    return out.grad_fn.next_functions[1][0]


def test_a_weight_is_cast_once():
    weight = vt.ones(2, 2, requires_grad=True)
    with vt.autocast("cpu"):
        first = cast_of(weight)
        assert first.name() == "ToCopyBackward0"
        assert cast_of(weight) is first
        with vt.autocast("cpu"):
            assert cast_of(weight) is first
        assert cast_of(weight) is first, "an inner region keeps it"
        with vt.autocast("cpu", vt.float16):
            assert (vt.ones(1, 2) @ weight).dtype == vt.float16
        with vt.autocast("cpu", cache_enabled=False):
            assert cast_of(weight) is not cast_of(weight)
        vt.clear_autocast_cache()
        assert cast_of(weight) is not first
    with vt.autocast("cpu"):
        assert cast_of(weight) is not first


def test_what_is_no_weight_is_cast_anew():
    leaf = vt.ones(4, 2, requires_grad=True)
    with vt.autocast("cpu"):
        for other in (leaf[:2], leaf.reshape(2, 4)[:, :2] * 1):
            assert cast_of(other) is not cast_of(other)


def test_a_changed_weight_is_cast_anew():
    weight = vt.ones(2, 2, requires_grad=True)
    optimizer = vt.optim.SGD([weight], lr=1.0)
    with vt.autocast("cpu"):
        (vt.ones(1, 2) @ weight).sum().backward()
        assert (vt.ones(1, 2) @ weight).tolist() == [[2.0, 2.0]]
        optimizer.step()
        assert (vt.ones(1, 2) @ weight).tolist() == [[0.0, 0.0]]
        with vt.no_grad():
            weight.fill_(3.0)
        assert (vt.ones(1, 2) @ weight).tolist() == [[6.0, 6.0]]
        weight.data = vt.zeros(2, 2)
        assert (vt.ones(1, 2) @ weight).tolist() == [[0.0, 0.0]]


def test_a_cast_of_no_grad_is_not_taken_for_one_with_history():
    weight = vt.ones(2, 2, requires_grad=True)
    with vt.autocast("cpu"):
        with vt.no_grad():
            assert not (vt.ones(1, 2) @ weight).requires_grad
        with vt.inference_mode():
            vt.ones(1, 2) @ weight
        (vt.ones(1, 2) @ weight).sum().backward()
        assert weight.grad is not None and weight.grad.dtype == vt.float32
        node = cast_of(weight)
        with vt.no_grad():
            assert not (vt.ones(1, 2) @ weight).requires_grad
        assert cast_of(weight) is node, "the one with history serves both"


def test_two_backwards_through_one_cast():
    weight = vt.ones(2, 2, requires_grad=True)
    with vt.autocast("cpu"):
        (vt.ones(1, 2) @ weight).sum().backward()
        (vt.ones(1, 2) @ weight).sum().backward()
    assert weight.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_casts_of_lists_have_the_values_of_single_casts(dtype):
    rounded = getattr(vt, dtype)
    special = vt.tensor([float("inf"), -float("inf"), float("nan"), 0.0, -0.0, 1e-40, 7e4, 3e38])
    tensors = [
        special, vt.randn(5000), vt.randn(0, 3), vt.tensor(2.5), vt.randn(20, 30)[:, 4:9],
        vt.randn(6, 5).T, vt.randn(33)[1:],
    ]  # fmt: skip
    results = [vt.empty_like(t, dtype=rounded) for t in tensors]
    vt.ops._cast_tensors_(results, tensors)
    for result, t in zip(results, tensors, strict=True):
        expected = torch.from_numpy(t.contiguous().numpy()).to(getattr(torch, dtype)).double()
        assert np.array_equal(result.double().numpy(), expected.numpy(), equal_nan=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        vt.ops._cast_tensors_([vt.empty(2)], [vt.empty(2)])
    with pytest.raises(RuntimeError, match="not implemented"):
        vt.ops._cast_tensors_([vt.empty(2, dtype=rounded)], [vt.empty(2, dtype=vt.float64)])


def test_many_weights_and_their_release():
    import weakref

    weights = [vt.full((2, 2), float(i), requires_grad=True) for i in range(300)]
    with vt.autocast("cpu"):
        for _ in range(2):
            for i, weight in enumerate(weights):
                assert (vt.ones(1, 2) @ weight).tolist()[0][0] == 2 * i if i < 100 else True
        nodes = [cast_of(w) for w in weights]
        assert all(cast_of(w) is n for w, n in zip(weights, nodes, strict=True))
        watched = weakref.ref(weights[0])
        del weights, nodes, weight
    assert watched() is None


# --- gradients -----------------------------------------------------------------------------------------


def test_gradients_have_the_dtypes_of_the_forward():
    torch.manual_seed(0)
    seen = {}
    values = torch.randn(4, 3), torch.randn(5, 3), torch.randn(5)
    results = {}
    for lib in (torch, vt):
        x, weight, bias = (
            lib.tensor(v.tolist(), dtype=lib.float32).requires_grad_() for v in values
        )
        with lib.autocast("cpu"):
            y = lib.nn.functional.linear(x, weight, bias)
            y.retain_grad()
            loss = lib.nn.functional.mse_loss(y, lib.zeros(4, 5))
        loss.backward()
        seen[lib] = [str(t.dtype).split(".")[1] for t in (y, y.grad, loss, x.grad, bias.grad)]
        results[lib] = [torch.tensor(t.grad.tolist()) for t in (x, weight, bias)]
    assert seen[vt] == seen[torch] == ["bfloat16", "bfloat16", "float32", "float32", "float32"]
    for ours, theirs in zip(results[vt], results[torch], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_backward_inside_a_region_runs_without_it():
    states = []
    x = vt.ones(2, 2, requires_grad=True)
    with vt.autocast("cpu"):
        y = x * 2.0
        y.register_hook(lambda g: states.append(vt.is_autocast_enabled("cpu")))
        (y.float() @ y).sum().backward()
        assert vt.is_autocast_enabled("cpu")
    assert states == [False] and x.grad.dtype == vt.float32


def test_double_backward():
    x = vt.tensor([[0.5, -1.0]], requires_grad=True)
    weight = vt.tensor([[1.0, 2.0]], requires_grad=True)
    with vt.autocast("cpu"):
        y = F.linear(x, weight).square().sum()
    (g,) = vt.autograd.grad(y, x, create_graph=True)
    g.sum().backward()
    # y = (x . w)^2; g = 2 (x . w) w; d(sum g)/dw = 2 x sum(w) + 2 (x . w)
    assert weight.grad.tolist() == [[0.0, -9.0]]


def test_custom_functions():
    states = []

    class Product(vt.autograd.Function):
        @staticmethod
        @vt.amp.custom_fwd(device_type="cpu")
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        @vt.amp.custom_bwd(device_type="cpu")
        def backward(ctx, grad):
            a, b = ctx.saved_tensors
            states.append((vt.is_autocast_enabled("cpu"), vt.get_autocast_dtype("cpu")))
            return grad @ b.mT, a.mT @ grad

    class InFloat32(vt.autograd.Function):
        @staticmethod
        @vt.amp.custom_fwd(device_type="cpu", cast_inputs=vt.float32)
        def forward(ctx, a):
            states.append((vt.is_autocast_enabled("cpu"), a.dtype))
            return a @ a

        @staticmethod
        @vt.amp.custom_bwd(device_type="cpu")
        def backward(ctx, grad):
            states.append((vt.is_autocast_enabled("cpu"), grad.dtype))
            return grad

    a = vt.ones(2, 2, requires_grad=True)
    b = vt.ones(2, 2, requires_grad=True)
    with vt.autocast("cpu", vt.float16):
        y = Product.apply(a, b)
    assert y.dtype == vt.float16
    y.sum().backward()
    assert states == [(True, vt.float16)] and a.grad.dtype == vt.float32
    states.clear()
    with vt.autocast("cpu"):
        y = InFloat32.apply(a.bfloat16())
    y.sum().backward()
    assert states == [(False, vt.float32), (False, vt.float32)]
    states.clear()
    InFloat32.apply(a.bfloat16())
    assert states == [(False, vt.bfloat16)], "outside of a region nothing is cast"
    with pytest.raises(ValueError, match="Expected `device_type`"):
        vt.amp.custom_fwd(device_type=0)


def test_modules_have_the_dtypes_of_pytorch():
    def outputs(lib):
        lib.manual_seed(0)
        model = lib.nn.Sequential(
            lib.nn.Embedding(5, 4), lib.nn.LayerNorm(4), lib.nn.Linear(4, 8), lib.nn.GELU(),
            lib.nn.Linear(8, 4), lib.nn.LayerNorm(4), lib.nn.Softmax(-1),
        )  # fmt: skip
        x, seen = lib.tensor([[1, 2]]), []
        with lib.autocast("cpu"):
            for layer in model:
                x = layer(x)
                seen.append(str(x.dtype).split(".")[1])
        x.sum().backward()
        assert all(p.grad.dtype == lib.float32 for p in model.parameters())
        return seen

    assert outputs(vt) == outputs(torch)


def test_a_step_of_a_module_casts_each_weight_once():
    model = nn.Linear(2, 2)
    with vt.autocast("cpu"):
        y = model(model(vt.ones(1, 2)))
    nodes, stack = set(), [y.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            stack.extend(n for n, _ in node.next_functions)
    # Weight and bias; the input needs no gradient, and is cast without a node.
    assert sum(n.name() == "ToCopyBackward0" for n in nodes) == 2
