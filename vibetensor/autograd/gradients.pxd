"""What happens to one gradient on its way: fitted to what the receiver expects, summed with others,
accumulated in a leaf. All functions that take `PyObject* g` take over the caller's reference."""
from cpython.ref cimport PyObject

from vibetensor.autograd.node cimport vt_meta
from vibetensor.core.tensor cimport Tensor


# `g` with the dtype and shape of `meta`; `source` is the node that sent it as output `index`, or
# NULL.
cdef PyObject* conform(PyObject* g, const vt_meta* meta, PyObject* source, int index) except NULL
# Adds `g` to the gradient in `slot`.
cdef int sum_into(PyObject** slot, PyObject* g) except -1
# Adds `g`, which conforms, to leaf.grad: takes it over where nobody else holds it.
cdef int accumulate_leaf(Tensor leaf, PyObject* g) except -1


cdef inline bint conforms(PyObject* g, const vt_meta* meta) noexcept:
    cdef int i
    if (
        (<Tensor>g).dtype != meta.dtype or (<Tensor>g).ndim != meta.ndim
        or (<Tensor>g).device_type != meta.device_type
        or (<Tensor>g).device_index != meta.device_index
    ):
        return False
    for i in range(meta.ndim):
        if (<Tensor>g).sizes[i] != meta.sizes[i]:
            return False
    return True
