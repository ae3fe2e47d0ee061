"""What fused operators launch, on the simulated driver."""

import pytest

import vibetensor as vt
import vibetensor.nn.functional as F

PRODUCT = "cublasLtMatmul"


def zeros(*shape, dtype=vt.bfloat16, grad=True):
    return vt.zeros(*shape, dtype=dtype, device="cuda", requires_grad=grad)


def launches(driver, call):
    """The names of what a call launches, and what it returns."""
    results = []
    names = driver.launches(lambda: results.append(call()))
    assert driver.counters()["host_syncs"] == 0
    return names, results[0]


def gradients(driver, outputs, inputs):
    """The names of what the backward launches."""
    seeds = [vt.empty_like(o) for o in outputs]
    return launches(driver, lambda: vt.autograd.grad(outputs, inputs, seeds))[0]


@pytest.mark.parametrize("p", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_add_norm(driver, kind, p):
    x, r, w, b = zeros(64, 256), zeros(64, 256), zeros(256), zeros(256)
    if kind == "layer":
        names, outputs = launches(driver, lambda: F.add_layer_norm(x, r, (256,), w, b, 1e-5, p))
        inputs = [x, r, w, b]
    else:
        names, outputs = launches(driver, lambda: F.add_rms_norm(x, r, (256,), w, 1e-5, p))
        inputs = [x, r, w]
    assert names == ["vt_add_norm_rows_bf16"]
    expected = ["vt_add_norm_backward_rows_bf16", "vt_norm_finish_f32"]
    assert gradients(driver, outputs, inputs) == expected


def test_add_norm_of_a_half_type_and_float32(driver):
    x, r, w = zeros(64, 256), zeros(64, 256, dtype=vt.float32), zeros(256, dtype=vt.float32)
    names, outputs = launches(driver, lambda: F.add_rms_norm(x, r, (256,), w))
    assert names == ["vt_add_norm_rows_bf16_f32"]
    names = gradients(driver, outputs, [x, r, w])
    assert names == ["vt_add_norm_backward_rows_bf16_f32", "vt_norm_finish_f32"]


def test_add_norm_of_rows_that_no_registers_hold(driver):
    x, r = zeros(4, 8193), zeros(4, 8193)
    names, outputs = launches(driver, lambda: F.add_rms_norm(x, r, (8193,)))
    assert names == ["vt_add_norm_long_bf16"]
    assert gradients(driver, outputs, [x, r]) == ["vt_add_norm_backward_long_bf16"]


def test_dropout(driver):
    x, r = zeros(64, 256), zeros(64, 256)
    before = vt.cuda.memory_allocated()
    names, y = launches(driver, lambda: F.dropout_add(x, r, 0.5))
    assert names == ["vt_dropout_bf16"]
    assert vt.cuda.memory_allocated() - before == 64 * 256 * 2  # no mask
    assert gradients(driver, [y], [x, r]) == ["vt_dropout_bf16"]
    names, y = launches(driver, lambda: F.dropout(x, 0.5))
    assert names == ["vt_dropout_bf16"]
    assert gradients(driver, [y], [x]) == ["vt_dropout_bf16"]


def test_activations(driver):
    x, b = zeros(64, 256), zeros(256, grad=False)
    for call in (lambda: F.bias_gelu(x, b, approximate="tanh"), lambda: F.bias_silu(x, b)):
        names, y = launches(driver, call)
        assert len(names) == 1
        assert len(gradients(driver, [y], [x])) == 1
    names, y = launches(driver, lambda: F.swiglu(x))
    assert names == ["vt_swiglu_bf16"]
    assert gradients(driver, [y], [x]) == ["vt_swiglu_backward_bf16"]
    gate, up = zeros(64, 256), zeros(64, 256)
    names, y = launches(driver, lambda: F.swiglu(gate, up))
    assert names == ["vt_swiglu_bf16"]
    assert gradients(driver, [y], [gate, up]) == ["vt_swiglu_backward_bf16"]


def test_linear_layers_get_the_gradient_of_a_bias_from_a_product(driver):
    x, w, b = zeros(64, 32), zeros(128, 32), zeros(128)
    names, y = launches(driver, lambda: F.linear(x, w, b))
    assert names == [PRODUCT]
    assert gradients(driver, [y], [x, w, b]) == [PRODUCT, PRODUCT]
    names, y = launches(driver, lambda: F.linear_gelu(x, w, b))
    assert names == [PRODUCT]
    assert len(gradients(driver, [y], [x, w, b])) == 3  # gelu's derivative between


def test_the_gradient_of_a_bias_in_float64_is_a_sum(driver):
    x, w, b = (zeros(*s, dtype=vt.float64) for s in ((64, 32), (128, 32), (128,)))
    names = gradients(driver, [F.linear(x, w, b)], [x, w, b])
    assert names.count(PRODUCT) == 2 and any(n.startswith("vt_sum") for n in names)


def test_mlp_is_products_and_one_pass(driver):
    x = zeros(4, 16, 32)
    w1, b1, w2, b2 = zeros(128, 32), zeros(128), zeros(32, 128), zeros(32)
    names, y = launches(driver, lambda: F.gelu_mlp(x, w1, b1, w2, b2))
    assert names == [PRODUCT] * 2
    gelu = ["vt_gelu_backward_rows_bf16", "vt_norm_finish_f32"]
    assert gradients(driver, [y], [x, w1, b1, w2, b2]) == [PRODUCT] * 2 + gelu + [PRODUCT] * 2


def test_embedding_with_position(driver):
    tokens = vt.zeros(2, 16, dtype=vt.int64, device="cuda")
    table, position = zeros(50, 32), zeros(16, 32)
    names, _ = launches(driver, lambda: F.embedding_with_position(tokens, table, position))
    assert names == ["vt_embedding_add_bf16"]


def test_linear_cross_entropy(driver):
    x, w = zeros(64, 32), zeros(128, 32)
    target = vt.zeros(64, dtype=vt.int64, device="cuda")
    names, loss = launches(driver, lambda: F.linear_cross_entropy(x, w, target))
    assert names.count(PRODUCT) == 3
    assert [n for n in names if "cross_entropy" in n] == ["vt_cross_entropy_gradient_bf16"]
    assert len(names) <= 10
    # The gradients are there already: they are scaled, where the factor is not 1.
    assert gradients(driver, [loss], [x, w]) == ["vt_scale_small_bf16"]


def test_linear_cross_entropy_has_half_of_the_logits_at_a_time(driver):
    rows, classes = 4096, 1 << 18  # 2 GiB of logits
    x, w = zeros(rows, 8), zeros(classes, 8)
    target = vt.zeros(rows, dtype=vt.int64, device="cuda")
    vt.cuda.reset_peak_memory_stats()
    before = vt.cuda.memory_allocated()
    F.linear_cross_entropy(x, w, target).backward()
    returned = (x.numel() + w.numel()) * 2
    assert vt.cuda.max_memory_allocated() - before - returned < (rows * classes * 2) * 0.55


def test_muon(driver):
    many = [vt.nn.Parameter(vt.zeros(32, 16, device="cuda")) for _ in range(20)]
    for p in many:
        p.grad = vt.zeros(32, 16, device="cuda")
    optimizer = vt.optim.Muon(many)
    optimizer.step()
    names, _ = launches(driver, optimizer.step)
    assert names.count(PRODUCT) == 15
    assert names.count("vt_muon_small_f32") == names.count("vt_sgd_small_f32") == 1
    assert len(names) <= 27
