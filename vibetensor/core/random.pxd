"""Random generators: a seed and a position in a counter-based (Philox) stream."""
from libc.stdint cimport int64_t, uint64_t


cdef class Generator:
    cdef uint64_t seed_value
    cdef uint64_t position    # in blocks of four 32-bit numbers
    cdef int device_type, device_index
    cdef uint64_t record      # during a capture: address of the device's record, else 0
    cdef uint64_t captured    # blocks that the capture drew so far


# The generator an operator on this device uses when none is given.
cdef Generator default_generator_of(int device_type, int device_index)
# Sets aside `blocks` Philox blocks of `generator` (None: the device's default one): the caller alone
# may use counters offset to offset + blocks - 1 of `seed`.
cdef int philox_reserve(object generator, int device_type, int device_index, int64_t blocks,
                        int64_t* seed, int64_t* offset) except -1
