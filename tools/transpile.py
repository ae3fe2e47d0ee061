"""Runs Cython over the modules of a folder in one process: importing Cython takes longer than most modules.

    python transpile.py DEPFILE FOLDER ARGUMENTS... MODULE.pyx...

MODULE.c goes to FOLDER, ARGUMENTS are those of the command `cython`. A module whose C file is newer than
all that it was made from is left alone, if Cython and its arguments are the same.
"""

import gc
import os
import sys
from pathlib import Path

from Cython import __version__
from Cython.Compiler.CmdLine import parse_command_line
from Cython.Compiler.Main import compile


def prerequisites(module_depfile):
    """The files that a depfile of Cython names."""
    return module_depfile.read_text().partition(":")[2].replace("\\\n", " ").split()


def is_current(target, module_depfile):
    if not target.exists() or not module_depfile.exists():
        return False
    made = target.stat().st_mtime_ns
    files = prerequisites(module_depfile)
    return all(os.path.exists(f) and os.stat(f).st_mtime_ns < made for f in files)


def main():
    depfile, folder, *arguments = sys.argv[1:]
    options, modules = parse_command_line(arguments)
    options.depfile = True
    settings = " ".join([__version__, *(a for a in arguments if a not in modules)])
    kept = Path(f"{depfile}.settings")
    same_settings = kept.exists() and kept.read_text() == settings
    # Cython itself stays; and its trees are large, so that looking for garbage seldom saves a third.
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
    targets, files = [], set()
    for module in modules:
        target = Path(folder, Path(module).stem + ".c")
        module_depfile = Path(f"{target}.dep")
        if not (same_settings and is_current(target, module_depfile)):
            options.output_file = str(target)
            if compile(module, options).num_errors:
                target.unlink(missing_ok=True)
                sys.exit(1)
        targets.append(str(target))
        files.update(prerequisites(module_depfile))
    kept.write_text(settings)
    Path(depfile).write_text(f"{' '.join(targets)}: {' '.join(sorted(files))}\n")


if __name__ == "__main__":
    main()
