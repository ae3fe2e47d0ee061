"""Elements of tensors as Python numbers, and back."""
from vibetensor.core.tensor cimport Tensor


# The element at `p` as bool, int, float or complex.
cdef object element_at(const char* p, int dtype)
# Stores a Python number (or anything that converts) at `p`; dtype is not a half type.
cdef int store_element(char* p, int dtype, object value) except -1
# Raises PyTorch's RuntimeError where a Python number is out of the range of a dtype.
cdef int check_fits(object number, int dtype) except -1
# The same for a number that fills memory: the half types have limits of their own then.
cdef int check_fill(object number, int dtype) except -1
# The only element of t; RuntimeError if it has another number of them.
cdef object item_of(Tensor t)
# t itself if it lies in host memory, else a copy there.
cdef Tensor on_host(Tensor t)
