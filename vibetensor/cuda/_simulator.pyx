"""The simulated driver's log, counters and failures for tests; see vibetensor.testing.cuda."""
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, malloc


cdef extern from "vibetensor/cuda/simulator_api.h" nogil:
    void vt_simulator_set_completion(int completion, uint64_t seed)
    void vt_simulator_finish_work()
    int vt_simulator_fail(const char* function, uint64_t nth, int error, uint64_t times)
    void vt_simulator_clear_failures()
    void vt_simulator_set_memory(int device, size_t nbytes)
    void vt_simulator_set_strict(int strict)
    void vt_simulator_record(int on)
    void vt_simulator_clear()
    void vt_simulator_snapshot(size_t* log_entries, size_t* violations)
    const char* vt_simulator_violation(size_t i)
    ctypedef struct vt_simulator_entry:
        const char* kind
        const char* name
        unsigned int grid[3]
        unsigned int block[3]
        unsigned int shared_bytes
        uint64_t stream
        size_t bytes
        int captured
        size_t num_touched
        const uint64_t* touched
    vt_simulator_entry vt_simulator_log_entry(size_t i)
    ctypedef struct vt_simulator_counters:
        uint64_t launches, copies, memsets, graph_launches, waits, implicit_waits, allocations
        uint64_t live_bytes, peak_bytes, blocks
    vt_simulator_counters vt_simulator_get_counters()
    uint64_t vt_simulator_calls(const char* function)
    int vt_simulator_peek(void* host, uint64_t address, size_t nbytes)
    int vt_simulator_poke(uint64_t address, const void* host, size_t nbytes)
    int vt_simulator_launch(int device, void* stream, const char* name, const uint64_t* words,
                            size_t num_words, uint64_t reads, uint64_t writes)


def set_completion(int completion, uint64_t seed):
    with nogil:
        vt_simulator_set_completion(completion, seed)


def finish_work():
    with nogil:
        vt_simulator_finish_work()


def fail(str function, uint64_t nth, int error, uint64_t times):
    cdef bytes name = function.encode()
    if not vt_simulator_fail(name, nth, error, times):
        raise ValueError(f"the driver table has no function {function}")


def clear_failures():
    vt_simulator_clear_failures()


def set_memory(int device, size_t nbytes):
    vt_simulator_set_memory(device, nbytes)


def set_strict(bint strict):
    vt_simulator_set_strict(strict)


def record(bint on):
    vt_simulator_record(on)


def clear():
    vt_simulator_clear()


def counters():
    return vt_simulator_get_counters()


def calls(str function):
    cdef bytes name = function.encode()
    return vt_simulator_calls(name)


def log():
    cdef size_t n = 0, unused = 0, i, k
    cdef vt_simulator_entry e
    vt_simulator_snapshot(&n, &unused)
    entries = []
    for i in range(n):
        e = vt_simulator_log_entry(i)
        entries.append({
            "kind": e.kind.decode(), "name": e.name.decode(),
            "grid": (e.grid[0], e.grid[1], e.grid[2]),
            "block": (e.block[0], e.block[1], e.block[2]), "shared_bytes": e.shared_bytes,
            "stream": e.stream, "bytes": e.bytes, "captured": bool(e.captured),
            "touched": [e.touched[k] for k in range(e.num_touched)],
        })
    return entries


def violations():
    cdef size_t unused = 0, n = 0, i
    vt_simulator_snapshot(&unused, &n)
    return [vt_simulator_violation(i).decode() for i in range(n)]


def peek(uint64_t address, size_t nbytes):
    """Bytes of the device, whatever the streams are about to do."""
    content = bytearray(nbytes)
    cdef char* place = content
    if nbytes and not vt_simulator_peek(place, address, nbytes):
        raise ValueError(f"not all of [{address:#x}, + {nbytes}) is allocated")
    return bytes(content)


def poke(uint64_t address, bytes content):
    cdef const char* source = content
    if not vt_simulator_poke(address, source, len(content)):
        raise ValueError(f"not all of [{address:#x}, + {len(content)}) is allocated")


def launch(int device, stream, str name, words, uint64_t reads, uint64_t writes):
    """A launch whose arguments are 8-byte words; the driver's error code."""
    cdef bytes text = name.encode()
    cdef size_t n = len(words), i
    cdef uint64_t* values = <uint64_t*>malloc(8 * n + 8)
    if values is NULL:
        raise MemoryError
    try:
        for i in range(n):
            values[i] = words[i]
        return vt_simulator_launch(device, <void*><uintptr_t>stream, text, values, n, reads, writes)
    finally:
        free(values)
