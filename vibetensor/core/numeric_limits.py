"""What numbers a dtype can hold: ``vt.finfo`` and ``vt.iinfo``."""

from vibetensor.core.dtype import DTYPES, get_default_dtype

# Bits of the significand that are stored, and of the exponent.
_FLOATING = {"float16": (10, 5), "bfloat16": (7, 8), "float32": (23, 8), "float64": (52, 11)}
_INTEGRAL = ("uint8", "int8", "int16", "int32", "int64")


def _name(dtype):
    return str(dtype).rpartition(".")[2]


def _rounded(x):
    """Six digits, as a float32 or float64 constant is usually written."""
    return f"{x:.6g}"


class finfo:
    """Limits of a floating-point dtype; of a complex one, those of its parts.

    Attributes: ``bits``, ``eps`` (the distance from 1 to the next number), ``max``, ``min``,
    ``tiny`` and ``smallest_normal``, ``resolution``, ``dtype`` (a name).

    >>> vt.finfo(vt.float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, type=None):
        dtype = get_default_dtype() if type is None else type
        if dtype not in DTYPES.values():
            raise TypeError(
                "finfo(): argument 'type' (position 1) must be vibetensor.dtype, "
                f"not {dtype.__class__.__name__}"
            )
        if not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError("finfo() requires a floating point input type. Use iinfo instead.")
        self.dtype = _name(dtype.to_real())
        significand, exponent = _FLOATING[self.dtype]
        bias = 2 ** (exponent - 1) - 1
        self.bits = 1 + significand + exponent
        self.eps = 2.0**-significand
        # Not 2 ** (bias + 1), which float64 cannot hold.
        self.max = (2.0 - self.eps) * 2.0**bias
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0 ** (1 - bias)
        self.resolution = 10.0 ** -int(significand * 0.30103)

    def __eq__(self, other):
        return isinstance(other, finfo) and self.dtype == other.dtype

    def __hash__(self):
        return hash(("finfo", self.dtype))

    def __repr__(self):
        values = (
            f"{name}={_rounded(getattr(self, name))}"
            for name in ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        )
        return f"finfo({', '.join(values)}, dtype={self.dtype})"


class iinfo:
    """Limits of an integer dtype. Attributes: ``bits``, ``max``, ``min``, ``dtype`` (a name).

    >>> vt.iinfo(vt.int8).max
    127
    """

    def __init__(self, type):
        if type not in DTYPES.values():
            raise TypeError(
                "iinfo(): argument 'type' (position 1) must be vibetensor.dtype, "
                f"not {type.__class__.__name__}"
            )
        self.dtype = _name(type)
        if type.is_floating_point or type.is_complex:
            raise TypeError("iinfo() requires an integer input type. Use finfo instead.")
        if self.dtype not in _INTEGRAL:
            raise TypeError(f"{type} is not supported by iinfo")
        self.bits = 8 * type.itemsize
        self.max = 2 ** (self.bits - type.is_signed) - 1
        self.min = -self.max - 1 if type.is_signed else 0

    def __eq__(self, other):
        return isinstance(other, iinfo) and self.dtype == other.dtype

    def __hash__(self):
        return hash(("iinfo", self.dtype))

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
