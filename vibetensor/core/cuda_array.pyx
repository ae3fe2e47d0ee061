"""``__cuda_array_interface__``, version 3: exchange of CUDA memory with numba, CuPy and torch.

The producer names the stream its data is ready on; the consumer makes its own stream wait for it.
DLPack does the same and is preferred where both are there.
"""
from vibetensor.core.device cimport parse_device
from vibetensor.core.dtype cimport dtype_name
from vibetensor.core.interop cimport tensor_over_memory
from vibetensor.core.tensor cimport Tensor, itemsize
from vibetensor.core.tensor import install
from vibetensor.core.types cimport *

cdef tuple TYPES = (
    "|b1", "|u1", "|i1", "<i2", "<i4", "<i8", "<f2", None, "<f4", "<f8", "<c8", "<c16",
)  # by dtype code; bfloat16 has none
cdef enum:
    LEGACY_STREAM = 1  # how the interface spells the default stream


def interface(self):
    """The memory of a CUDA tensor in the form of the CUDA array interface.

    AttributeError for a tensor of another device, RuntimeError for one that requires grad, TypeError
    for bfloat16.
    """
    cdef Tensor t = <Tensor?>self
    cdef size_t stream
    cdef int i
    if t.device_type != VT_CUDA:
        raise AttributeError(
            f"Can't get __cuda_array_interface__ on non-CUDA tensor type: it is on {t.device}. Use "
            "tensor.cuda() to move it to a device.")
    if t.requires_grad:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. If "
                           "gradients aren't required, use var.detach() to get Variable that doesn't "
                           "require grad.")
    if TYPES[t.dtype] is None:
        raise TypeError(f"the CUDA array interface has no type for {dtype_name(t.dtype)}")
    stream = <size_t>vt_backends[VT_CUDA].current_stream(t.device_index)
    size = itemsize(t.dtype)
    return {
        "shape": tuple([t.sizes[i] for i in range(t.ndim)]),
        "typestr": TYPES[t.dtype],
        "data": (<size_t>t.data if t.numel > 0 else 0,
                 (t.storage.flags & VT_STORAGE_READONLY) != 0),
        "strides": tuple([t.strides[i] * size for i in range(t.ndim)]),
        "stream": stream if stream != 0 else LEGACY_STREAM,
        "version": 3,
    }


cdef int dtype_of(str typestr) except -1:
    for code, name in enumerate(TYPES):
        if name is not None and name[1:] == typestr[1:] and typestr[0] in "|<=":
            return code
    raise TypeError(f"no dtype for the type {typestr!r} of the CUDA array interface")


cdef Tensor tensor_from_cuda_array(object array):
    cdef dict description = array.__cuda_array_interface__
    cdef int64_t sizes[64]
    cdef int64_t strides[64]
    cdef int64_t step = 1
    cdef int code = dtype_of(description["typestr"]), size = itemsize(code), device_type = VT_CUDA, i
    cdef int8_t index = -1
    cdef size_t address = description["data"][0], stream
    cdef void* current
    shape = tuple(description["shape"])
    cdef int ndim = <int>len(shape)
    given = description.get("strides")
    if ndim > VT_MAX_DIMS:
        raise ValueError(f"a tensor has at most {VT_MAX_DIMS} dimensions, got {ndim}")
    if description.get("mask") is not None:
        raise ValueError("masked CUDA arrays are not supported")
    parse_device("cuda", &device_type, &index)
    if address != 0:
        i = vt_backends[VT_CUDA].device_of(<void*>address)
        if i == VT_HOST:
            raise ValueError(f"the address {address:#x} of a CUDA array is no memory of a device")
        index = <int8_t>i
    for i in range(ndim - 1, -1, -1):
        sizes[i] = shape[i]
        strides[i] = step
        step *= sizes[i] if sizes[i] > 1 else 1
        if given is not None:
            if given[i] % size != 0:
                raise ValueError("the strides of a CUDA array must be multiples of the element size")
            strides[i] = given[i] // size
    t = tensor_over_memory(<char*>address, ndim, sizes, strides, code, description["data"][1], array,
                           device_type, index)
    if description.get("stream") is not None:
        stream = description["stream"]
        current = vt_backends[VT_CUDA].current_stream(index)
        vt_backends[VT_CUDA].order_streams(
            index, current, index, NULL if stream == LEGACY_STREAM else <void*>stream)
    return t


install("__cuda_array_interface__", property(interface))
