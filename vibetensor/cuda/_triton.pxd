"""Images of Triton's kernels as C structures."""
from libc.stdint cimport uint64_t


cdef extern from "vibetensor/cuda/triton_api.h" nogil:
    ctypedef struct vt_triton_descriptor:
        int dtype, swizzle, element_bytes, rank
        unsigned int box[5]
    ctypedef struct vt_triton_image:
        const void* cubin
        const char* name
        int num_warps, num_ctas
        unsigned int shared
        int cooperative, dependent
        size_t global_scratch, argument_bytes
        uint64_t pointers
        int num_descriptors
        const vt_triton_descriptor* descriptors
        int num_parameters
        const unsigned short* parameters


cdef enum:
    MAX_DESCRIPTORS = 12
    MAX_PARAMETERS = 256


# An Image as the C structure; lives as long as its bytes are needed.
cdef class ImageView:
    cdef vt_triton_image c
    cdef vt_triton_descriptor descriptors[MAX_DESCRIPTORS]
    cdef unsigned short parameters[MAX_PARAMETERS]
    cdef bytes name, cubin
