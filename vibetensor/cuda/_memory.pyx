"""The allocator as Python functions over numbers, and the stacks of its history.

Owns the table of stacks: the allocator, which knows nothing of Python, keeps their numbers.
"""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t, uintptr_t

import sys


cdef extern from "Python.h":
    void PyErr_Fetch(PyObject** kind, PyObject** value, PyObject** traceback)
    void PyErr_Restore(PyObject* kind, PyObject* value, PyObject* traceback)
    int Py_IsInitialized() nogil
    int PyCode_Addr2Line(object code, int instruction)


cdef extern from "vibetensor/cuda/memory_api.h" nogil:
    const char* vt_cuda_memory_error()
    int vt_cuda_memory_error_is_oom()
    int vt_cuda_set_allocator_options(const char* text)
    int vt_cuda_check_allocator_options()
    const char* vt_cuda_allocator_options()
    int vt_cuda_expandable_segments()
    double vt_cuda_gc_threshold()
    void vt_cuda_set_caching(int on)
    int vt_cuda_caching()
    int vt_cuda_set_memory_fraction(int device, double fraction)
    double vt_cuda_memory_fraction(int device)
    void* vt_cuda_alloc_raw(int device, void* stream, size_t nbytes)
    int vt_cuda_free_raw(void* data)
    void vt_cuda_empty_cache(int device)
    void vt_cuda_host_empty_cache()
    ctypedef struct vt_cuda_pool_id:
        uint64_t first, second
    vt_cuda_pool_id vt_cuda_new_pool_id()
    int vt_cuda_retain_pool(int device, vt_cuda_pool_id pool, int use_on_oom, int no_split)
    void vt_cuda_drop_pool(int device, vt_cuda_pool_id pool)
    int vt_cuda_pool_use_count(int device, vt_cuda_pool_id pool)
    int vt_cuda_begin_thread_pool(int device, vt_cuda_pool_id pool)
    void vt_cuda_end_pool(int device, vt_cuda_pool_id pool)
    ctypedef void (*vt_cuda_figure_sink)(void* to, const char* name, int64_t value) noexcept
    void vt_cuda_memory_stats(int device, vt_cuda_figure_sink sink, void* to)
    void vt_cuda_host_memory_stats(vt_cuda_figure_sink sink, void* to)
    ctypedef struct vt_cuda_memory_use:
        int64_t allocated, max_allocated, reserved, max_reserved
    vt_cuda_memory_use vt_cuda_get_memory_use(int device)
    void vt_cuda_reset_peak_stats(int device)
    void vt_cuda_reset_accumulated_stats(int device)
    void vt_cuda_host_reset_peak_stats()
    void vt_cuda_host_reset_accumulated_stats()
    ctypedef struct vt_cuda_block_info:
        uint64_t address, size, requested, history
        const char* state
    ctypedef struct vt_cuda_segment_info:
        int device, large, expandable
        uint64_t address, total_size, allocated_size, active_size, requested_size, stream
        vt_cuda_pool_id pool
    ctypedef struct vt_cuda_trace_entry:
        const char* action
        uint64_t address, size, stream, history
        int64_t device_free, time_us
        vt_cuda_pool_id pool
    ctypedef void (*vt_cuda_segment_sink)(void* to, const vt_cuda_segment_info* segment,
                                          const vt_cuda_block_info* block) noexcept
    void vt_cuda_memory_snapshot(const vt_cuda_pool_id* pool, vt_cuda_segment_sink sink, void* to)
    ctypedef void (*vt_cuda_trace_sink)(void* to, const vt_cuda_trace_entry* entry) noexcept
    void vt_cuda_memory_trace(int device, vt_cuda_trace_sink sink, void* to)
    uint64_t vt_cuda_allocation_history(uint64_t address)
    void vt_cuda_record_memory_history(int on, int entries, int stacks, uint64_t max_entries,
                                       unsigned int skip, uint64_t (*gather)() noexcept, int clear)
    const char* vt_cuda_action_name(int action)


cdef int fail() except -1:
    text = vt_cuda_memory_error().decode(errors="replace")
    if vt_cuda_memory_error_is_oom():
        from vibetensor.core.errors import OutOfMemoryError
        raise OutOfMemoryError(text)
    raise RuntimeError(text)


