"""What the Cython modules of this folder share: statuses to exceptions, numbers to handles."""
from libc.stdint cimport uintptr_t
from vibetensor.core.types cimport vt_status

cdef int check(vt_status status) except -1

cdef inline void* handle(object number) except? NULL:
    return <void*><uintptr_t>number
