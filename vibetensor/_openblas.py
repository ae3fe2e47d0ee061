"""Loads OpenBLAS before the first extension module that needs it.

libvtcore asks for the library by its name; once it is loaded, from wherever its package lies, the name is
enough. Importing the package `scipy_openblas32` would load it too, but that also looks up the package's
metadata, which takes longer than the rest of our import. Where the library is not found here, the
dynamic linker looks beside our own package and reports what is missing.
"""

import ctypes
import os
from importlib.util import find_spec


def _load():
    package = find_spec("scipy_openblas32")
    for folder in package.submodule_search_locations if package else ():
        library = os.path.join(folder, "lib", "libscipy_openblas.so")
        if os.path.exists(library):
            _load_single_threaded(library)
            return


def _load_single_threaded(library):
    """OpenBLAS starts its threads when it is loaded, and they spin at first. Ours is only called from
    our own threads, so it shall start none; other copies (numpy's) keep what the user set."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        ctypes.CDLL(library)
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


_load()