# --- options ---------------------------------------------------------------------------------------


def set_options(str text):
    cdef bytes encoded = text.encode()
    if not vt_cuda_set_allocator_options(encoded):
        raise ValueError(vt_cuda_memory_error().decode())


def check_options():
    """Raises for a wrong VIBETENSOR_CUDA_ALLOC_CONF."""
    if not vt_cuda_check_allocator_options():
        raise ValueError(vt_cuda_memory_error().decode())


def options():
    return {
        "VIBETENSOR_CUDA_ALLOC_CONF": vt_cuda_allocator_options().decode(),
        "expandable_segments": bool(vt_cuda_expandable_segments()),
        "garbage_collection_threshold": vt_cuda_gc_threshold(),
    }


def set_caching(bint on):
    vt_cuda_set_caching(on)


def caching():
    return bool(vt_cuda_caching())


def set_fraction(int device, double fraction):
    if not vt_cuda_set_memory_fraction(device, fraction):
        fail()


def fraction(int device):
    return vt_cuda_memory_fraction(device)


# --- memory ----------------------------------------------------------------------------------------


def alloc_raw(int device, stream, size_t nbytes):
    cdef void* handle = <void*><uintptr_t>stream
    cdef void* data
    with nogil:
        data = vt_cuda_alloc_raw(device, handle, nbytes)
    if data is NULL:
        fail()
    return <uintptr_t>data


def free_raw(address):
    if not vt_cuda_free_raw(<void*><uintptr_t>address):
        raise ValueError(f"{address:#x} was not given by caching_allocator_alloc()")


def empty_cache(int device=-1):
    with nogil:
        vt_cuda_empty_cache(device)


def host_empty_cache():
    with nogil:
        vt_cuda_host_empty_cache()


# --- private pools ---------------------------------------------------------------------------------


cdef vt_cuda_pool_id pool_id(pool) except *:
    cdef vt_cuda_pool_id result
    result.first, result.second = pool
    return result


def new_pool():
    cdef vt_cuda_pool_id pool = vt_cuda_new_pool_id()
    return pool.first, pool.second


def retain_pool(int device, pool, bint use_on_oom, bint no_split):
    if not vt_cuda_retain_pool(device, pool_id(pool), use_on_oom, no_split):
        fail()


def release_pool(int device, pool):
    cdef vt_cuda_pool_id identity = pool_id(pool)
    with nogil:
        vt_cuda_drop_pool(device, identity)


def pool_use_count(int device, pool):
    return vt_cuda_pool_use_count(device, pool_id(pool))


def begin_thread_pool(int device, pool):
    if not vt_cuda_begin_thread_pool(device, pool_id(pool)):
        fail()


def end_pool(int device, pool):
    vt_cuda_end_pool(device, pool_id(pool))


# --- figures ---------------------------------------------------------------------------------------


cdef void add_figure(void* to, const char* name, int64_t value) noexcept with gil:
    cdef dict figures = <dict>to
    try:
        figures[name.decode()] = value
    except MemoryError:
        pass


def stats(int device):
    """``{"allocated_bytes.all.current": 512, ...}``."""
    cdef dict figures = {}
    cdef void* to = <void*>figures
    with nogil:
        vt_cuda_memory_stats(device, add_figure, to)
    return figures


def host_stats():
    cdef dict figures = {}
    cdef void* to = <void*>figures
    with nogil:
        vt_cuda_host_memory_stats(add_figure, to)
    return figures


def use(int device):
    """Allocated, its peak, reserved, its peak."""
    cdef vt_cuda_memory_use u = vt_cuda_get_memory_use(device)
    return u.allocated, u.max_allocated, u.reserved, u.max_reserved


def reset_peak(int device):
    vt_cuda_reset_peak_stats(device)


def reset_accumulated(int device):
    vt_cuda_reset_accumulated_stats(device)


def host_reset_peak():
    vt_cuda_host_reset_peak_stats()


def host_reset_accumulated():
    vt_cuda_host_reset_accumulated_stats()


# --- stacks ----------------------------------------------------------------------------------------

