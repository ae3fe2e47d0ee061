"""The C++ interface for operators' kernels (cuda/triton_kernel.h), from a library compiled here."""

import ctypes
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vibetensor as vt
from vibetensor.kernels import enable

pytest.importorskip("triton")
HERE = Path(__file__).resolve().parent
FLOAT32 = 8  # VT_F32


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not vt.cuda.is_built():
        pytest.skip("built without CUDA")
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    package = Path(vt.__file__).parent
    output = tmp_path_factory.mktemp("library") / "host_code.so"
    includes = [f"-I{folder}" for folder in (package.parent, package, package / "include")]
    libraries = [f"-L{package}", "-lvtcuda", "-lvtcore", f"-Wl,-rpath,{package}"]
    flags = ["-std=c++17", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    command = ["g++", *flags, *includes, HERE / "host_code.cpp", "-o", output, *libraries]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(output))
    pointer = ctypes.c_void_p
    loaded.launch_add.argtypes = [
        ctypes.c_int,
        pointer,
        pointer,
        pointer,
        ctypes.c_int,
        ctypes.c_int,
    ]
    loaded.launch_transpose.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_int]
    loaded.launch_add.restype = loaded.launch_transpose.restype = ctypes.c_char_p
    sys.path.insert(0, str(HERE))
    sys.modules["vibetensor.kernels.sample_kernels"] = importlib.import_module("sample_kernels")
    yield loaded
    del sys.modules["vibetensor.kernels.sample_kernels"]
    sys.path.remove(str(HERE))


def launch_add(library, x, y, out, wrong=0):
    return library.launch_add(FLOAT32, x.data_ptr(), y.data_ptr(), out.data_ptr(), x.numel(), wrong)


def launches(driver):
    return [e for e in driver.log() if e["kind"] == "launch"]


def test_launch(driver, library):
    x, out = vt.empty(1000, device="cuda"), vt.empty(1000, device="cuda")
    driver.record()
    assert launch_add(library, x, x, out) is None
    (entry,) = launches(driver)
    assert (entry["name"], entry["grid"], entry["block"]) == ("add_kernel", (8, 1, 1), (64, 1, 1))
    assert launch_add(library, x[:0], x, out) is None  # an empty grid
    assert len(launches(driver)) == 1


def test_what_it_reads_and_writes_is_known(driver, library):
    x, y, out = (vt.zeros(100, device="cuda") for _ in range(3))
    vt.cuda.synchronize()
    side = vt.cuda.Stream()
    launch_add(library, x, y, out)
    with vt.cuda.stream(side):
        x + y
    assert driver.violations() == []
    with vt.cuda.stream(side):
        out + 1
    assert len(driver.violations()) == 1


def test_arguments_that_are_not_the_kernels(driver, library):
    x, out = vt.empty(100, device="cuda"), vt.empty(100, device="cuda")
    driver.record()
    assert b"compiled for 48 bytes of arguments" in launch_add(library, x, x, out, wrong=1)
    assert b"compiled for 48 bytes of arguments" in launch_add(library, x, x, out, wrong=2)
    assert launches(driver) == []


def test_descriptors(driver, library):
    x, out = vt.zeros(32, 64, device="cuda"), vt.zeros(64, 32, device="cuda")
    vt.cuda.synchronize()
    for _ in range(3):
        assert library.launch_transpose(x.data_ptr(), out.data_ptr(), 32, 64) is None
    assert driver.calls("cuTensorMapEncodeTiled") <= 2  # kept afterwards
    with vt.cuda.stream(vt.cuda.Stream()):
        x + 1
        assert driver.violations() == []
        out + 1
    assert len(driver.violations()) == 1
    # Addresses are multiples of 16.
    assert b"cuTensorMapEncodeTiled" in library.launch_transpose(
        x.data_ptr() + 4, out.data_ptr(), 32, 64
    )


def test_disabled(driver, library):
    assert library.add_available(FLOAT32)
    assert enable(False)
    try:
        assert not library.add_available(FLOAT32)
    finally:
        assert not enable(True)


def test_driver_failures_are_reported(driver, library):
    x, out = vt.empty(64, device="cuda"), vt.empty(64, device="cuda")
    driver.fail("cuLibraryLoadData", error=1)
    assert b"cuLibraryLoadData" in launch_add(library, x, x, out)
    driver.fail("cuLaunchKernel", error=1)
    assert b"cuLaunchKernelEx" in launch_add(library, x, x, out)
    assert launch_add(library, x, x, out) is None


@pytest.mark.gpu
def test_values(device, library):
    x, y, out = (
        vt.randn(1000, device=device),
        vt.randn(1000, device=device),
        vt.empty(1000, device=device),
    )
    assert launch_add(library, x, y, out) is None
    assert (out == x + y).all()
    if vt.cuda.get_device_capability() >= (9, 0):
        for rows, columns in ((32, 64), (64, 16)):
            x, out = vt.randn(rows, columns, device=device), vt.empty(columns, rows, device=device)
            for _ in range(2):
                assert library.launch_transpose(x.data_ptr(), out.data_ptr(), rows, columns) is None
            assert (out == x.T).all()
