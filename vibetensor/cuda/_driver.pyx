"""Fills the driver table: from cuda.bindings.cydriver, or with the simulated driver.

cydriver lists its functions by name, as it does for ``cimport``; asking that list at run time keeps
the names in one place (driver.h) and cuda-bindings out of the build.
"""
from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer

ctypedef int (*init_function)(unsigned int) except? 500 nogil  # 500: CUDA_ERROR_NOT_FOUND
ctypedef int (*version_function)(int*) except? 500 nogil


cdef extern from "vibetensor/cuda/runtime_api.h" nogil:
    int vt_cuda_num_driver_functions()
    const char* vt_cuda_driver_name(int number)
    void vt_cuda_set_driver_function(int number, void* function)


cdef extern from "vibetensor/cuda/simulator_api.h" nogil:
    void vt_simulator_install(int devices, size_t memory_bytes)


cdef enum:
    OLDEST_DRIVER = 13000

# What cuInit says most often where there is nothing to use, in words.
cdef dict _init_errors = {
    3: "the driver could not be initialised",
    34: "the CUDA stub library was loaded in place of a driver",
    100: "the driver found no CUDA device",
    101: "the driver found no device that CUDA_VISIBLE_DEVICES names",
    803: "the driver's library and its kernel module are of different versions",
    804: "the device does not support this driver's forward compatibility",
    999: "the driver reported an unknown error",
}


def load():
    """Takes the functions of the installed driver; None, or in one sentence why that failed."""
    try:
        from cuda.bindings import cydriver
    except ImportError as error:
        return (f"the package cuda-bindings is missing or cannot be loaded ({error}): "
                "pip install 'vibetensor[cuda]'")
    functions = cydriver.__pyx_capi__
    for name in ("cuInit", "cuDriverGetVersion"):
        if name not in functions:
            return f"the package cuda-bindings has no function {name}"
    cdef init_function init = <init_function>_address(functions["cuInit"])
    cdef version_function version_of = <version_function>_address(functions["cuDriverGetVersion"])
    cdef int result, version = 0
    try:
        with nogil:
            result = init(0)
            if result == 0:
                result = version_of(&version)
    except RuntimeError as error:  # it finds no libcuda.so.1
        return f"no CUDA driver was found on this machine ({error})"
    if result != 0:
        return _init_errors.get(result, f"the driver failed with error {result}")
    if version < OLDEST_DRIVER:
        return (f"the driver supports CUDA {version // 1000}.{version % 1000 // 10}, and vibetensor "
                f"needs {OLDEST_DRIVER // 1000}.{OLDEST_DRIVER % 1000 // 10} or newer")
    cdef int i
    for i in range(vt_cuda_num_driver_functions()):
        name = vt_cuda_driver_name(i).decode()
        if name not in functions:
            return f"the package cuda-bindings has no function {name}"
    for i in range(vt_cuda_num_driver_functions()):
        name = vt_cuda_driver_name(i).decode()
        vt_cuda_set_driver_function(i, _address(functions[name]))
    return None


cdef void* _address(object capsule) except NULL:
    return PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


def simulate(int devices, size_t memory_bytes):
    """Puts the simulated driver in place."""
    vt_simulator_install(devices, memory_bytes)
