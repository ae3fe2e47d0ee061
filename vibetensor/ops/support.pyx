"""Support of generated code (see support.pxd)."""
from libc.stdlib cimport free, malloc

from vibetensor.autograd.node cimport edge_wanted, needs_grad
from vibetensor.core.device cimport device_object
from vibetensor.core.errors cimport device_mismatch, read_only
from vibetensor.core.iterator cimport check_no_internal_overlap, copy_into
from vibetensor.core.tensor cimport (
    F_INFERENCE, fill_sizes, tensor_array, tensor_empty_like, tensor_shape,
)
from vibetensor.core.tensor import install

SURFACES = {"vt": {}, "nn.functional": {}, "special": {}, "ops": {}}


def publish(surface, name, function):
    """Lists `function` under `name` of a public module; the packages copy their names from here."""
    SURFACES[surface][name] = function


def install_method(name, function):
    """Makes a function called ``method_<name>`` a method of Tensor."""
    function.__name__ = name
    function.__qualname__ = f"Tensor.{name}"
    install(name, function)


cdef bint any_needs_grad(tuple tensors) except -1:
    for t in tensors:
        if t is not None and needs_grad(<Tensor>t):
            return True
    return False


cdef tuple gradient_tuple(Node node, PyObject** grads):
    return tuple([
        <object>grads[i] if grads[i] is not NULL else None for i in range(node.noutputs)
    ])


cdef tuple wanted_edges(Node node):
    cdef int i
    return tuple([edge_wanted(node, i) for i in range(node.nedges)])


cdef int put_gradients(Node node, PyObject** out, object grads) except -1:
    cdef int i
    for i in range(node.nedges):
        if edge_wanted(node, i):
            put_gradient(out, i, grads[i])
    return 0


cdef tuple edge_shape(Node node, int i):
    cdef PyObject* target = node.edges[i].target
    if node.edges[i].leaf:
        return tensor_shape(<Tensor>target)
    return fill_sizes(
        (<Node>target).metas[node.edges[i].input_nr].ndim,
        (<Node>target).metas[node.edges[i].input_nr].sizes,
    )


cdef int edge_dtype(Node node, int i) noexcept:
    cdef PyObject* target = node.edges[i].target
    if target is NULL:
        return -1
    if node.edges[i].leaf:
        return (<Tensor>target).dtype
    return (<Node>target).metas[node.edges[i].input_nr].dtype


cdef int gradient_dtype(Tensor t) noexcept:
    if t.grad_fn is NULL:
        return t.dtype
    return (<Node>t.grad_fn).metas[t.output_nr].dtype


cdef int begin_write(Tensor t) except -1:
    if t.flags & F_INFERENCE and not vt_tls.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. You can make a "
            "clone to get a normal tensor before doing inplace update."
        )
    if t.storage.flags & VT_STORAGE_READONLY:
        read_only()
    return check_no_internal_overlap(t)


cdef Tensor copy_of(Tensor t):
    cdef Tensor out = tensor_empty_like(t, t.dtype)
    copy_into(out, t)
    return out


cdef class TensorArrays:
    """Owns the array descriptors of a tuple of tensors for the duration of a kernel call."""

    def __cinit__(self, tuple tensors):
        cdef Py_ssize_t n = len(tensors), i
        self.tensors = tensors
        self.arrays = <vt_array*>malloc((n if n > 0 else 1) * sizeof(vt_array))
        if self.arrays is NULL:
            raise MemoryError()
        for i in range(n):
            tensor_array(<Tensor>tensors[i], &self.arrays[i])

    def __dealloc__(self):
        free(self.arrays)

    cdef int beside(self, const char* name, const vt_array* first, vt_value* v) except -1:
        cdef Py_ssize_t i
        for i in range(len(self.tensors)):
            if self.arrays[i].ndim >= 0 and (
                    self.arrays[i].device_type != first.device_type
                    or self.arrays[i].device_index != first.device_index):
                device_mismatch(name.decode(), device_object(first.device_type, first.device_index),
                                (<Tensor>self.tensors[i]).device)
        v.kind = VT_VALUE_ARRAYS
        v.n = len(self.tensors)
        v.arrays = self.arrays
        return 0
