"""The queue of nodes that may run: a binary heap in a C array, the latest node first.

A node's sequence number is higher than those of the nodes it sends gradients to, so the order is
the reverse of the forward pass; that keeps few gradients alive at a time.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t
from libc.stdlib cimport realloc


cdef struct QueueEntry:
    uint64_t seq
    PyObject* node  # borrowed: the roots of the task keep the graph alive

cdef struct ReadyQueue:
    QueueEntry* entries
    Py_ssize_t size, capacity


cdef inline int queue_push(ReadyQueue* q, uint64_t seq, PyObject* node) except -1:
    cdef QueueEntry* grown
    cdef Py_ssize_t i = q.size, parent
    if i == q.capacity:
        grown = <QueueEntry*>realloc(q.entries, (2 * i + 64) * sizeof(QueueEntry))
        if grown is NULL:
            raise MemoryError()
        q.entries = grown
        q.capacity = 2 * i + 64
    q.size = i + 1
    while i > 0:
        parent = (i - 1) >> 1
        if q.entries[parent].seq >= seq:
            break
        q.entries[i] = q.entries[parent]
        i = parent
    q.entries[i].seq = seq
    q.entries[i].node = node
    return 0


cdef inline PyObject* queue_pop(ReadyQueue* q) noexcept:
    """The node with the highest sequence number. The queue must not be empty."""
    cdef PyObject* top = q.entries[0].node
    cdef QueueEntry last
    cdef Py_ssize_t i = 0, child
    q.size -= 1
    if q.size == 0:
        return top
    last = q.entries[q.size]
    while True:
        child = 2 * i + 1
        if child >= q.size:
            break
        if child + 1 < q.size and q.entries[child + 1].seq > q.entries[child].seq:
            child += 1
        if q.entries[child].seq <= last.seq:
            break
        q.entries[i] = q.entries[child]
        i = child
    q.entries[i] = last
    return top
