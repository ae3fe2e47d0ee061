"""Dispatch: from the keys of the arguments to an entry, and from Python operators to entries.

Note [Dispatch]: an entry is a C function over Tensors; `vt_entries[op][key]` holds it. The highest
key of the arguments, with the thread's included and without its excluded keys, picks the column. The
Autograd entry of an operator calls the one below with the keys above the backends masked off.
"""
from libc.stdint cimport uint32_t

from vibetensor.core.tensor cimport Tensor
from vibetensor.core.types cimport *


# Keys of an optional tensor, and of a tuple of optional tensors.
cdef inline uint32_t optional_keys(Tensor t) noexcept:
    return 0 if t is None else t.keyset
cdef uint32_t list_keys(tuple tensors) except? 0xFFFFFFFF
# No entry for the highest key of `keys`: raises NotImplementedError.
cdef int no_entry(const char* name, uint32_t keys) except -1

cdef inline void* below_autograd(int op, uint32_t keys) noexcept:
    """The entry that the Autograd entry of `op` calls."""
    return vt_entries[op][vt_top_key(vt_effective_keys(keys) & (KEYS_AUTOGRAD - 1))]

# Installs a C function behind a Python operator of Tensor: binary (a, b), unary (a), or for
# "__getitem__" (a, index) and "__setitem__" (a, index, value). The latter returns 0 or -1.
cdef int set_slot(const char* name, void* function) except -1
# The same for a comparison, by its Py_LT ... Py_GE code.
cdef int set_comparison(int code, void* function) except -1
