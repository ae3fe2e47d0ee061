"""From specialisations to machine code, without a GPU and without PyTorch: the compiler, the caches, the
archive that is built with the package."""

import json
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("triton")

from vibetensor.kernels import _compile, _image, _spec

ROOT = Path(__file__).resolve().parents[2]
SPEC = "x: *fp32 16\ny: *fp32 16\nout: *fp32 16\nn: i32\nBLOCK = 1024\nnum_warps = 4"


@pytest.mark.parametrize("source", sorted({source for source, _ in _spec.shipped()}))
def test_shipped_kernels_compile_for_hopper(source):
    texts = [text for s, text in _spec.shipped() if s == source]
    for text in {texts[0], texts[-1]}:  # each takes a second
        image = _compile.compile(_spec.find_kernel(source), _spec.Spec.parse(text), 90)
        assert image.cubin.startswith(b"\x7fELF")


def test_without_pytorch_and_a_c_compiler(python):
    code = f"""
    import sys
    import sample_kernels
    from vibetensor.kernels import _compile, _spec
    image = _compile.compile(sample_kernels.add_kernel, _spec.Spec.parse({SPEC!r}), 90)
    print(image.name, image.argument_bytes, image.pointers, sys.modules["torch"])
    """
    assert python(code, PATH="/nowhere", CC="/nowhere/cc").split() == [
        "add_kernel",
        "48",
        "7",
        "None",
    ]


CACHED = """
import json, sys
import vibetensor.kernels._compile as c, vibetensor.kernels._image as i
sys.modules["vibetensor.kernels.sample_kernels"] = __import__("sample_kernels")
compiled = []
real = c.compile
c.compile = lambda *a: compiled.append(1) or real(*a)
def find(spec):
    c._images.clear()
    before = len(compiled)
    image = c.find("sample_kernels.py:add_kernel", spec, 9, 0, False)
    return len(compiled) - before, len(image.cubin)
found = [find({spec!r})]
if {more!r}:
    (kept,) = (i.cache_folder() / "triton").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    found += [find({spec!r}), find({more!r})]
print(json.dumps(found))
"""


def test_disk_cache(python, tmp_path):
    """Two processes at once, then one that finds what they left."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda n: python(CACHED.format(spec=SPEC, more=""), name=n), "ab")
    size = json.loads(first)[0][1]
    assert json.loads(second)[0][1] == size
    # A damaged file is made anew, and another specialisation is another file.
    last = python(CACHED.format(spec=SPEC, more=SPEC.replace("1024", "512")))
    assert [compiled for compiled, _ in json.loads(last)] == [0, 1, 1]
    assert json.loads(last)[1][1] == size
    assert len(list((tmp_path / "cache" / "triton").iterdir())) == 2


def test_writers_at_the_same_time(monkeypatch, tmp_path):
    monkeypatch.setenv("VIBETENSOR_CACHE_DIR", str(tmp_path))
    images = [
        _image.Image("k", bytes([i]) * 100000, 4, 1, 0, False, False, 0, 16, 0) for i in range(4)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda i: (_image.keep("key", images[i % 4]), _image.cached("key"))[1], range(200)
            )
        )
    assert all(image in images for image in found)
    assert os.listdir(tmp_path / "triton") == ["key"]


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIBETENSOR_CACHE_DIR", str(tmp_path / "file"))
    _image.keep("key", _image.Image("k", b"", 4, 1, 0, False, False, 0, 16, 0))
    assert _image.cached("key") is None


def test_archive(monkeypatch, tmp_path):
    """tools/triton_archive.py needs Triton alone; what it makes is found before anything is compiled."""
    # One that every capability can have.
    source, text = next(k for k in _spec.shipped() if "tensordesc" not in k[1])
    monkeypatch.setattr(_image, "ARCHIVE", tmp_path / "kernels.zip")
    package = tmp_path / "source" / "vibetensor" / "kernels"
    package.mkdir(parents=True)
    folder = Path(_image.__file__).parent
    for file in folder.rglob("*.py"):
        to = package / file.relative_to(folder)
        to.parent.mkdir(exist_ok=True)
        to.write_bytes(file.read_bytes())
    (package / "shipped.txt").write_text(f"{source}\n{text}\n")
    tools = tmp_path / "source" / "tools"
    tools.mkdir()
    tool = tools / "triton_archive.py"
    tool.write_bytes((ROOT / "tools" / "triton_archive.py").read_bytes())
    subprocess.run([sys.executable, "-P", tool, _image.ARCHIVE], check=True, cwd=tmp_path)
    assert len(zipfile.ZipFile(_image.ARCHIVE).namelist()) == 2
    _image._archive.cache_clear()
    try:
        monkeypatch.setattr(_compile, "installed", lambda: False)
        assert _compile._find(source, text, 90).cubin.startswith(b"\x7fELF")
        assert _compile._find(source, text, 86) == _compile._find(source, text, 80)
        with pytest.raises(_compile.MissingTriton, match="pip install"):
            _compile._find(source, text, 100)
    finally:
        _image._archive.cache_clear()


def test_shipped_list_is_what_operators_ask_for(python):
    """Rewrite it with tools/triton_specs.py where this fails."""
    code = f"""
    import json, runpy
    tool = runpy.run_path({str(ROOT / "tools" / "triton_specs.py")!r})
    tool["rope"]()
    tool["attention"]()
    from vibetensor.kernels import _compile
    print(json.dumps(list(_compile.requested)))
    """
    asked = {tuple(k) for k in json.loads(python(code, VIBETENSOR_CUDA_DRIVER="simulated"))}
    assert asked <= set(_spec.shipped())


def test_no_load_clears_its_own_address(monkeypatch):
    """Triton 3.6 can give a scalar that is loaded behind a branch the register of its address, which it
    clears first: what draws in a captured graph must not be written so."""
    import triton

    source, text = next(
        (s, t) for s, t in _spec.shipped() if "attention_forward" in s and "DROPOUT = True" in t
    )
    made = []
    compile_ = triton.compile

    def compiled(*arguments, **options):
        made.append(compile_(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(triton, "compile", compiled)
    _compile.compile(_spec.find_kernel(source), _spec.Spec.parse(text), 90)
    loads = re.findall(r"ld\.global\S* \{ (%\w+) \}, \[ (%\w+)", made[0].asm["ptx"])
    assert loads and all(value != address for value, address in loads)
