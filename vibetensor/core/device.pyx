"""Devices: where memory lives, ``vt.device("cpu")`` or ``vt.device("cuda", 1)``.

Owns the objects, the parsing of strings and the default device. A device object of type cuda can be
made anywhere; the runtime is loaded when something is first to be placed on one.
"""
cimport cython

from vibetensor.core.types cimport VT_CUDA, vt_backends

cdef extern from *:
    """
    /* The default device of this thread: type in the upper bits, index + 1 in the lowest eight. */
    static __thread int vt_default_device_;
    """
    int vt_default_device_

cdef tuple _names = ("cpu", "cuda", "meta")
cdef dict _cache = {}
cdef dict _strings = {}
cdef object _recent_string = None  # the last one that was looked up, and its device
cdef device _recent = None


@cython.final
cdef class device:
    """The place of a tensor's memory: ``device("cpu")``, ``device("cuda")``, ``device("cuda", 1)``.

    ``type`` is "cpu", "cuda" or "meta"; ``index`` an int, or None for the current device of that
    type. As a context manager it is the default device of the factories inside.

    >>> vt.device("cuda:1").index
    1
    """

    def __cinit__(self, type, index=None):
        self.number = -1
        if isinstance(type, device):
            if index is not None:
                raise TypeError(
                    "device(): argument 'type' (position 1) must be str, not vibetensor.device")
            self.type = (<device>type).type
            self.code = (<device>type).code
            self.number = (<device>type).number
            return
        if isinstance(type, int) and not isinstance(type, bool) and index is None:
            self.code = 1
            self.type = "cuda"
            self.number = _checked_index(type)
            return
        if not isinstance(type, str):
            raise TypeError(f"device(): argument 'type' (position 1) must be str, "
                            f"not {type.__class__.__name__}")
        _parse_string(self, type)
        if index is None:
            return
        if self.number >= 0:
            raise RuntimeError("type (string) must not include an index because index was passed "
                               f"explicitly: {type}")
        if not isinstance(index, int):
            raise TypeError(f"device(): argument 'index' (position 2) must be int, "
                            f"not {index.__class__.__name__}")
        self.number = _checked_index(index)

    @property
    def index(self):
        """The number of the device, or None for the current one of its type."""
        return None if self.number < 0 else self.number

    def __repr__(self):
        if self.number < 0:
            return f"device(type='{self.type}')"
        return f"device(type='{self.type}', index={self.number})"

    def __str__(self):
        return self.type if self.number < 0 else f"{self.type}:{self.number}"

    def __hash__(self):
        return (self.code << 8) | (self.number + 1)

    def __eq__(self, other):
        if not isinstance(other, device):
            return NotImplemented
        return self.code == (<device>other).code and self.number == (<device>other).number

    def __reduce__(self):
        return device, (self.type,) if self.number < 0 else (self.type, self.number)

    def __enter__(self):
        _stack().append(vt_default_device_)
        set_default_device(self)
        return self

    def __exit__(self, *exc):
        global vt_default_device_
        vt_default_device_ = _stack().pop()


cdef int _checked_index(object index) except -1:
    if index < 0:
        raise RuntimeError("Device index must not be negative")
    if index > 127:
        raise RuntimeError(f"Device index must be at most 127, got {index}")
    return index


cdef int _parse_string(device d, str text) except -1:
    if not text:
        raise RuntimeError("Device string must not be empty")
    cdef str kind, number
    kind, colon, number = text.partition(":")
    if kind not in _names:
        raise RuntimeError("Expected one of cpu, cuda, meta device type at start of device string: "
                           + text)
    d.type = kind
    d.code = _names.index(kind)
    if colon:
        # isdecimal alone accepts digits of other scripts, which int() would read too.
        if not (number.isascii() and number.isdecimal()) or (number[0] == "0" and number != "0"):
            raise RuntimeError(f"Invalid device string: '{text}'")
        d.number = _checked_index(int(number))
    return 0


cdef object device_object(int device_type, int index):
    if device_type != 1:
        index = -1
    key = (device_type << 8) | (index + 1)
    found = _cache.get(key)
    if found is None:
        name = _names[device_type]
        found = _cache[key] = device(name) if index < 0 else device(name, index)
    return found


cdef int parse_device(object d, int* device_type, int8_t* index) except -1:
    cdef device parsed
    if d is None:
        device_type[0] = vt_default_device_ >> 8
        index[0] = <int8_t>((vt_default_device_ & 255) - 1)
    else:
        if d is _recent_string:
            parsed = _recent
        elif isinstance(d, device):
            parsed = <device>d
        elif isinstance(d, str):
            parsed = _named(d)
        elif isinstance(d, int) and not isinstance(d, bool):
            parsed = device(d)
        else:
            raise TypeError(
                f"argument 'device' must be vibetensor.device, not {type(d).__name__}")
        device_type[0] = parsed.code
        index[0] = <int8_t>parsed.number
    if device_type[0] != 1:
        index[0] = -1
        return 0
    if not vt_backends[VT_CUDA].ready:
        _load_cuda()
    if index[0] < 0:
        index[0] = <int8_t>vt_backends[VT_CUDA].current_device()
    elif index[0] >= vt_backends[VT_CUDA].device_count():
        raise RuntimeError(f"CUDA error: invalid device ordinal: cuda:{index[0]}, there are "
                           f"{vt_backends[VT_CUDA].device_count()} devices")
    return 0


cdef device _named(str d):
    global _recent_string, _recent
    cdef device found = _strings.get(d)
    if found is None:
        found = device(d)
        _strings[d] = found  # few: a string that names no device raises
    _recent_string = d
    _recent = found
    return found


cdef int _load_cuda() except -1:
    """Makes the CUDA backend ready; RuntimeError with the reason where that is impossible."""
    from vibetensor.cuda import _lazy_init

    _lazy_init()
    if not vt_backends[VT_CUDA].ready:
        raise RuntimeError("CUDA is not available: the runtime did not start")
    return 0


cdef object _local = None


cdef list _stack():
    """The default devices that the `with` blocks of this thread put aside."""
    global _local
    if _local is None:
        import threading
        _local = threading.local()
    try:
        return _local.stack
    except AttributeError:
        _local.stack = []
        return _local.stack


def set_default_device(device_=None, /):
    """Sets the device of factories that are given none, for this thread; None means the CPU.

    >>> vt.set_default_device("cpu")
    """
    global vt_default_device_
    cdef int code = 0
    cdef int8_t index = -1
    cdef device d = device("cpu") if device_ is None else device(device_)
    parse_device(d, &code, &index)  # refuses a device that nothing can be placed on
    vt_default_device_ = (code << 8) | (d.number + 1 if code == 1 else 0)


def get_default_device():
    """The device of factories that are given none."""
    return device_object(vt_default_device_ >> 8, (vt_default_device_ & 255) - 1)
