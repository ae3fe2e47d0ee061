"""Which CUDA kernels this build has."""


cdef extern from "vibetensor/cuda/backend.h" nogil:
    const char* vt_cuda_missing(int position)


def missing():
    """The names of the kernels that were declared and not linked: their operators raise
    NotImplementedError on a device."""
    names = []
    while vt_cuda_missing(<int>len(names)) is not NULL:
        names.append(vt_cuda_missing(<int>len(names)).decode())
    return names
