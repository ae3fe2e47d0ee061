"""The source folder gives way to the installed package, and says so where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*args, cwd=ROOT, **kwargs):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, **kwargs
    )


@pytest.mark.parametrize(
    "args",
    [
        ["-c", "import vibetensor; vibetensor.zeros(2)"],
        ["-c", "import vibetensor.nn as nn; nn.Linear(2, 2)"],
        ["-m", "vibetensor._gen", "show", "add"],
        ["-m", "bench", "--help"],
        ["-m", "pytest", "--collect-only", "-q", "tests/test_tiny.py"],
    ],
    ids=lambda args: " ".join(args[:2]),
)
def test_works_from_the_root_of_the_repository(args):
    result = run(*args)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout or args[0] == "-c"


def test_import_without_a_build_says_what_to_do():
    # -S leaves out site-packages, -I everything else of the environment.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import vibetensor"
    result = run("-I", "-S", "-c", code)
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: vibetensor is not built")
    assert f"`pip install .` in {ROOT}" in message


def test_one_copy_is_imported():
    """The package that took the place and its modules are the same for every way to name them."""
    code = (
        "import sys, vibetensor, vibetensor.core.tensor as t, os\n"
        "assert sys.modules['vibetensor'] is vibetensor\n"
        "assert vibetensor.core.tensor is t and vibetensor.Tensor is t.Tensor\n"
        "print(os.path.dirname(vibetensor.__file__))"
    )
    inside, outside = run("-c", code), run("-c", code, cwd="/")
    assert inside.returncode == 0, inside.stderr
    assert inside.stdout == outside.stdout
