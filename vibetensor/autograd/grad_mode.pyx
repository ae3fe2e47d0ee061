"""Grad mode and inference mode: what operators record, per thread.

Grad mode is the Autograd bit in the thread's excluded keys, so operators pay nothing for it. In
inference mode that bit is always set, and grad mode only is what `is_grad_enabled` reports.
"""
import functools

from libc.stdint cimport uint32_t

from vibetensor.core.types cimport *

cdef enum:
    INFERENCE = 1
    INFERENCE_GRAD = 2  # grad mode is on inside inference mode
    CO_GENERATOR = 0x20


cdef bint grad_mode() noexcept:
    if vt_tls.inference:
        return vt_tls.inference & INFERENCE_GRAD != 0
    return vt_grad_enabled()


cdef void set_grad_mode(bint on) noexcept:
    if vt_tls.inference:
        vt_tls.inference = INFERENCE | (INFERENCE_GRAD if on else 0)
    elif on:
        vt_tls.excluded &= ~<uint32_t>KEYS_AUTOGRAD
    else:
        vt_tls.excluded |= KEYS_AUTOGRAD


cdef void set_inference_mode(bint on, bint grad) noexcept:
    if on:
        vt_tls.inference = INFERENCE | (INFERENCE_GRAD if grad else 0)
        vt_tls.excluded |= KEYS_AUTOGRAD
    else:
        vt_tls.inference = 0
        set_grad_mode(grad)


def is_grad_enabled():
    """Whether operators record what backward needs.

    >>> import vibetensor as vt
    >>> with vt.no_grad():
    ...     vt.is_grad_enabled()
    False
    """
    return grad_mode()


def is_inference_mode_enabled():
    """Whether this thread is inside :class:`inference_mode`."""
    return vt_tls.inference != 0


def wrap_generator(make_context, func):
    """`func`, a generator function, with the context entered whenever it runs and left at each "
    "yield."""

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        generator = func(*args, **kwargs)
        try:
            with make_context():
                response = generator.send(None)
            while True:
                try:
                    request = yield response
                except GeneratorExit:
                    with make_context():
                        generator.close()
                    raise
                except BaseException as error:
                    with make_context():
                        response = generator.throw(error)
                else:
                    with make_context():
                        response = generator.send(request)
        except StopIteration as stop:
            return stop.value

    return wrapper


def decorate(make_context, func):
    """`func` run inside the context; generator functions are suspended outside of it."""
    if isinstance(func, type):
        raise RuntimeError(
            "Cannot decorate classes; it is ambiguous whether or not only the constructor or all "
            "methods should have the context manager applied. To specify which methods to "
            "decorate, "
            "decorate each of them individually."
        )
    if not callable(func):
        raise TypeError(f"expected a function to decorate, got {type(func).__name__}")
    code = getattr(func, "__code__", None)
    if code is not None and code.co_flags & CO_GENERATOR:
        return wrap_generator(make_context, func)

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        with make_context():
            return func(*args, **kwargs)

    return wrapper


cdef class GradModeContext:
    """Sets grad mode for a ``with`` block."""

    cdef bint target, previous

    def __enter__(self):
        self.previous = grad_mode()
        set_grad_mode(self.target)

    def __exit__(self, kind, value, traceback):
        set_grad_mode(self.previous)

    def __call__(self, func):
        return decorate(type(self), func)


cdef class _EnableGrad(GradModeContext):
    def __cinit__(self):
        self.target = True


class no_grad(GradModeContext):
    """Operators inside record nothing for backward, and their results require no grad.

    A context manager and a decorator, of functions and of generator functions.

    >>> import vibetensor as vt
    >>> x = vt.ones(2, requires_grad=True)
    >>> with vt.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    __slots__ = ()

    def __new__(cls, func=None):
        self = GradModeContext.__new__(cls)
        return self if func is None else self(func)


class enable_grad(_EnableGrad):
    """Turns recording on again inside :class:`no_grad`. A context manager and a decorator.

    >>> import vibetensor as vt
    >>> x = vt.ones(2, requires_grad=True)
    >>> with vt.no_grad():
    ...     with vt.enable_grad():
    ...         y = x * 2
    >>> y.requires_grad
    True
    """

    __slots__ = ()

    def __new__(cls, func=None):
        self = _EnableGrad.__new__(cls)
        return self if func is None else self(func)


cdef class set_grad_enabled:
    """Sets grad mode at once; as a context manager or decorator, until the block or function ends.

    >>> import vibetensor as vt
    >>> with vt.set_grad_enabled(False):
    ...     vt.is_grad_enabled()
    False
    """

    cdef readonly bint mode
    cdef bint previous

    def __init__(self, mode):
        if not isinstance(mode, bool):
            raise TypeError(
                "set_grad_enabled(): argument 'enabled' (position 1) must be bool, not "
                f"{type(mode).__name__}"
            )
        self.previous = grad_mode()
        self.mode = mode
        set_grad_mode(mode)

    def __enter__(self):
        pass

    def __exit__(self, kind, value, traceback):
        set_grad_mode(self.previous)

    def __call__(self, func):
        set_grad_mode(self.previous)
        mode = self.mode
        return decorate(lambda: set_grad_enabled(mode), func)


cdef class InferenceModeContext:
    cdef readonly bint mode
    cdef bint previous_mode, previous_grad

    def __enter__(self):
        self.previous_mode = vt_tls.inference != 0
        self.previous_grad = grad_mode()
        set_inference_mode(self.mode, not self.mode)

    def __exit__(self, kind, value, traceback):
        set_inference_mode(self.previous_mode, self.previous_grad)

    def __call__(self, func):
        mode = self.mode
        return decorate(lambda: inference_mode(mode), func)


class inference_mode(InferenceModeContext):
    """Like :class:`no_grad`, and tensors made inside can never take part in autograd.

    In return no versions are tracked and views keep no history. ``inference_mode(False)`` switches
    it off inside such a block. A context manager and a decorator.

    >>> import vibetensor as vt
    >>> with vt.inference_mode():
    ...     y = vt.ones(2)
    >>> y.is_inference()
    True
    """

    __slots__ = ()

    def __new__(cls, mode=True):
        cdef InferenceModeContext self = InferenceModeContext.__new__(cls)
        if isinstance(mode, bool):
            self.mode = mode
            return self
        self.mode = True
        return self(mode)