# Each stack once: {((code, instruction), ...): number}, and the keys by number - 1.
cdef dict stack_numbers = {}
cdef list stack_keys = []
cdef dict stack_frames = {}  # number: the list that snapshots show


cdef object find_stack():
    cdef list frames = []
    try:
        frame = sys._getframe()
    except ValueError:  # a thread that Python does not run in
        return 0
    while frame is not None:
        frames.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    key = tuple(frames)
    number = stack_numbers.get(key)
    if number is None:
        stack_keys.append(key)
        number = stack_numbers.setdefault(key, len(stack_keys))
    return number


cdef uint64_t gather_stack() noexcept nogil:
    if not Py_IsInitialized():
        return 0
    with gil:
        return gather_with_gil()


cdef uint64_t gather_with_gil() noexcept:
    # Memory is given back by destructors too, which may run while an exception is on its way.
    cdef PyObject *kind = NULL
    cdef PyObject *value = NULL
    cdef PyObject *traceback = NULL
    cdef uint64_t number = 0
    PyErr_Fetch(&kind, &value, &traceback)
    try:
        number = find_stack()
    except BaseException:
        number = 0
    PyErr_Restore(kind, value, traceback)
    return number


cdef list frames_of(uint64_t number):
    if number == 0 or number > <uint64_t>len(stack_keys):
        return []
    found = stack_frames.get(number)
    if found is None:
        found = [
            {
                "filename": code.co_filename,
                "line": PyCode_Addr2Line(code, instruction),
                "name": code.co_name,
            }
            for code, instruction in stack_keys[number - 1]
        ]
        stack_frames[number] = found
    return found


# --- snapshot and history --------------------------------------------------------------------------


def action_names():
    names = []
    while vt_cuda_action_name(len(names)) is not NULL:
        names.append(vt_cuda_action_name(len(names)).decode())
    return names


def record_history(bint on, bint entries, int stacks, uint64_t max_entries, unsigned int skip,
                   bint clear):
    vt_cuda_record_memory_history(on, entries, stacks, max_entries, skip, gather_stack, clear)


cdef void add_segment(void* to, const vt_cuda_segment_info* s,
                      const vt_cuda_block_info* b) noexcept with gil:
    cdef list segments = <list>to
    try:
        if s is not NULL:
            segments.append({
                "device": s.device,
                "address": s.address,
                "total_size": s.total_size,
                "allocated_size": s.allocated_size,
                "active_size": s.active_size,
                "requested_size": s.requested_size,
                "stream": s.stream,
                "segment_type": "large" if s.large else "small",
                "segment_pool_id": (s.pool.first, s.pool.second),
                "is_expandable": bool(s.expandable),
                "frames": [],
                "blocks": [],
            })
        else:
            segments[-1]["blocks"].append({
                "address": b.address,
                "size": b.size,
                "requested_size": b.requested,
                "state": b.state.decode(),
                "frames": frames_of(b.history),
            })
    except MemoryError:
        pass


def segments(pool=None):
    """A list of dictionaries as PyTorch's ``memory_snapshot`` gives them."""
    cdef list result = []
    cdef void* to = <void*>result
    cdef vt_cuda_pool_id wanted
    cdef vt_cuda_pool_id* chosen = NULL
    if pool is not None:
        wanted = pool_id(pool)
        chosen = &wanted
    with nogil:
        vt_cuda_memory_snapshot(chosen, add_segment, to)
    return result


cdef void add_entry(void* to, const vt_cuda_trace_entry* e) noexcept with gil:
    cdef list entries = <list>to
    try:
        action = e.action.decode()
        entry = {
            "action": action,
            "size": e.size,
            "stream": e.stream,
            "time_us": e.time_us,
            "frames": frames_of(e.history),
            "pool_id": (e.pool.first, e.pool.second),
        }
        if action == "oom":
            entry["device_free"] = e.device_free
        else:
            entry["addr"] = e.address
        entries.append(entry)
    except MemoryError:
        pass


def trace(int device):
    cdef list entries = []
    cdef void* to = <void*>entries
    with nogil:
        vt_cuda_memory_trace(device, add_entry, to)
    return entries


def allocation_frames(uint64_t address):
    cdef uint64_t number
    with nogil:
        number = vt_cuda_allocation_history(address)
    return frames_of(number) or None
