"""The caching allocator against a shadow model, over the simulated driver.

The programs are C++ (allocator/), for a million steps take seconds there; they are compiled here and
linked to the installed libvtcuda.
"""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "cuda" / "allocator"
STEPS = 1_000_000  # of all random programs together
SCENARIOS = re.findall(r'\{"(\w+)", \w+\}', (SOURCES / "scenarios.cpp").read_text())


def toolkit():
    spec = importlib.util.spec_from_file_location("cuda_root", ROOT / "tools" / "cuda_root.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next((root for root in module.candidates() if module.version(root)), None)


def libraries():
    """The libvtcuda and libvtcore of the package, wherever it is built or installed."""
    code = (
        "import vibetensor as vt, vibetensor.cuda._memory\n"
        "print([l.split()[-1] for l in open('/proc/self/maps') if 'libvt' in l])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if out.returncode != 0:
        return None
    paths = set(re.findall(r"'([^']*/libvt(?:cuda|core)\.so[^']*)'", out.stdout))
    return sorted(paths) if len(paths) == 2 else None


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    root, found = toolkit(), libraries()
    if root is None or found is None:
        pytest.skip("needs a build with CUDA, and the toolkit's headers")
    path = tmp_path_factory.mktemp("allocator") / "model"
    folders = sorted({os.path.dirname(p) for p in found})
    command = ["g++", "-std=c++17", "-O1", f"-I{ROOT}", f"-I{ROOT / 'vibetensor/include'}"]
    command += ["-isystem", f"{root}/include", "-o", path, *SOURCES.glob("*.cpp"), *found]
    command += [f"-Wl,-rpath,{folder}" for folder in folders]
    # What libvtcore needs has a path of its own there.
    command += ["-Wl,--allow-shlib-undefined", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def run(*arguments):
        done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_no_scenario_is_missing(program):
    assert program("scenarios").split() == SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(program, name):
    program("scenario", name)


OPTIONS = [
    "",
    "expandable_segments:True",
    "max_split_size_mb:32,garbage_collection_threshold:0.6",
    "roundup_power2_divisions:[1:4,>:8]",
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("completion", ["when awaited", "random"])
def test_random_programs(program, options, completion):
    """Streams, cross-stream use, captures into shared pools, injected failures, limits."""
    steps = STEPS // 10
    seed = OPTIONS.index(options) * 2 + (completion == "random")
    out = program("fuzz", seed, steps, options, completion)
    done, failed, captures = map(int, re.findall(r"\d+", out))
    assert done == steps and failed > 100 and captures > 100, "the program did not do much"


@pytest.mark.parametrize("options", OPTIONS[:2])
def test_threads(program, options):
    """Blocks that threads hand to each other, own streams and a shared one."""
    program("threads", 11, STEPS // 10, 4, options)


def test_cached_allocation_is_cheap(program):
    """Far above the 30 ns that it takes on an idle machine: what is tested is that nothing slow is on
    the way, a call of the driver or a lock that another stream holds."""
    times = dict(line.split() for line in program("measure").splitlines())
    assert float(times["one_stream_512"]) < 500
