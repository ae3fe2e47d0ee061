"""The runtime as Python functions over numbers: devices, streams and events by index and handle.

Owns nothing; the classes that users see are in device.py and streams.py.
"""
import warnings

from libc.stdint cimport int64_t, uint64_t, uintptr_t
from vibetensor.core.types cimport VT_ERROR_INDEX, VT_ERROR_OUT_OF_MEMORY, vt_status


cdef extern from "vibetensor/cuda/backend.h" nogil:
    void vt_cuda_install_backend()
    void vt_cuda_remove_backend()


cdef extern from "vibetensor/cuda/runtime_api.h" nogil:
    const char* vt_cuda_last_error()
    int vt_cuda_simulated()
    vt_status vt_cuda_driver_version(int* version)
    vt_status vt_cuda_initialise()
    int vt_cuda_is_initialised()
    void vt_cuda_set_fatbin_folder(const char* path)
    int vt_cuda_forget_everything()
    int vt_cuda_device_count()
    int vt_cuda_current_device()
    vt_status vt_cuda_set_device(int device)
    vt_status vt_cuda_synchronize(int device)
    vt_status vt_cuda_memory_info(int device, size_t* free_bytes, size_t* total_bytes)
    vt_status vt_cuda_can_access_peer(int device, int peer, int* can)
    vt_status vt_cuda_enable_peer_access(int device, int peer, int* enabled)
    int64_t vt_cuda_property(int device, const char* name)
    vt_status vt_cuda_use_device(int device)
    const char* vt_cuda_device_name(int device)
    const unsigned char* vt_cuda_device_uuid(int device)
    void* vt_cuda_current_stream(int device)
    void* vt_cuda_exchange_stream(int device, void* stream)
    vt_status vt_cuda_pool_stream(int device, int priority, void** stream)
    vt_status vt_cuda_greatest_priority(int device, int* priority)
    vt_status vt_cuda_stream_priority(int device, void* stream, int* priority)
    vt_status vt_cuda_stream_done(int device, void* stream, int* done)
    vt_status vt_cuda_stream_synchronize(int device, void* stream)
    vt_status vt_cuda_order_streams(int consumer_device, void* consumer, int producer_device,
                                    void* producer)
    int vt_cuda_stream_capturing(int device, void* stream)
    vt_status vt_cuda_event_create(int device, int timing, int blocking, int interprocess,
                                   void** event)
    void vt_cuda_event_destroy(int device, void* event)
    vt_status vt_cuda_event_record(void* event, int device, void* stream, int external)
    vt_status vt_cuda_event_wait(void* event, int device, void* stream, int external)
    vt_status vt_cuda_event_done(int device, void* event, int* done)
    vt_status vt_cuda_event_synchronize(int device, void* event)
    vt_status vt_cuda_event_elapsed(int device, void* start, void* end, float* milliseconds)
    vt_status vt_cuda_event_ipc_handle(int device, void* event, char* handle)
    vt_status vt_cuda_event_open(int device, const char* handle, void** event)
    ctypedef struct vt_cuda_counters:
        uint64_t launches, host_syncs, graph_launches
    vt_cuda_counters vt_cuda_get_counters()
    vt_status vt_cuda_sleep(int64_t cycles)
    vt_status vt_cuda_bare_launches(int n)
cdef extern from "vibetensor/cuda/determinism.h" nogil:
    int vt_cuda_deterministic, vt_cuda_deterministic_only
    int (*vt_cuda_warn)(const char* text) noexcept


cdef int check(vt_status status) except -1:
    if status == 0:
        return 0
    text = vt_cuda_last_error().decode(errors="replace")
    if status == VT_ERROR_INDEX:
        raise IndexError(text)
    if status == VT_ERROR_OUT_OF_MEMORY:
        from vibetensor.core.errors import OutOfMemoryError
        raise OutOfMemoryError(text)
    raise RuntimeError(text)


# --- start -----------------------------------------------------------------------------------------


def initialise(str fatbin_folder):
    """Starts the driver that fills the table and makes the tensor library's CUDA backend ready."""
    cdef bytes path = fatbin_folder.encode()
    vt_cuda_set_fatbin_folder(path)
    check(vt_cuda_initialise())
    vt_cuda_install_backend()


cdef int warn(const char* text) noexcept with gil:
    try:
        warnings.warn(f"an operator {text.decode()}", stacklevel=1)
    except Warning:
        return 0
    return 1


def set_deterministic(bint mode, bint warn_only):
    """Whether kernels keep fixed orders, and whether those that cannot may go on with a warning."""
    global vt_cuda_deterministic, vt_cuda_deterministic_only, vt_cuda_warn
    vt_cuda_warn = warn
    vt_cuda_deterministic = mode
    vt_cuda_deterministic_only = mode and not warn_only


def is_initialised():
    return bool(vt_cuda_is_initialised())


def shut_down():
    """Forgets the driver, so that another can fill the table; for tests."""
    vt_cuda_remove_backend()
    if not vt_cuda_forget_everything():
        vt_cuda_install_backend()
        raise RuntimeError(vt_cuda_last_error().decode())


def is_simulated():
    return bool(vt_cuda_simulated())


