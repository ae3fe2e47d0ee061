"""Budgets counted in things that do not wobble: modules, bytes, instructions."""

import importlib.resources
import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

IMPORT_MILLISECONDS = 150
INSTALLED_MIB = 64  # every processor level and every GPU architecture
ADD_INSTRUCTIONS = 1000  # of `c = a + b` in a loop, the interpreter's own share included


def run(code, *arguments, before=()):
    """What `code` prints in a new interpreter, whose strings always hash alike."""
    command = [*before, sys.executable, "-c", textwrap.dedent(code), *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return result.stdout


def test_import_brings_no_heavy_package():
    loaded = json.loads(
        run("""
            import json, sys
            import vibetensor
            print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
        """)
    )
    assert not {"torch", "numpy", "cuda", "triton", "socket", "ssl"} & set(loaded)


def test_import_is_quick():
    code = """
        import time
        begin = time.perf_counter()
        import vibetensor
        print((time.perf_counter() - begin) * 1000)
    """
    assert min(float(run(code)) for _ in range(5)) < IMPORT_MILLISECONDS


def test_installed_size():
    root = importlib.resources.files("vibetensor")
    total = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
    assert total < INSTALLED_MIB << 20, f"{total >> 20} MiB"


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_instructions_of_an_addition(tmp_path):
    code = """
        import sys
        import vibetensor as vt

        def add(a, b, times):
            for _ in range(times):
                c = a + b

        add(vt.ones(1), vt.ones(1), int(sys.argv[1]))
    """

    def total(n):
        out = tmp_path / f"callgrind.{n}"
        tool = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}")
        run(code, str(n), before=tool)
        line = next(
            x for x in out.read_text().splitlines() if x.startswith(("totals:", "summary:"))
        )
        return int(line.split()[1])

    per_call = (total(11000) - total(1000)) / 10000
    assert per_call < ADD_INSTRUCTIONS, f"{per_call:.0f} instructions"
