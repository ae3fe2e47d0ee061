"""The state of random number generation.

Owns generators and the default one of each device. The numbers themselves come from Philox in the
kernels: a generator only hands out ranges of a counter, so that a kernel may use them in any order
and on any number of threads, with the same result.
"""
from libc.stdint cimport int8_t, int64_t, uint64_t
from libc.string cimport memcpy

import os

from vibetensor.core.device cimport device, device_object, parse_device
from vibetensor.core.tensor cimport (
    F_CONTIGUOUS, Tensor, tensor_new,
)
from vibetensor.core.types cimport VT_CPU, VT_CUDA, VT_U8

cdef enum:
    STATE_BYTES = 16  # seed, then position, little-endian

cdef uint64_t MAX_POSITION = 0x4000000000000000
cdef uint64_t ON_DEVICE = 0x8000000000000000  # VT_PHILOX_ON_DEVICE of cuda_src/vt/philox_args.h
cdef tuple _type_names = ("cpu", "cuda", "meta")

cdef dict _defaults = {}
cdef object _seed_of_all = None  # what manual_seed gave last: for devices not used so far


cdef class Generator:
    """A source of random numbers: a seed, and how far its stream has been used.

    Pass it as ``generator=`` to the random operators. Two generators with one seed give the same
    numbers, whatever the number of threads.

    >>> g = vt.Generator().manual_seed(1)
    >>> g.initial_seed()
    1
    """

    def __cinit__(self, device_="cpu"):
        cdef int8_t index = -1
        cdef device d = device(device_)
        if d.code != VT_CPU and d.code != VT_CUDA:
            raise RuntimeError(f"Device type {d.type} is not supported for Generator()")
        parse_device(d, &self.device_type, &index)
        self.device_index = index
        self.seed_value = 67280421310721

    @property
    def device(self):
        """The device whose operators take this generator."""
        return device_object(self.device_type, self.device_index)

    def manual_seed(self, seed):
        """Starts the stream of `seed`, a 64-bit integer; returns the generator.

        Negative seeds stand for ``2**64 + seed``.
        """
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        if not -(1 << 63) <= seed < (1 << 64):
            raise ValueError(f"manual_seed(): seed must fit in 64 bits, got {seed}")
        self._check_free("manual_seed")
        self.seed_value = seed & 0xFFFFFFFFFFFFFFFF
        self.position = 0
        return self

    def seed(self):
        """Starts the stream of a seed taken from the operating system, which it returns."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.seed_value

    def initial_seed(self):
        """The seed of the current stream."""
        return self.seed_value

    def get_offset(self):
        """How many blocks of four 32-bit numbers have been handed out."""
        return self.position

    def set_offset(self, offset):
        """Moves within the stream; see :meth:`get_offset`."""
        if not isinstance(offset, int) or not 0 <= offset < MAX_POSITION:
            raise RuntimeError(f"set_offset(): expected an int of at most 62 bits, got {offset!r}")
        self._check_free("set_offset")
        self.position = offset

    def get_state(self):
        """Seed and position as a uint8 tensor of 16 elements, on the CPU."""
        cdef int64_t size = STATE_BYTES
        cdef Tensor t = tensor_new(1, &size, VT_U8, VT_CPU, -1)
        memcpy(t.data, &self.seed_value, 8)
        memcpy(t.data + 8, &self.position, 8)
        return t

    def set_state(self, new_state):
        """Takes up a state that :meth:`get_state` returned."""
        cdef Tensor t
        cdef uint64_t position = 0
        if not isinstance(new_state, Tensor):
            raise TypeError(
                f"expected a vibetensor.ByteTensor, but got {type(new_state).__name__}")
        t = <Tensor>new_state
        if t.dtype != VT_U8 or t.device_type != VT_CPU or not t.flags & F_CONTIGUOUS:
            raise TypeError("RNG state must be a contiguous uint8 tensor on the CPU")
        if t.numel != STATE_BYTES:
            raise RuntimeError(f"Expected an RNG state of size {STATE_BYTES} but found the input "
                               f"RNG state size to be {t.numel}")
        memcpy(&position, t.data + 8, 8)
        if position >= MAX_POSITION:
            raise RuntimeError("set_state(): the tensor holds no generator state")
        self._check_free("set_state")
        memcpy(&self.seed_value, t.data, 8)
        self.position = position
        return self

    # Note [Random numbers in a captured graph]: while a graph is captured its kernels get, in place of a
    # seed, the address of a record {seed, base} in device memory, and offsets from the beginning of the
    # capture (cuda_src/vt/philox_args.h). Before each replay the graph writes this generator's seed
    # and position into the record and moves the generator on, as the eager calls would have.

    def _check_free(self, function):
        """An error under capture: a replay goes on where the last one ended, from a state that only the
        host can set."""
        if self.record != 0:
            raise RuntimeError(
                f"{function}(): the state of a generator cannot be set while a CUDA graph captures it; do "
                "it before the capture or between replays"
            )

    def _begin_capture(self, record):
        """From here on, draws refer to the record at address `record` on the device."""
        if self.record != 0:
            raise RuntimeError("this generator takes part in a capture already")
        self.record = record
        self.captured = 0

    def _end_capture(self):
        """Ends that; returns how many blocks the captured work draws."""
        self.record = 0
        return self.captured

    def clone_state(self):
        """A new generator at the same place of the same stream."""
        cdef Generator g = Generator(self.device)
        g.seed_value = self.seed_value
        g.position = self.position
        return g

    def __reduce__(self):
        return _restore, (self.device, self.seed_value, self.position)


def _restore(device_, seed, position):
    """Rebuilds a pickled generator."""
    g = Generator(device_).manual_seed(seed)
    g.set_offset(position)
    return g


cdef Generator default_generator_of(int device_type, int device_index):
    cdef int key = -1 if device_type == VT_CPU else device_index
    cdef Generator g
    found = _defaults.get(key)
    if found is not None:
        return <Generator>found
    g = Generator(device_object(device_type, device_index))
    if _seed_of_all is None:
        g.seed()
    else:
        g.manual_seed(_seed_of_all)
    _defaults[key] = g
    return g


default_generator = default_generator_of(VT_CPU, -1)


cdef int wrong_device(Generator g, int device_type, int device_index) except -1:
    if g.device_type != device_type:
        raise RuntimeError(f"Expected a '{_type_names[device_type]}' device type for generator but "
                           f"found '{_type_names[g.device_type]}'")
    raise RuntimeError(f"Expected a generator of device {device_object(device_type, device_index)} but "
                       f"found one of {g.device}")


cdef int philox_reserve(object generator, int device_type, int device_index, int64_t blocks,
                        int64_t* seed, int64_t* offset) except -1:
    cdef Generator g
    if generator is None:
        if device_type == VT_CPU:
            g = <Generator>default_generator
        else:
            g = default_generator_of(device_type, device_index)
    elif isinstance(generator, Generator):
        g = <Generator>generator
    else:
        raise TypeError("argument 'generator' must be vibetensor.Generator, "
                        f"not {type(generator).__name__}")
    if g.device_type != device_type or (device_type != VT_CPU and g.device_index != device_index):
        wrong_device(g, device_type, device_index)
    if g.record != 0:
        seed[0] = g.record
        offset[0] = <int64_t>(g.captured | ON_DEVICE)
        g.captured += blocks
        return 0
    if blocks < 0 or <uint64_t>blocks >= MAX_POSITION - g.position:
        raise RuntimeError("the random stream of this seed is used up: seed the generator anew")
    seed[0] = <int64_t>g.seed_value
    offset[0] = <int64_t>g.position
    g.position += blocks
    return 0


def generator_of(device_):
    """The default generator of a device."""
    cdef int device_type = 0
    cdef int8_t index = -1
    parse_device(device(device_), &device_type, &index)
    return default_generator_of(device_type, index)


def manual_seed(seed):
    """Seeds the default generator of every device; returns the CPU's.

    >>> g = vt.manual_seed(0)
    """
    global _seed_of_all
    seed = int(seed)
    for g in _defaults.values():
        (<Generator>g)._check_free("manual_seed")
    default_generator.manual_seed(seed)  # checks the value before anything changes
    _seed_of_all = seed
    for g in _defaults.values():
        g.manual_seed(seed)
    return default_generator


def seed():
    """Seeds the default generators from the operating system; returns the seed."""
    cdef object value = int.from_bytes(os.urandom(8), "little")
    manual_seed(value)
    return value


def initial_seed():
    """The seed of the CPU's default generator."""
    return default_generator.initial_seed()


def get_rng_state():
    """The state of the CPU's default generator, a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state):
    """Restores a state that :func:`get_rng_state` returned."""
    default_generator.set_state(new_state)
