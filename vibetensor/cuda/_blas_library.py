"""Where cuBLASLt lies. Asked once, by the first matrix product on CUDA."""


def path():
    """The path of the shared library, or None: then the dynamic linker looks for it by name.

    cuda-pathfinder knows the packages, conda environments and toolkits that may hold it. It loads
    the library as well, which is what happens next anyway.
    """
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib
    except ImportError:
        return None
    try:
        return load_nvidia_dynamic_lib("cublasLt").abs_path
    except RuntimeError:  # DynamicLibNotFoundError
        return None
