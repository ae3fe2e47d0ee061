"""The build backend: meson-python, and nvcc as wheels where they are wanted.

A toolkit on the machine is used. Where there is none, the nvcc wheels (105 MB) are build requirements
only if they will be of use: the CUDA driver loads, or the builder asked with -Dcuda=enabled. Otherwise
the build is for the CPU alone.
"""

import ctypes
import os
import sys

import mesonpy
from mesonpy import *  # noqa: F403

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cuda_root

# The metapackage pins nvcc, its compiler stages and the headers to one release.
NVCC_WHEELS = "cuda-toolkit[nvcc,cccl,profiler]==13.0.3"


def meson_option(config_settings, name, default):
    """The value of -D`name`=... among the setup arguments given to the front end."""
    args = (config_settings or {}).get("setup-args", [])
    for arg in reversed([args] if isinstance(args, str) else args):
        if arg.startswith(f"-D{name}="):
            return arg.partition("=")[2]
    return default


def driver_loads():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def cuda_requirements(config_settings):
    cuda = meson_option(config_settings, "cuda", "auto")
    root = meson_option(config_settings, "toolkit_root", "")
    if cuda == "disabled" or root or cuda_root.find():
        return []
    return [NVCC_WHEELS] if cuda == "enabled" or driver_loads() else []


def get_requires_for_build_wheel(config_settings=None):
    required = mesonpy.get_requires_for_build_wheel(config_settings)
    return required + cuda_requirements(config_settings)


def get_requires_for_build_editable(config_settings=None):
    required = mesonpy.get_requires_for_build_editable(config_settings)
    return required + cuda_requirements(config_settings)
