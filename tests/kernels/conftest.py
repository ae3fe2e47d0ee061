"""What the tests of Triton's kernels share."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import vibetensor as vt
from vibetensor.testing.cuda import simulated_driver

HERE = Path(__file__).resolve().parent


@pytest.fixture
def driver():
    """The simulated driver; some of these tests are there for it to object."""
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    with simulated_driver(devices=2, memory=1 << 30) as driver:
        yield driver


@pytest.fixture
def python(tmp_path):
    """``python(code, forbid=("torch",), **environment)`` runs code in a process of its own and returns
    what it printed. Packages in `forbid` cannot be imported there. The code becomes a file, because Triton
    reads the source of kernels."""

    def run(code, forbid=("torch",), name="script", **environment):
        if "VIBETENSOR_CUDA_DRIVER" in environment and not vt.cuda.is_built():
            pytest.skip("built without CUDA")
        script = tmp_path / f"{name}.py"
        script.write_text(
            f"import sys\nsys.modules.update(dict.fromkeys({forbid!r}))\n" + textwrap.dedent(code)
        )
        known = {
            "VIBETENSOR_CACHE_DIR": str(tmp_path / "cache"),
            "TRITON_CACHE_DIR": str(tmp_path / "triton"),
        }
        environment = {
            **os.environ,
            **known,
            "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}",
            **environment,
        }
        done = subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
