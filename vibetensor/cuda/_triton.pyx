"""Between the launcher of Triton's kernels and the compiler: images as C structures."""
from cpython.bytes cimport PyBytes_AS_STRING


cdef extern from "vibetensor/cuda/triton_api.h" nogil:
    ctypedef void (*vt_triton_finder)(const char* source, const char* spec, int major, int minor,
                                      int simulated, void* request) noexcept nogil
    void vt_triton_set_finder(vt_triton_finder finder)
    void vt_triton_deliver(void* request, const vt_triton_image* image)
    void vt_triton_fail(void* request, const char* message)
    void vt_triton_missing(void* request)
    void vt_triton_enable(int enabled)
    int vt_triton_is_enabled()


cdef class ImageView:
    def __init__(self, image):
        cdef int i, k
        self.name = image.name.encode()
        self.cubin = image.cubin
        self.c.name = PyBytes_AS_STRING(self.name)
        self.c.cubin = PyBytes_AS_STRING(self.cubin) if self.cubin else NULL
        self.c.num_warps = image.num_warps
        self.c.num_ctas = image.num_ctas
        self.c.shared = image.shared
        self.c.cooperative = image.cooperative
        self.c.dependent = image.dependent
        self.c.global_scratch = image.global_scratch
        self.c.argument_bytes = image.argument_bytes
        self.c.pointers = image.pointers
        if len(image.descriptors) > MAX_DESCRIPTORS:
            raise ValueError(f"{image.name}: more than {MAX_DESCRIPTORS} tensor descriptors")
        self.c.num_descriptors = <int>len(image.descriptors)
        self.c.descriptors = self.descriptors
        if len(image.parameters) > MAX_PARAMETERS:
            raise ValueError(f"{image.name}: more than {MAX_PARAMETERS} parameters")
        self.c.num_parameters = <int>len(image.parameters)
        self.c.parameters = self.parameters
        for i, at in enumerate(image.parameters):
            self.parameters[i] = at
        for i, d in enumerate(image.descriptors):
            self.descriptors[i].dtype = d.dtype
            self.descriptors[i].swizzle = d.swizzle
            self.descriptors[i].element_bytes = d.element_bytes
            self.descriptors[i].rank = <int>len(d.box)
            for k, n in enumerate(d.box):
                self.descriptors[i].box[k] = n


cdef void find(const char* source, const char* spec, int major, int minor, int simulated,
               void* request) noexcept with gil:
    cdef ImageView view
    try:
        from vibetensor.kernels import _compile

        try:
            view = ImageView(_compile.find(source.decode(), spec.decode(), major, minor, simulated))
        except _compile.MissingTriton:
            vt_triton_missing(request)
            return
        vt_triton_deliver(request, &view.c)
    except BaseException as error:
        text = f"the Triton kernel {source.decode()}: {type(error).__name__}: {error}".encode()
        vt_triton_fail(request, text)


def start():
    """From here on the launcher finds its kernels."""
    vt_triton_set_finder(find)


def enable(bint enabled):
    """Returns what was set before."""
    before = bool(vt_triton_is_enabled())
    vt_triton_enable(enabled)
    return before


def is_enabled():
    return bool(vt_triton_is_enabled())
