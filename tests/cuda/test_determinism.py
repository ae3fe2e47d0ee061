"""use_deterministic_algorithms: sums through an index in one order, the last of several stores."""

import warnings

import pytest
import torch

import vibetensor as vt
from vibetensor.testing.cuda import simulated_driver


@pytest.fixture(autouse=True)
def fastest_afterwards():
    yield
    vt.use_deterministic_algorithms(False)


def test_the_setting():
    for lib in (vt, torch):
        assert not lib.are_deterministic_algorithms_enabled()
        lib.use_deterministic_algorithms(True, warn_only=True)
        assert lib.are_deterministic_algorithms_enabled()
        assert lib.is_deterministic_algorithms_warn_only_enabled()
        lib.use_deterministic_algorithms(True)
        assert not lib.is_deterministic_algorithms_warn_only_enabled()
        lib.use_deterministic_algorithms(False, warn_only=True)
        assert not lib.are_deterministic_algorithms_enabled()
        lib.use_deterministic_algorithms(False)
    with pytest.raises(
        TypeError, match=r"use_deterministic_algorithms\(\): mode must be bool, not str"
    ):
        vt.use_deterministic_algorithms("yes")


def writes(index, values):
    """Calls whose threads meet at an element, by name: (table) -> None, in place."""
    pairs = (index, index.flip(0))
    square = values.reshape(-1, 1).expand(-1, 8)
    return {
        "index_add_": lambda t: t[:, 0].index_add_(0, index, values),
        "index_add_ of rows": lambda t: t.index_add_(0, index, square),
        "scatter_add_": lambda t: t[:, 1].scatter_add_(0, index, values),
        "index_put_, accumulate": lambda t: t.index_put_(pairs, values, accumulate=True),
        "scatter_": lambda t: t[:, 2].scatter_(0, index, values),
        "index_put_": lambda t: t.index_put_(pairs, values),
        "one index": lambda t: t.index_put_((index,), square),
    }


def same(x, y):
    return bool((x == y).all())


NAMES = list(writes(torch.zeros(1, dtype=torch.int64), torch.zeros(1)))


@pytest.mark.parametrize("name", NAMES)
def test_it_reaches_the_kernels(name):
    driver = simulated()
    vt.use_deterministic_algorithms(True)  # before the driver starts
    with driver as driver:
        from vibetensor.cuda import _runtime

        def launches(mode=None):
            call = writes(vt.tensor([1, 1, 2], device="cuda"), vt.ones(3, device="cuda"))[name]
            table = vt.zeros(8, 8, device="cuda")
            if mode is not None:
                vt.use_deterministic_algorithms(mode)
            before = _runtime.counters()["launches"]
            call(table)
            return _runtime.counters()["launches"] - before

        ordered = launches()
        assert launches(False) < ordered == launches(True)  # sorted first
        assert driver.violations() == []


def simulated():
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if vt.cuda.is_initialized():
        pytest.skip("this process uses a GPU")
    return simulated_driver()


def test_without_a_deterministic_form():
    """2**32 positions are not sorted: an error, or a warning where that was asked for."""
    with simulated():
        table = vt.zeros(8, device="cuda")
        index = vt.zeros(1, dtype=vt.int64, device="cuda").expand(1 << 32)
        values = vt.ones(1, device="cuda").expand(1 << 32)

        def store(dim, index, values):
            table[index] = values

        for write in (table.index_add_, store):
            vt.use_deterministic_algorithms(True)
            with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
                write(0, index, values)
            vt.use_deterministic_algorithms(True, warn_only=True)
            with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
                write(0, index, values)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(RuntimeError, match="does not have a deterministic"):
                    write(0, index, values)
                vt.use_deterministic_algorithms(False)
                write(0, index, values)


def test_attention_takes_kernels_with_a_fixed_order():
    pytest.importorskip("triton")
    with simulated() as driver:
        q = vt.randn(1, 2, 1024, 64, device="cuda", dtype=vt.bfloat16, requires_grad=True)

        def kernels():
            out = vt.nn.functional.scaled_dot_product_attention(q, q, q)
            driver.record()
            out.sum().backward()
            return {e["name"] for e in driver.log() if e["kind"] == "launch"}

        fastest = kernels()
        vt.use_deterministic_algorithms(True)
        ordered = kernels()
        assert "attention_backward" in fastest
        assert "attention_backward" not in ordered, ordered


@pytest.mark.gpu
@pytest.mark.sanitizer
@pytest.mark.parametrize("dtype", [vt.float32, vt.float64, vt.bfloat16, vt.complex64, vt.int16])
@pytest.mark.parametrize("name", NAMES)
def test_one_result_every_time(name, dtype):
    n = 20000
    vt.manual_seed(0)
    index = vt.randint(0, 8, (n,))
    values = (vt.randn(n) * 100).to(dtype)
    vt.use_deterministic_algorithms(True)

    def result(device):
        table = vt.zeros(8, 8, dtype=dtype, device=device)
        writes(index.to(device), values.to(device))[name](table)
        return table.cpu()

    first = result("cuda")
    for _ in range(3):
        assert same(result("cuda"), first)
    expected = result("cpu")
    if "add" in name or "accumulate" in name:
        exact = vt.zeros(8, 8, dtype=vt.complex128 if dtype.is_complex else vt.float64)
        wide = values.to(exact.dtype)
        if not dtype.is_floating_point and not dtype.is_complex:
            assert same(first, expected)
            return
        writes(index, wide)[name](exact)
        scale = exact.abs().max().item()
        # Sums of n terms one after the other; half types are rounded once.
        eps = vt.finfo(dtype).eps
        assert (first.to(exact.dtype) - exact).abs().max().item() <= 100 * eps * scale
    else:
        assert same(first, expected)
