"""A downstream package that cimports Tensor, built outside the source tree against what is installed."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

import vibetensor as vt

PYX = """
# cython: language_level=3
from libc.stdint cimport int64_t
from vibetensor cimport VT_F64, Tensor, import_vibetensor

import_vibetensor()


cdef double total(Tensor t, int dim, char* data) noexcept nogil:
    cdef double sum = 0
    cdef int64_t i
    if dim == t.ndim:
        return (<double*>data)[0]
    for i in range(t.sizes[dim]):
        sum += total(t, dim + 1, data + i * t.strides[dim] * 8)
    return sum


def sum_of(Tensor t not None):
    cdef double result
    if t.dtype != VT_F64:
        raise TypeError("float64 expected")
    with nogil:
        result = total(t, 0, t.data)
    return result


def geometry(Tensor t not None):
    return [t.sizes[i] for i in range(t.ndim)], [t.strides[i] for i in range(t.ndim)], t.numel
"""

MESON = """
project('downstream', 'c', 'cython', version: '0.1')
py = import('python').find_installation(pure: false)
include = run_command(py, ['-c', 'import vibetensor; print(vibetensor.get_include())'],
  check: true).stdout().strip()
py.extension_module('downstream', 'downstream.pyx', c_args: ['-I' + include], install: true)
"""

PYPROJECT = """
[build-system]
build-backend = "mesonpy"
requires = ["meson-python", "cython"]
[project]
name = "downstream"
version = "0.1"
"""

# A library of a later release: the same prefix, another layout behind it.
LATER = """
# cython: language_level=3
from libc.stdint cimport int8_t, int64_t, uint8_t

ABI_VERSION = {abi}


cdef class Tensor:
    cdef char* data
    cdef int64_t* sizes
    cdef int64_t* strides
    cdef int64_t numel
    cdef uint8_t ndim, dtype, device_type
    cdef int8_t device_index
    cdef object added
    cdef int64_t room[4]
    cdef double values[6]

    def __cinit__(self):
        self.added = "a field of a later release"
        self.room[0], self.room[1], self.room[2], self.room[3] = 2, 3, 3, 1
        self.sizes, self.strides = &self.room[0], &self.room[2]
        self.ndim, self.dtype, self.numel = 2, 9, 6
        self.data = <char*>self.values
        for i in range(6):
            self.values[i] = i
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the downstream package was installed."""
    folder = tmp_path_factory.mktemp("downstream")
    for name, text in (
        ("downstream.pyx", PYX),
        ("meson.build", MESON),
        ("pyproject.toml", PYPROJECT),
    ):
        (folder / name).write_text(textwrap.dedent(text).lstrip())
    target = tmp_path_factory.mktemp("site")
    # Cython and the meson script find the installed library, never the source folder.
    installed = str(pathlib.Path(vt.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": installed}
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        ".",
        cwd=folder,
        env=environment,
    )
    return target


@pytest.fixture(scope="module")
def downstream(site):
    (path,) = site.glob("downstream*.so")
    spec = importlib.util.spec_from_file_location("downstream", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reads_a_tensor_without_the_gil(downstream):
    x = vt.arange(24, dtype=vt.float64).reshape(2, 3, 4)
    for view in (
        x,
        x.transpose(0, 2),
        x[:, ::2],
        x[1, 2, 3],
        x[::-1],
        vt.zeros(0, 3, dtype=vt.float64),
    ):
        assert downstream.sum_of(view) == view.sum().item()
        assert downstream.geometry(view) == (list(view.shape), list(view.stride()), view.numel())
    deep = x.reshape(2, 1, 1, 3, 1, 1, 1, 4)
    assert downstream.geometry(deep) == (list(deep.shape), list(deep.stride()), 24)
    with pytest.raises(TypeError):
        downstream.sum_of([1.0])


@pytest.mark.parametrize("abi", [1, 2])
def test_an_extension_built_before_a_field_was_added(site, tmp_path, abi):
    package = tmp_path / "vibetensor" / "core"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("")
    source = package / "tensor.pyx"
    source.write_text(LATER.format(abi=abi).lstrip())
    run(sys.executable, "-P", "-m", "cython", "-3", str(source), cwd=tmp_path)
    include = run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('include'))")
    run(
        "cc",
        "-shared",
        "-fPIC",
        "-O1",
        "-I" + include.strip(),
        str(source.with_suffix(".c")),
        "-o",
        str(package / "tensor.so"),
    )
    code = (
        "import downstream, vibetensor.core.tensor as t; x = t.Tensor();"
        "print(downstream.sum_of(x), downstream.geometry(x))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{site}"},
    )
    if abi == 1:
        assert done.stdout.strip() == "15.0 ([2, 3], [3, 1], 6)", done.stderr
    else:
        assert "ImportError: this extension was built for ABI 1" in done.stderr
