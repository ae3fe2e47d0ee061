"""Attention on a device that other processes use, too: kernels are interrupted anywhere."""

import subprocess
import sys

import pytest
import torch

import vibetensor as vt
import vibetensor.nn.functional as F

pytestmark = pytest.mark.gpu

# Multiplies matrices until it is killed; says once that it does, because nobody reads on.
BUSY = """
import vibetensor as vt
x = vt.randn(2048, 2048, device="cuda").bfloat16()
x @ x
vt.cuda.synchronize()
print("running", flush=True)
while True:
    for _ in range(20):
        x @ x
    vt.cuda.synchronize()
"""


@pytest.fixture
def busy_device(device):
    command = [sys.executable, "-c", BUSY]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        assert all(other.stdout.readline() for other in others)
        yield device
    finally:
        for other in others:
            other.kill()
            other.communicate()


@pytest.mark.parametrize("dim", [64, 128])
def test_results_stay_the_same(busy_device, dim):
    vt.manual_seed(0)
    made = [vt.randn(4, 8, 1024, dim, device="cuda").bfloat16() for _ in range(4)]
    grad, leaves = made[0], [t.requires_grad_() for t in made[1:]]

    def run():
        out = F.scaled_dot_product_attention(*leaves, is_causal=True)
        gradients = vt.autograd.grad(out, leaves, grad)
        return [torch.from_dlpack(t.detach()) for t in (out, *gradients)]

    out, dq, dk, dv = run()
    wrong = torch.zeros(4, dtype=torch.int64, device="cuda")
    for _ in range(1000):
        o, q, k, v = run()
        # dq is a sum in no fixed order; what is not within a bound may be nan.
        close = (q - dq).abs() <= 0.05 * (1 + dq.abs())
        wrong += torch.stack([(o != out).sum(), (~close).sum(), (k != dk).sum(), (v != dv).sum()])
    assert wrong.tolist() == [0, 0, 0, 0]
