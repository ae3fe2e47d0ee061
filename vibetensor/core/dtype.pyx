"""The `dtype` objects: one per element type, compared by identity.

Owns names, categories, the default dtype and promotion. Imports no other module of the core.
"""
cimport cython

cdef int _default = 8          # float32
cdef bint _sealed = False      # set once the twelve objects exist
cdef list _objects = []
cdef tuple _table = (
    ("bool", "Bool", 1), ("uint8", "Byte", 1), ("int8", "Char", 1), ("int16", "Short", 2),
    ("int32", "Int", 4), ("int64", "Long", 8), ("float16", "Half", 2), ("bfloat16", "BFloat16", 2),
    ("float32", "Float", 4), ("float64", "Double", 8), ("complex64", "ComplexFloat", 8),
    ("complex128", "ComplexDouble", 16),
)


@cython.final
cdef class dtype:
    """The type of the elements of a tensor, such as ``vt.float32``.

    There is one object per type; compare with ``is`` or ``==``. Attributes: ``itemsize`` in bytes,
    ``is_floating_point``, ``is_complex``, ``is_signed``.

    >>> vt.float16.itemsize, vt.float16.is_floating_point
    (2, True)
    """

    def __cinit__(self):
        if _sealed:
            raise TypeError("cannot create 'vibetensor.dtype' instances")

    @property
    def is_floating_point(self):
        return is_floating_code(self.code)

    @property
    def is_complex(self):
        return is_complex_code(self.code)

    @property
    def is_signed(self):
        return is_signed_code(self.code)

    def to_real(self):
        """The type of the parts of a complex type; a floating type itself."""
        if self.code < 6:
            raise RuntimeError(f"to_real(): {self!r} has no corresponding real type")
        return dtype_object(real_code(self.code))

    def to_complex(self):
        """The complex type with parts of this type (of float32 for the half types)."""
        if self.code < 6:
            raise RuntimeError(f"to_complex(): {self!r} has no corresponding complex type")
        return dtype_object(complex_code(self.code))

    def __repr__(self):
        return "vibetensor." + self.name

    def __reduce__(self):
        return _lookup, (self.name,)

    # copy and deepcopy would otherwise go through pickling.
    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


def _lookup(name):
    """The dtype of a public name; what a pickled dtype refers to."""
    return DTYPES[name]


cdef _make():
    global _sealed
    cdef dtype d
    for code, (name, scalar_name, size) in enumerate(_table):
        d = dtype.__new__(dtype)
        d.code = code
        d.name = name
        d.scalar_name = scalar_name
        d.itemsize = size
        _objects.append(d)
    _sealed = True


_make()

# Every public name, aliases included: the package exports exactly these.
DTYPES = {(<dtype>d).name: d for d in _objects}
for _alias, _name in (
    ("half", "float16"), ("float", "float32"), ("double", "float64"), ("short", "int16"),
    ("int", "int32"), ("long", "int64"), ("cfloat", "complex64"), ("cdouble", "complex128"),
):
    DTYPES[_alias] = DTYPES[_name]


cdef object dtype_object(int code):
    if code < 0:
        return None
    return _objects[code]


cdef int dtype_code(object d) except -2:
    if type(d) is dtype:
        return (<dtype>d).code
    if d is None:
        return -1
    if d is float:
        return 9
    if d is int:
        return 5
    if d is bool:
        return 0
    if d is complex:
        return 11
    raise TypeError(f"argument 'dtype' must be vibetensor.dtype, not {type(d).__name__}")


cdef int default_dtype_code() noexcept nogil:
    return _default


cdef int default_complex_code() noexcept nogil:
    return complex_code(_default)


cdef str dtype_name(int code):
    return (<dtype>_objects[code]).name


cdef str dtype_scalar_name(int code):
    if code < 0:
        return "Undefined"
    return (<dtype>_objects[code]).scalar_name


cdef int _argument(str op, str name, int position, object d) except -1:
    """The code of a dtype argument that must be a dtype."""
    if type(d) is not dtype:
        raise TypeError(f"{op}(): argument '{name}' (position {position}) must be "
                        f"vibetensor.dtype, not {type(d).__name__}")
    return (<dtype>d).code


def set_default_dtype(d, /):
    """Sets the floating type of factories and of Python floats; float32 at the start.

    >>> vt.set_default_dtype(vt.float64)
    """
    global _default
    cdef int code = dtype_code(d)
    if code < 0 or not is_floating_code(code):
        raise TypeError("only floating-point types are supported as the default type")
    _default = code


def get_default_dtype():
    """The floating type that factories use when none is given."""
    return dtype_object(_default)


def promote_types(type1, type2):
    """The smallest dtype that is not of a lower category or narrower than either.

    >>> vt.promote_types(vt.int64, vt.float16)
    vibetensor.float16
    """
    cdef int a = _argument("promote_types", "type1", 1, type1)
    return dtype_object(promote_codes(a, _argument("promote_types", "type2", 2, type2)))


def can_cast(from_, to):
    """Whether promotion rules allow converting `from_` to `to`: never to a lower category.

    >>> vt.can_cast(vt.float32, vt.int32)
    False
    """
    cdef int a = _argument("can_cast", "from_", 1, from_)
    return can_cast_codes(a, _argument("can_cast", "to", 2, to))
