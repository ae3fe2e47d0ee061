"""Rules about the files themselves: their size, and that the build knows every one of them."""

import importlib.resources
import re
from pathlib import Path

import vibetensor as vt

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vibetensor"

MAX_LINES = 500
# A file has one reason to change. Longer ones, each with the reason it is not two files.
LONG_FILES = {
    "tests/cuda/allocator/scenarios.cpp": "a list of independent scenarios of one program",
    "vibetensor/core/iterator.pyx": "promotion, plan, pointwise, copies and reductions share the plan's helpers",
    "vibetensor/core/tensor.pyx": "one extension type: Cython wants its class body and memory in one module",
    "vibetensor/nn/module.py": "one class, Module, with PyTorch's surface",
    "vibetensor/opdefs/pointwise.py": "a table: grows with the operators, a dozen lines each",
    "vibetensor/ops/checks.pyx": "a list of independent checks and output shapes",
    "vibetensor/ops/composites.pyx": "a list of independent bodies",
}

CODE = {".py", ".pyx", ".pxd", ".pxi", ".pyi", ".c", ".cpp", ".cu", ".h", ".build"}


def code_files():
    folders = ["vibetensor", "cuda_src", "tests", "bench", "examples", "tools"]
    found = [p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in CODE]
    assert found
    return sorted(found)


def lines(path):
    return path.read_text(encoding="utf-8").count("\n")


def test_no_file_grows_beyond_its_reason():
    long = {str(p.relative_to(ROOT)) for p in code_files() if lines(p) > MAX_LINES}
    new = long - set(LONG_FILES)
    assert not new, f"above {MAX_LINES} lines: split, or give the reason here: {sorted(new)}"
    stale = set(LONG_FILES) - long
    assert not stale, f"no longer long (or gone), take off the list: {sorted(stale)}"


def headers_of_pxd():
    """The headers that the .pxd files name: whoever cimports them needs these to compile."""
    for pxd in PACKAGE.rglob("*.pxd"):
        for name in re.findall(r'cdef extern from "([^"]+)"', pxd.read_text(encoding="utf-8")):
            for folder in (PACKAGE, PACKAGE / "include"):
                if (folder / name).exists():
                    yield folder / name


def test_every_file_a_user_needs_is_installed():
    needed = {p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".pxd", ".pyi"}}
    needed |= set((PACKAGE / "include").rglob("*.h")) | set(headers_of_pxd())
    needed.add(PACKAGE / "py.typed")
    installed = importlib.resources.files("vibetensor")
    missing = [
        str(p.relative_to(PACKAGE))
        for p in sorted(needed)
        if not installed.joinpath(*p.relative_to(PACKAGE).parts).is_file()
    ]
    assert not missing, f"not in the installed package (a build older than the sources?): {missing}"


def test_every_cython_module_is_installed():
    installed = importlib.resources.files("vibetensor")
    for pyx in sorted(PACKAGE.rglob("*.pyx")):
        if pyx.parent.name == "cuda" and not vt.cuda.is_built():
            continue
        folder = installed.joinpath(*pyx.parent.relative_to(PACKAGE).parts)
        found = [f.name for f in folder.iterdir() if f.name.startswith(pyx.stem + ".")]
        assert any(name.endswith(".so") for name in found), pyx.relative_to(ROOT)
