"""The Tensor extension type: its layout, its memory, and the constructors everything else uses.

Private to this package; downstream extensions use the accessors of `vibetensor/__init__.pxd`.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t

from vibetensor.core.types cimport *


cdef enum:
    INLINE_DIMS = 6  # higher ranks keep sizes and strides on the heap

# Bits of Tensor.flags.
cdef enum:
    F_CONTIGUOUS = 1        # row-major without gaps; unit dimensions ignored
    F_REQUIRES_GRAD = 2     # a leaf that requires grad, or anything with a grad_fn
    F_WRAPPED_NUMBER = 4    # made from a Python number: the weakest in promotion
    F_INFERENCE = 8         # made inside inference_mode
    F_UNTRACKED = 16        # writes do not bump the version counter (`.data`)
    F_RETAINS_GRAD = 32
    F_HEAP_DIMS = 64
    # How a view was made, where that restricts in-place use under autograd:
    F_VIEW_NO_GRAD = 128    # under no_grad
    F_VIEW_MULTI = 256      # by an operator with several outputs
    F_VIEW_FUNCTION = 512   # returned from a custom Function
    F_VIEW_FLAGS = 128 | 256 | 512


cdef class Tensor:
    # --- the stable prefix (include/vibetensor/tensor.h) ---
    cdef char* data
    cdef int64_t* sizes
    cdef int64_t* strides
    cdef int64_t numel
    cdef uint8_t ndim, dtype, device_type
    cdef int8_t device_index
    # --- private ---
    cdef uint16_t flags
    cdef uint16_t output_nr         # which output of grad_fn this is
    cdef uint32_t keyset            # dispatch keys
    cdef uint32_t view_version      # storage version at which grad_fn of a view was formed
    cdef vt_storage* storage
    cdef PyObject* grad_fn          # owned Node or NULL
    cdef PyObject* base             # owned Tensor this is a view of (never itself a view) or NULL
    cdef PyObject* grad             # owned Tensor or NULL
    cdef PyObject* hooks            # owned dict of tensor hooks or NULL (leaf hooks live here)
    cdef PyObject* accumulate       # owned AccumulateGrad handle or NULL
    cdef PyObject* attributes       # __dict__ or NULL
    cdef object __weakref__
    cdef int64_t dims[12]


# --- attributes --------------------------------------------------------------------------------

# The C signatures of PyGetSetDef; the setter returns 0, or -1 with an exception.
ctypedef object (*getter)(PyObject* self, void* closure)
ctypedef int (*setter)(PyObject* self, PyObject* value, void* closure) except -1
# Adds a property to the Tensor type; for names that a C field also bears. Static strings.
cdef int install_property(const char* name, getter get, setter set, const char* doc) except -1
# The cycle collector must know a tensor that got hooks or Python attributes (object.h).
cdef extern from *:
    """
    static inline void vt_track(PyObject *o) {
      if (!PyObject_GC_IsTracked(o)) PyObject_GC_Track(o);
    }
    """
    void vt_track(PyObject* o) noexcept

# --- construction ------------------------------------------------------------------------------

# A Tensor with no storage yet and all rare fields NULL; the caller sets every other field.
cdef Tensor tensor_alloc(int ndim)
# An uninitialised contiguous CPU/CUDA tensor.
cdef Tensor tensor_new(int ndim, const int64_t* sizes, int dtype, int device_type, int device_index)
# An uninitialised contiguous tensor with the sizes and the device of `a`.
cdef Tensor tensor_new_like(Tensor a, int dtype)
# The same from a borrowed reference.
cdef Tensor new_like(PyObject* like, int dtype)
# The same from a tuple of ints (checked).
cdef Tensor tensor_empty(tuple sizes, int dtype, int device_type, int device_index)
# Uninitialised with strides in the order of `a`'s where `a` is dense (torch.preserve_format).
cdef Tensor tensor_empty_like(Tensor a, int dtype)
# The same geometry and storage; no autograd, no base. Backbone of views and detach().
cdef Tensor tensor_alias(Tensor a)
# As tensor_alias, with room for `ndim` dimensions, which the caller fills.
cdef Tensor tensor_alias_dims(Tensor a, int ndim)
# A 0-d tensor from a Python number, flagged as wrapped (float64, int64, bool or complex128).
# None when `value` is no number.
cdef Tensor tensor_wrap_number(object value)
# Recomputes numel and F_CONTIGUOUS after sizes or strides changed.
cdef void tensor_update(Tensor t) noexcept
cdef tuple tensor_shape(Tensor t)
cdef tuple fill_sizes(int n, const int64_t* sizes)
cdef tuple tensor_strides(Tensor t)
# Rebinds t to the storage and geometry of `source`.
cdef int tensor_rebind(Tensor t, Tensor source) except -1
# Whether the elements fill a range of memory, each once, in some order of the dimensions.
cdef bint tensor_is_dense(Tensor t) noexcept
cdef bint tensor_same_shape(Tensor a, Tensor b) noexcept

cdef inline int64_t tensor_offset(Tensor t) noexcept:
    """Offset of the first element from the start of the storage, in elements."""
    return (t.data - t.storage.data) // itemsize(t.dtype)

cdef inline int itemsize(int dtype) noexcept nogil:
    return ITEMSIZE[dtype]

cdef inline void bump_version(Tensor t) noexcept:
    if not t.flags & F_UNTRACKED:
        t.storage.version += 1

cdef inline void tensor_array(Tensor t, vt_array* a) noexcept:
    """The kernel's view of a tensor; t may be None (an optional tensor not given)."""
    if t is None:
        a.data = NULL
        a.ndim = -1
        a.numel = 0
        return
    a.data = t.data
    a.sizes = t.sizes
    a.strides = t.strides
    a.numel = t.numel
    a.ndim = t.ndim
    a.dtype = t.dtype
    a.device_type = t.device_type
    a.device_index = t.device_index
    a.contiguous = t.flags & F_CONTIGUOUS

cdef extern from *:
    """
    static const int vt_itemsize_[16] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16, 1, 1, 0, 0};
    """
    const int ITEMSIZE "vt_itemsize_"[16]
