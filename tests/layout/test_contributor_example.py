"""The example of the contributor guide, applied to a copy of the sources: two places are enough."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "contributing.md"


def additions():
    """``{file: added text}`` of the diff in the guide."""
    diff = re.search(r"<!-- example: mish -->\n```diff\n(.*?)```", GUIDE.read_text(), re.S).group(1)
    files, current = {}, None
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            current = files.setdefault(line[6:], [])
        elif line.startswith("+"):
            current.append(line[1:])
        else:
            assert line.startswith("--- a/"), f"the example only adds: {line}"
    return {name: "\n".join(lines) + "\n" for name, lines in files.items()}


def test_a_pointwise_operator_is_two_places(tmp_path):
    added = additions()
    assert len(added) == 2
    for folder in (
        "vibetensor/opdefs",
        "vibetensor/_gen",
        "vibetensor/cpu",
        "vibetensor/core",
        "vibetensor/include",
        "cuda_src/vt",
    ):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name, text in added.items():
        path = tmp_path / name
        before = path.read_text()
        if path.suffix == ".h":  # inside the namespace
            head, tail = before.rsplit("}  // namespace", 1)
            path.write_text(f"{head}\n{text}\n}}  // namespace{tail}")
        else:
            path.write_text(f"{before}\n\n{text}")
    out = tmp_path / "vibetensor" / "ops"
    subprocess.run(
        [sys.executable, tmp_path / "vibetensor/_gen/build.py", "--out", out], check=True
    )

    module = (out / "ops_pointwise.pyx").read_text()
    for part in ("def mish(input", "cdef Tensor autograd_mish(", "cdef int backward_mish("):
        assert part in module
    assert "op_tanh(op_log1p(op_exp(input)))" in module
    assert 'publish("nn.functional", "mish", mish)' in module
    assert "## mish" in (out / "ops.md").read_text()

    loops = [p for p in out.glob("pointwise_*.cpp") if "f_mish" in p.read_text()]
    assert len(loops) == 1
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    done = subprocess.run(
        [
            "g++",
            "-std=c++17",
            "-fsyntax-only",
            "-DVT_NS=vt_baseline",
            f"-I{tmp_path}",
            f"-I{tmp_path / 'vibetensor'}",
            f"-I{tmp_path / 'vibetensor/include'}",
            f"-I{tmp_path / 'cuda_src'}",
            loops[0],
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
