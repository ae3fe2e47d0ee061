"""Writes every generated file. Run by meson: ``python build.py --out DIR``."""
import argparse
import pathlib
import sys

if __package__ in (None, ""):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    import _gen  # noqa: F401

    __package__ = "_gen"

from .cpp import PARTS, pointwise_cpp, registry_cpp
from .docs import ops_md
from .entries import entries_pxd, op_ids
from .family import family_pyx
from .load import load
from .pyi import functional_pyi, stubs_pyi


def files():
    """The text of every generated file, by name."""
    opdefs = load()
    ops = opdefs.OPS
    out = {"op_ids.h": op_ids(ops), "entries.pxd": entries_pxd(ops), "registry.cpp": registry_cpp(ops)}
    for family in opdefs.FAMILIES:
        out[f"ops_{family}.pyx"] = family_pyx(family, ops)
    for part in range(PARTS):
        out[f"pointwise_{part}.cpp"] = pointwise_cpp(part, ops)
    out["ops.pyi"] = stubs_pyi(ops)
    out["functional.pyi"] = functional_pyi(ops)
    out["ops.md"] = ops_md(ops)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        path = out / name
        # Unchanged files keep their time stamp, so that only what changed is compiled again.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    main()
