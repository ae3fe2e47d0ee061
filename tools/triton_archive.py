#!/usr/bin/env python3
"""Compiles the specialisations of vibetensor/kernels/shipped.txt for sm_80 and sm_90 into one archive.

    python tools/triton_archive.py OUTPUT.zip

Part of the build with -Dtriton_kernels=enabled; needs Triton, and neither a GPU nor the built library.
"""

from __future__ import annotations

import os
import sys
import types
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "vibetensor"
CAPABILITIES = (80, 90)

# The package of the source folder, without what it imports: its extension modules are not built yet.
sys.modules["vibetensor"] = package = types.ModuleType("vibetensor")
package.__path__ = [str(PACKAGE)]

from vibetensor.kernels import _compile, _image, _spec  # noqa: E402


def build(job: tuple[str, str, int]) -> tuple[str, bytes] | None:
    """The archive's entry for one specialisation; None where the capability cannot have it."""
    source, text, capability = job
    spec = _spec.Spec.parse(text)
    if capability < 90 and any(t.startswith("tensordesc") for t in spec.types):
        return None
    image = _compile.compile(_spec.find_kernel(source), spec, capability)
    return _image.key_of(source, text, capability), image.to_bytes()


def main(output: str) -> None:
    jobs = [(*kernel, capability) for kernel in _spec.shipped() for capability in CAPABILITIES]
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        entries = [entry for entry in pool.map(build, jobs) if entry]
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    print(f"{output}: {len(entries)} kernels")


if __name__ == "__main__":
    main(sys.argv[1])
