"""What downstream extensions may ``cimport``: the stable prefix of a Tensor.

The fields can be read without the GIL while a reference is held. Everything behind them is private and
may change in any release; the ABI number changes only if the prefix does. Compile with
``-I`` + ``vibetensor.get_include()`` and call `import_vibetensor` when the module is imported::

    from vibetensor cimport Tensor, import_vibetensor
    import_vibetensor()

    cdef double first(Tensor t) noexcept nogil:
        return (<double*>t.data)[0]
"""
from libc.stdint cimport int8_t, int64_t, uint8_t


cdef extern from "vibetensor/tensor.h":
    enum:
        VT_ABI_VERSION

    ctypedef class vibetensor.core.tensor.Tensor [object vt_tensor_prefix, check_size ignore]:
        cdef char* data             # address of element [0, ..., 0]
        cdef int64_t* sizes         # ndim of them
        cdef int64_t* strides       # in elements
        cdef int64_t numel
        cdef uint8_t ndim
        cdef uint8_t dtype          # the VT_... codes of vibetensor/types.h
        cdef uint8_t device_type
        cdef int8_t device_index


cdef extern from "vibetensor/types.h":
    enum:
        VT_BOOL, VT_U8, VT_I8, VT_I16, VT_I32, VT_I64
        VT_F16, VT_BF16, VT_F32, VT_F64, VT_C64, VT_C128
        VT_CPU, VT_CUDA, VT_META


cdef inline int import_vibetensor() except -1:
    """ImportError where the installed library has another prefix than this extension was built for."""
    from vibetensor.core.tensor import ABI_VERSION
    if ABI_VERSION != VT_ABI_VERSION:
        raise ImportError(
            f"this extension was built for ABI {VT_ABI_VERSION} of vibetensor, the installed library "
            f"has ABI {ABI_VERSION}: build it again"
        )
    return 0
