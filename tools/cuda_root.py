"""Print the root of a CUDA toolkit and its version, or fail.

    python tools/cuda_root.py [ROOT]

With ROOT, only that folder is looked at. Otherwise, in order: the nvcc wheels on `sys.path` (where a
build with isolation has them), CUDA_HOME, CUDA_PATH, the nvcc on PATH, /usr/local/cuda.
"""

import os
import re
import shutil
import sys

# The host side is compiled against the 13.x driver interface.
MAJOR = 13


def candidates():
    for entry in sys.path:
        yield os.path.join(entry, "nvidia", f"cu{MAJOR}")
    yield os.environ.get("CUDA_HOME", "")
    yield os.environ.get("CUDA_PATH", "")
    nvcc = shutil.which("nvcc")
    if nvcc:
        yield os.path.dirname(os.path.dirname(os.path.realpath(nvcc)))
    yield "/usr/local/cuda"


def version(root):
    """(major, minor) of the toolkit at `root`, None if it is not a usable one."""
    # An nvcc on PATH may be a wrapper script, far from its toolkit: the headers decide.
    header = os.path.join(root, "include", "cuda_runtime_api.h")
    if not root or not os.access(os.path.join(root, "bin", "nvcc"), os.X_OK):
        return None
    try:
        with open(header, encoding="utf-8", errors="replace") as f:
            found = re.search(r"#define\s+CUDART_VERSION\s+(\d+)", f.read())
    except OSError:
        return None
    if not found:
        return None
    number = int(found[1])
    return (number // 1000, number % 1000 // 10) if number // 1000 == MAJOR else None


def find(root=""):
    """(root, "13.0") of the toolkit to build with, None if there is none."""
    for path in [root] if root else candidates():
        found = version(path)
        if found:
            return os.path.abspath(path), f"{found[0]}.{found[1]}"
    return None


if __name__ == "__main__":
    toolkit = find(*sys.argv[1:2])
    if toolkit is None:
        sys.exit(f"no CUDA {MAJOR} toolkit found")
    print(*toolkit, sep="\n")
