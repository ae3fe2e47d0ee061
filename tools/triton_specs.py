#!/usr/bin/env python3
"""Rewrites vibetensor/kernels/shipped.txt: the specialisations whose machine code can be built with the
package (-Dtriton_kernels=enabled), and which the tests compile.

    VIBETENSOR_CUDA_DRIVER=simulated python tools/triton_specs.py

Runs the operators below on the simulated driver and notes what they ask for. Any other specialisation
is compiled at its first use.
"""

from __future__ import annotations

from pathlib import Path

import vibetensor as vt
import vibetensor.nn.functional as F
from vibetensor.kernels import _compile

LIST = Path(__file__).resolve().parent.parent / "vibetensor" / "kernels" / "shipped.txt"


def rope() -> None:
    """Heads of usual widths, of a tensor of its own and of a packed projection."""
    for dtype in (vt.bfloat16, vt.float16, vt.float32):
        for heads, features in ((12, 64), (16, 64), (16, 128), (32, 128)):
            packed = vt.empty(2, 64, 3, heads, features, dtype=dtype, device="cuda")
            angles = vt.empty(64, features // 2, device="cuda")
            F.rotary_embedding(packed[:, :, 0], angles, angles)


def attention() -> None:
    """One call for each kernel and shape class, on views of a packed projection."""
    for dtype, time, features, causal, p in (
        (vt.bfloat16, 128, 32, True, 0.0),
        (vt.bfloat16, 128, 32, False, 0.1),
        (vt.bfloat16, 300, 64, True, 0.0),
        (vt.bfloat16, 1024, 64, True, 0.0),
        (vt.bfloat16, 1024, 128, False, 0.0),
        (vt.bfloat16, 1024, 128, True, 0.1),
        (vt.float32, 40, 32, False, 0.0),
        (vt.float32, 300, 64, True, 0.1),
    ):
        packed = vt.empty(1, time, 3, 4, features, dtype=dtype, device="cuda").requires_grad_()
        q, k, v = (packed[:, :, i].transpose(1, 2) for i in range(3))
        bias = vt.empty(4, time, time, dtype=dtype, device="cuda").requires_grad_()
        for mask in (None,) if time > 128 else (None, bias):
            out = F.scaled_dot_product_attention(q, k, v, mask, p, causal and mask is None)
            grad = vt.empty(1, time, 4, features, dtype=dtype, device="cuda")
            out.backward(grad.transpose(1, 2))


def main() -> None:
    rope()
    attention()
    blocks = sorted(f"{source}\n{text.strip()}\n" for source, text in _compile.requested)
    LIST.write_text("\n".join(blocks), encoding="utf-8")
    print(f"{LIST.name}: {len(blocks)} specialisations")


if __name__ == "__main__":
    main()
