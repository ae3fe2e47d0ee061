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


def main() -> None:
    rope()
    blocks = sorted(f"{source}\n{text.strip()}\n" for source, text in _compile.requested)
    LIST.write_text("\n".join(blocks), encoding="utf-8")
    print(f"{LIST.name}: {len(blocks)} specialisations")


if __name__ == "__main__":
    main()
