"""The import rule: every part of the library knows only the parts below it.

    types <- geometry <- tensor <- iterator <- dispatch <- autograd <- ops <- Python API

Read from the sources, so that a wrong import is found even where it happens to work.
"""

import ast
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vibetensor"

# Layers from the bottom up, each with the modules that belong to it; the first match counts. Storage is
# plain C (core/storage.h), so no import can name it.
LAYERS = [
    # Declarations are data that any layer may read; they import nothing.
    (
        "types",
        ["opdefs", "opdefs.*", "core", "core.types", "core.errors", "core.dtype", "core.device"],
    ),
    ("geometry", ["core.geometry"]),
    ("tensor", ["core.tensor"]),
    (
        "iterator",
        [
            "core.iterator",
            "core.views",
            "core.basic_index",
            "core.random",
            "core.scalar",
            "core.interop",
            "core.dlpack",
            "core.cuda_array",
            "core.autocast",
        ],
    ),
    # The entries are look-ups in the dispatch table by operator number; no operator is imported.
    ("dispatch", ["core.dispatch", "ops.entries"]),
    (
        "autograd",
        [
            "autograd.node",
            "autograd.ready_queue",
            "autograd.basics",
            "autograd.history",
            "autograd.gradients",
            "autograd.hooks",
            "autograd.engine",
            "autograd.grad_mode",
            "utils.hooks",  # removable handles
        ],
    ),
    ("ops", ["ops", "ops.*"]),
    ("Python API", ["*"]),
]
# What may be imported although it lies above, and why.
EXCEPTIONS = {
    ("core.device", "cuda"): "the first use of a device loads its runtime",
}

DRIVER = re.compile(r"cydriver|cuda\.bindings|libcuda\.|[<\"]cuda\.h[>\"]|\bcu[A-Z]\w+\(")


def sources(*suffixes):
    found = sorted(p for p in PACKAGE.rglob("*") if p.suffix in suffixes)
    assert found, f"no {suffixes} in {PACKAGE}"
    return found


def module_name(path):
    """The dotted name of a source file below the package; "" for vibetensor/__init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module):
    for level, (_, patterns) in enumerate(LAYERS):
        if any(fnmatch(module, pattern) for pattern in patterns):
            return level
    raise AssertionError(module)


def is_module(name):
    path = PACKAGE.joinpath(*name.split("."))
    return path.is_dir() or any(path.with_suffix(s).exists() for s in (".py", ".pyx", ".pxd"))


def python_imports(path):
    """(line, absolute module, imported names) of each import statement of a Python file."""
    package = ["vibetensor", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module, [alias.name for alias in node.names]


FROM = re.compile(r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+c?import[ \t]+(\([^)]*\)|[^\n#]*)", re.M)
PLAIN = re.compile(r"^[ \t]*c?import[ \t]+([\w., \t]+)", re.M)
STRING = re.compile(r"('''|\"\"\").*?\1", re.S)


def cython_imports(path):
    """The same of a Cython file, import and cimport alike."""
    package = ["vibetensor", *path.relative_to(PACKAGE).parts[:-1]]
    # Strings may hold examples; blank lines in their place keep the line numbers.
    text = STRING.sub(lambda m: "\n" * m[0].count("\n"), path.read_text(encoding="utf-8"))
    for m in FROM.finditer(text):
        base = package[: len(package) - len(m[1]) + 1] if m[1] else []
        names = re.findall(r"(\w+)(?:\s+as\s+\w+)?", re.sub(r"#.*", "", m[3]))
        yield text.count("\n", 0, m.start()) + 1, ".".join([*base, *filter(None, [m[2]])]), names
    for m in PLAIN.finditer(text):
        for name in m[1].split(","):
            yield text.count("\n", 0, m.start()) + 1, name.split(" as ")[0].strip(), []


def imported_modules(path):
    """(line, module relative to the package) of everything a source file imports from vibetensor."""
    read = python_imports if path.suffix == ".py" else cython_imports
    for line, module, names in read(path):
        if module != "vibetensor" and not module.startswith("vibetensor."):
            continue
        inner = module.partition(".")[2]
        submodules = [n for n in (f"{inner}.{name}".strip(".") for name in names) if is_module(n)]
        for name in submodules or [inner]:
            yield line, name


def test_a_module_imports_nothing_from_above():
    wrong = []
    for path in sources(".py", ".pyx", ".pxd", ".pxi"):
        name = module_name(path)
        for line, imported in imported_modules(path):
            if layer(imported) > layer(name) and (name, imported) not in EXCEPTIONS:
                wrong.append(
                    f"{path.relative_to(ROOT)}:{line}: {name} ({LAYERS[layer(name)][0]}) imports "
                    f"{imported or 'vibetensor'} ({LAYERS[layer(imported)][0]})"
                )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_an_exception_is_still_used(exception):
    name, imported = exception
    paths = [p for p in sources(".py", ".pyx", ".pxd") if module_name(p) == name]
    assert any(imported == m for p in paths for _, m in imported_modules(p)), exception


@pytest.mark.parametrize("folder", ["opdefs", "_gen"])
def test_what_runs_at_build_time_needs_only_the_standard_library(folder):
    wrong = []
    own = {"vibetensor.opdefs", "vibetensor._gen"}
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        for line, module, _ in python_imports(path):
            known = ".".join(module.split(".")[:2]) in own or is_local(module)
            if not known and module.split(".")[0] not in sys.stdlib_module_names:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: imports {module}")
    assert not wrong, "\n".join(wrong)


def is_local(module):
    """Whether `module` is a file of these two folders, named without the package."""
    parts = module.split(".")
    return any(
        PACKAGE.joinpath(*parents, *parts).with_suffix(".py").exists()
        or PACKAGE.joinpath(*parents, *parts).is_dir()
        for parents in ([], ["opdefs"], ["_gen"])
    ) and parts[0] in {
        "opdefs",
        "_gen",
        *(p.stem for d in ("opdefs", "_gen") for p in (PACKAGE / d).glob("*.py")),
    }


def test_only_the_cuda_package_touches_the_driver():
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources(".py", ".pyx", ".pxd", ".pxi", ".c", ".cpp", ".h")
        if path.relative_to(PACKAGE).parts[0] != "cuda"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if DRIVER.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_kernels_do_not_see_python():
    wrong = [
        str(path.relative_to(ROOT))
        for folder in (PACKAGE / "cpu", ROOT / "cuda_src")
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".c", ".cpp", ".h", ".cu"} and "Python.h" in path.read_text("utf-8")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_reader_of_imports_finds_them(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "tensor.pyx").touch()
    path = tmp_path / "core" / "a.pyx"
    path.write_text(
        '"""\nfrom vibetensor.ops import add\n"""\n'
        "from vibetensor.core.tensor cimport (\n    Tensor,  # the type\n    tensor_new,\n)\n"
        "from vibetensor.core cimport tensor\n"
        "    from .tensor import Tensor as T\n"
        "cimport vibetensor.core.tensor as t, cython\n"
        "import vibetensor\n"
    )
    found = [
        (4, "core.tensor"),
        (8, "core.tensor"),
        (9, "core.tensor"),
        (10, "core.tensor"),
        (11, ""),
    ]
    assert list(imported_modules(path)) == found
