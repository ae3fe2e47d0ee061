#!/usr/bin/env python3
"""Runs the allocator's random programs under a sanitizer, over the simulated driver.

    python tools/sanitize_allocator.py thread     # or address, undefined
    python tools/sanitize_allocator.py address --build /tmp/asan --jobs 2

Compiles the CUDA runtime's own sources together with tests/cuda/allocator, a minute of processor time;
what is compiled already stays. Needs an installed vibetensor (its libvtcore) and CUDA's headers.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cuda_root import candidates, version

ROOT = Path(__file__).resolve().parent.parent
# The tensor library's side of CUDA and the matrix products, which need kernels.
LEFT_OUT = ("backend", "blas", "blas_library", "blas_simulated", "cub_simulated", "nvtx")
STAND_IN = "namespace vt_cuda {\nvoid forget_blas() {}\n}  // namespace vt_cuda\n"


def libvtcore() -> Path:
    """The library of the installed package."""
    code = "import vibetensor; print([l.split()[-1] for l in open('/proc/self/maps') if 'libvtcore' in l][0])"
    out = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    return Path(out.stdout.strip())


def build(sanitizer: str, folder: Path, jobs: int) -> Path:
    """Compiles what is not compiled yet; the program."""
    folder.mkdir(parents=True, exist_ok=True)
    root = next(r for r in candidates() if version(r))
    stand_in = folder / "stand_in.cpp"
    stand_in.write_text(STAND_IN)
    own = [p for p in ROOT.glob("vibetensor/cuda/*.cpp") if p.stem not in LEFT_OUT]
    sources = [*own, *ROOT.glob("tests/cuda/allocator/*.cpp"), stand_in]
    command = ["g++", "-std=c++17", "-O1", "-g", f"-fsanitize={sanitizer}", "-fPIC"]
    for place in ("", "vibetensor", "vibetensor/include", "cuda_src"):
        command += ["-I", str(ROOT / place)]
    command += ["-isystem", f"{root}/include"]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.parent.name}_{source.stem}.o"
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True)
        return target

    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compile_one, sources))
    core, program = libvtcore(), folder / "model"
    link = ["g++", f"-fsanitize={sanitizer}", "-o", str(program), *map(str, objects), str(core)]
    link += [f"-Wl,-rpath,{core.parent}", "-Wl,--allow-shlib-undefined", "-lpthread", "-ldl"]
    subprocess.run(link, check=True)
    return program


def main() -> int:
    """Build, run everything, say what failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("sanitizer", choices=["thread", "address", "undefined"])
    parser.add_argument(
        "--build", help="folder of the objects; in the system's for temporary files"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=50000)
    options = parser.parse_args()
    folder = Path(
        options.build or f"/tmp/vibetensor-{options.sanitizer}-{sysconfig.get_platform()}"
    )
    program = build(options.sanitizer, folder, options.jobs)
    # ThreadSanitizer wants addresses where it expects them.
    prefix = ["setarch", "-R"] if options.sanitizer == "thread" and shutil.which("setarch") else []

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        call = [*prefix, str(program), *map(str, arguments)]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    runs: list[tuple[object, ...]] = [("scenario", s) for s in run("scenarios").stdout.split()]
    for text in ("", "expandable_segments:True"):
        runs += [("threads", 11, options.steps, n, text) for n in (4, 8)]
        runs += [("fuzz", 3, options.steps // 5, text, when) for when in ("random", "when awaited")]
    failed = 0
    for arguments in runs:
        done = run(*arguments)
        found = re.findall(r"^SUMMARY: .*|runtime error: .*", done.stderr, re.MULTILINE)
        if done.returncode != 0 or found:
            failed += 1
            print("FAILED", *arguments, *found[:3], done.stderr[-2000:], sep="\n")
    print(f"{options.sanitizer}: {len(runs)} runs, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
