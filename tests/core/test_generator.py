"""What the generator writes: golden text of one operator of three kinds, and clear refusals.

After a wanted change: ``UPDATE_GOLDEN=1 pytest tests/core/test_generator.py``, and read the diff.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from vibetensor._gen.family import operator_source
from vibetensor._gen.load import load

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["gelu", "transpose", "_softmax"])
def test_golden(name):
    ops = load().OPS
    text = operator_source(ops[name], ops).rstrip() + "\n"
    text = re.sub(r"(# opdefs/\w+\.py):\d+", r"\1", text)  # the line moves with its neighbours
    path = GOLDEN / f"{name.strip('_')}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def show(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vibetensor._gen", *arguments], capture_output=True, text=True
    )


def test_show():
    result = show("show", "gelu")
    assert result.returncode == 0, result.stderr
    assert "autograd_gelu" in result.stdout and "gelu_backward" in result.stdout


def test_show_refuses_an_unknown_name():
    result = show("show", "nonsense")
    assert result.returncode == 2 and "nonsense" in result.stderr


def test_list():
    lines = show("list").stdout.splitlines()
    assert len(lines) == len(load().OPS)
    assert any(line.startswith("gelu ") and "opdefs/pointwise.py:" in line for line in lines)


def test_a_gradient_that_names_nothing_is_refused():
    def _(grad, inptu):
        return grad

    with pytest.raises(TypeError, match=r"test_generator\.py:\d+.*gelu.*inptu"):
        load().OPS["gelu"].grad(_)


def test_a_second_declaration_is_refused():
    opdefs = load()
    with pytest.raises(TypeError, match=r"declared already at opdefs/pointwise\.py:\d+"):
        opdefs.declare(opdefs.OPS["gelu"].fn, "pointwise", ())


def test_an_unknown_surface_is_refused():
    opdefs = load()
    with pytest.raises(TypeError, match="no such surface"):
        opdefs.declare(opdefs.OPS["gelu"].fn, "pointwise", ("nowhere",))


def test_a_parameter_needs_an_annotation():
    with pytest.raises(TypeError, match="x has no annotation"):
        load().parse_params(lambda x: x)