def driver_version():
    """13000 for CUDA 13.0."""
    cdef int version = 0
    check(vt_cuda_driver_version(&version))
    return version


def counters():
    """Kernel launches, waits of the host and graph launches of this process."""
    cdef vt_cuda_counters c = vt_cuda_get_counters()
    return {"launches": c.launches, "host_syncs": c.host_syncs, "graph_launches": c.graph_launches}


# --- devices ---------------------------------------------------------------------------------------


def device_count():
    return vt_cuda_device_count()


def current_device():
    return vt_cuda_current_device()


def set_device(int device):
    check(vt_cuda_set_device(device))


def exchange_device(int device):
    """Makes it the current device, if it is not negative; returns the one before."""
    cdef int before = vt_cuda_current_device()
    if device >= 0 and device != before:
        check(vt_cuda_set_device(device))
    return before


def synchronize(int device):
    cdef vt_status status
    with nogil:
        status = vt_cuda_synchronize(device)
    check(status)


def memory_info(int device):
    cdef size_t free = 0, total = 0
    check(vt_cuda_memory_info(device, &free, &total))
    return free, total


def can_access_peer(int device, int peer):
    cdef int can = 0
    check(vt_cuda_can_access_peer(device, peer, &can))
    return bool(can)


def enable_peer_access(int device, int peer):
    cdef int enabled = 0
    check(vt_cuda_enable_peer_access(device, peer, &enabled))
    return bool(enabled)


def use_device(int device):
    """Reads the device's properties, where that has not happened."""
    check(vt_cuda_use_device(device))


def property_of(int device, str name):
    cdef bytes text = name.encode()
    check(vt_cuda_use_device(device))
    cdef int64_t value = vt_cuda_property(device, text)
    if value < 0:
        raise AttributeError(name)
    return value


def device_name(int device):
    check(vt_cuda_use_device(device))
    return vt_cuda_device_name(device).decode()


def device_uuid(int device):
    check(vt_cuda_use_device(device))
    return vt_cuda_device_uuid(device)[:16]


# --- streams ---------------------------------------------------------------------------------------


def current_stream(int device):
    return <uintptr_t>vt_cuda_current_stream(device)


def exchange_stream(int device, stream):
    """Makes it the device's current stream of this thread; returns the one before."""
    return <uintptr_t>vt_cuda_exchange_stream(device, handle(stream))


def pool_stream(int device, int priority):
    cdef void* stream = NULL
    check(vt_cuda_pool_stream(device, priority, &stream))
    return <uintptr_t>stream


def greatest_priority(int device):
    cdef int priority = 0
    check(vt_cuda_greatest_priority(device, &priority))
    return priority


def stream_priority(int device, stream):
    cdef int priority = 0
    check(vt_cuda_stream_priority(device, handle(stream), &priority))
    return priority


def stream_done(int device, stream):
    cdef int done = 0
    check(vt_cuda_stream_done(device, handle(stream), &done))
    return bool(done)


def stream_synchronize(int device, stream):
    cdef void* s = handle(stream)
    cdef vt_status status
    with nogil:
        status = vt_cuda_stream_synchronize(device, s)
    check(status)


def order_streams(int consumer_device, consumer, int producer_device, producer):
    check(vt_cuda_order_streams(consumer_device, handle(consumer), producer_device,
                                handle(producer)))


def stream_capturing(int device, stream):
    return bool(vt_cuda_stream_capturing(device, handle(stream)))


# --- events ----------------------------------------------------------------------------------------


def event_create(int device, bint timing, bint blocking, bint interprocess):
    cdef void* event = NULL
    check(vt_cuda_event_create(device, timing, blocking, interprocess, &event))
    return <uintptr_t>event


def event_destroy(int device, event):
    vt_cuda_event_destroy(device, handle(event))


def event_record(event, int device, stream, bint external):
    check(vt_cuda_event_record(handle(event), device, handle(stream), external))


def event_wait(event, int device, stream, bint external):
    check(vt_cuda_event_wait(handle(event), device, handle(stream), external))


def event_done(int device, event):
    cdef int done = 0
    check(vt_cuda_event_done(device, handle(event), &done))
    return bool(done)


def event_synchronize(int device, event):
    cdef void* e = handle(event)
    cdef vt_status status
    with nogil:
        status = vt_cuda_event_synchronize(device, e)
    check(status)


def event_elapsed(int device, start, end):
    cdef float milliseconds = 0
    check(vt_cuda_event_elapsed(device, handle(start), handle(end), &milliseconds))
    return milliseconds


def event_ipc_handle(int device, event):
    cdef char text[64]
    check(vt_cuda_event_ipc_handle(device, handle(event), text))
    return text[:64]


def event_open(int device, bytes text):
    cdef void* event = NULL
    if len(text) != 64:
        raise ValueError("an event's handle has 64 bytes")
    check(vt_cuda_event_open(device, text, &event))
    return <uintptr_t>event


# --- tests and benchmarks --------------------------------------------------------------------------


def sleep(long long cycles):
    """A kernel on the current stream that does nothing for so long."""
    check(vt_cuda_sleep(cycles))


def bare_launches(int n):
    """Launches an empty kernel n times on the current stream, straight through the driver table."""
    check(vt_cuda_bare_launches(n))
