"""Operators that make or overwrite tensors: fills, ranges, random numbers, copies."""
from __future__ import annotations

from . import Generator, Number, Scalar, Tensor, composite, dtype, kernel, manual

WRITES = {"mutates": True, "surfaces": ("Tensor",)}


# --- fills ---------------------------------------------------------------------------------------------

@kernel("fill", values=("scalar value",), **WRITES)
def _fill_(input: Tensor, value: Scalar) -> Tensor:
    """Sets every element to `value`."""


@_fill_.grad
def _(grad):
    return zeros_like(grad)


@composite(surfaces=("Tensor",))
def fill_(input: Tensor, value: Tensor | Number) -> Tensor:
    """Sets every element to `value`, a number or a 0-d tensor, in place."""
    return fill_any(input, value)


@kernel("fill", values=("scalar 0",), **WRITES)
def zero_(input: Tensor) -> Tensor:
    """Sets every element to 0, in place."""


@zero_.grad
def _(grad):
    return zeros_like(grad)


@kernel("arange", values=("scalar start", "scalar step"), mutates=True, surfaces=())
def arange_(input: Tensor, start: Scalar, step: Scalar) -> Tensor:
    """Writes ``start + i * step``."""


@kernel("linspace", values=("scalar start", "scalar end"), mutates=True, surfaces=())
def linspace_(input: Tensor, start: Scalar, end: Scalar) -> Tensor:
    """Writes evenly spaced values from `start` to `end`, both included."""


@kernel(surfaces=("vt", "Tensor", "out"))
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two dimensions; 0 above `diagonal`."""


@tril.prepare
def _(input, diagonal):
    check_matrices("tril", input)
    return tensor_new_like(input, input.dtype)


@tril.grad
def _(grad, diagonal):
    return tril(grad, diagonal)


@kernel(surfaces=("vt", "Tensor", "out"))
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two dimensions; 0 below `diagonal`."""


@triu.prepare
def _(input, diagonal):
    check_matrices("triu", input)
    return tensor_new_like(input, input.dtype)


@triu.grad
def _(grad, diagonal):
    return triu(grad, diagonal)


@composite(surfaces=("Tensor",))
def tril_(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle, in place."""
    return copy_(input, tril(input, diagonal))


@composite(surfaces=("Tensor",))
def triu_(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle, in place."""
    return copy_(input, triu(input, diagonal))


# --- random numbers ----------------------------------------------------------------------------------

RANDOM = ("int seed", "int offset")


@kernel("uniform", values=("float low", "float high", *RANDOM), exact=True, **WRITES)
def uniform_(
    input: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fills with numbers drawn uniformly from [low, high), in place."""


@uniform_.prepare
def _(input, low, high, generator):
    check_range("uniform_", low, high)
    seed, offset = philox(input, generator, PHILOX_UNIFORM)


@uniform_.grad
def _(grad):
    return zeros_like(grad)


@kernel("normal", values=("float mean", "float std", *RANDOM), exact=True, **WRITES)
def normal_(
    input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fills with normally distributed numbers, in place."""


@normal_.prepare
def _(input, mean, std, generator):
    check_std("normal_", std)
    seed, offset = philox(input, generator, PHILOX_NORMAL)


@normal_.grad
def _(grad):
    return zeros_like(grad)


@kernel("bernoulli", values=("float p", *RANDOM), mutates=True, surfaces=(), exact=True)
def _bernoulli_(input: Tensor, p: float = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fills with 1 with probability `p`, else 0, in place."""


@_bernoulli_.prepare
def _(input, p, generator):
    check_probability("bernoulli_", p)
    seed, offset = philox(input, generator, PHILOX_UNIFORM)


@_bernoulli_.grad
def _(grad):
    return zeros_like(grad)


@kernel("bernoulli_tensor", values=RANDOM, surfaces=(), exact=True)
def _bernoulli(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that `input` holds, else 0."""


@_bernoulli.prepare
def _(input, generator):
    check_floating("bernoulli", input)
    seed, offset = philox(input, generator, PHILOX_UNIFORM)
    return tensor_empty_like(input, input.dtype)


@_bernoulli.grad
def _(grad):
    return zeros_like(grad)


@composite(surfaces=("vt", "Tensor", "out"))
def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with the probability that `input` holds (or `p`), else 0."""
    if p is None:
        return _bernoulli(input, generator=generator)
    return _bernoulli_(zeros_like(input), p, generator=generator)


@composite(surfaces=("Tensor",))
def bernoulli_(
    input: Tensor, p: Tensor | Number = 0.5, *, generator: Generator | None = None
) -> Tensor:
    """Fills with 1 with probability `p` (a number, or a tensor that broadcasts), else 0, in place."""
    if p.ndim == 0 and p.device_type == 0:
        return _bernoulli_(input, float(p.item()), generator=generator)
    return copy_(input, _bernoulli(expand(p, tensor_shape(input)), generator=generator))


@kernel("randint", values=("int low", "int high", *RANDOM), mutates=True, surfaces=(), exact=True)
def _randint_(input: Tensor, low: int, high: int, *, generator: Generator | None = None) -> Tensor:
    """Fills with integers drawn uniformly from [low, high), in place."""


@_randint_.prepare
def _(input, low, high, generator):
    seed, offset = philox(input, generator, PHILOX_RANDINT)


@kernel("randperm", values=RANDOM, mutates=True, surfaces=(), exact=True)
def _randperm_(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Fills with a random permutation of 0 ... n - 1, in place."""


@_randperm_.prepare
def _(input, generator):
    seed, offset = philox(input, generator, PHILOX_RANDPERM)


@kernel(
    "multinomial", values=("int replacement", *RANDOM),
    surfaces=("vt", "Tensor", "out"), exact=True,
)
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *,
    generator: Generator | None = None,
) -> Tensor:
    """Indices drawn with the weights in the rows of `input`, (rows, n) or (n), int64.

    >>> vt.multinomial(vt.tensor([0.0, 1.0]), 2, replacement=True)
    tensor([1, 1])
    """


@multinomial.prepare
def _(input, num_samples, replacement, generator):
    check_multinomial(input, num_samples, replacement)
    seed, offset = philox_blocks(
        generator, multinomial_blocks(input, num_samples, replacement), input
    )
    return tensor_empty(
        tensor_shape(input)[:-1] + (num_samples,), VT_I64, input.device_type, input.device_index
    )


# --- copies ----------------------------------------------------------------------------------------------

@manual(surfaces=("Tensor",))
def copy_(input: Tensor, src: Tensor | Number, non_blocking: bool = False) -> Tensor:
    """Writes `src`, broadcast and cast, into `input`."""


@manual(mutates=True, surfaces=(), node="Copy")
def _copy_(input: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Writes `src`, of the same shape but of any dtype and device, into `input`."""


@_copy_.grad
def _(grad, place="place_of(src)"):
    return zeros_like(grad), to_place(grad, place)


@manual(surfaces=(), node="Clone")
def _clone(input: Tensor, contiguous: bool = False) -> Tensor:
    """A copy: contiguous, or with the same layout where `input` has no gaps."""


@_clone.grad
def _(grad):
    return grad


@composite(surfaces=("vt", "Tensor"))
def clone(input: Tensor, *, memory_format: object = None) -> Tensor:
    """A copy, with the layout of `input` where that has no gaps, or `vibetensor.contiguous_format`."""
    return _clone(input, wants_contiguous(memory_format))


@composite(surfaces=("Tensor",))
def contiguous(input: Tensor) -> Tensor:
    """The tensor itself if it is contiguous, else a contiguous copy."""
    return input if input.flags & F_CONTIGUOUS else _clone(input, True)


@manual(surfaces=(), node="ToCopy")
def _to_copy(input: Tensor, dtype: dtype) -> Tensor:
    """A copy in another dtype."""


@_to_copy.grad
def _(grad, input_dtype):
    return to_dtype(grad, input_dtype)


@manual(surfaces=(), node="ToCopy")
def _to_device(
    input: Tensor, dtype: dtype, device_type: int, device_index: int, non_blocking: bool = False
) -> Tensor:
    """A copy on another device, in the layout of `input` where that has no gaps."""


@_to_device.grad
def _(grad, input_dtype, place="place_of(input)"):
    return to_dtype(to_place(grad, place), input_dtype)


@composite(surfaces=())
def to_dtype(input: Tensor, dtype: dtype) -> Tensor:
    """The tensor in another dtype; itself where it has that dtype."""
    return input if input.dtype == dtype else _to_copy(input, dtype)


@manual()
def detach(input: Tensor) -> Tensor:
    """The same memory without history: it never requires grad."""


@manual(surfaces=("vt", "Tensor"))
def zeros_like(input: Tensor, *, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros with the shape, layout, dtype and device of `input`."""


@manual(surfaces=("vt", "Tensor"))
def ones_like(input: Tensor, *, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """Ones with the shape, layout, dtype and device of `input`."""


@manual(surfaces=("vt", "Tensor"))
def empty_like(input: Tensor, *, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory with the shape, layout, dtype and device of `input`."""


@manual(surfaces=("vt", "Tensor"))
def full_like(
    input: Tensor, fill_value: Scalar, *, dtype: dtype | None = None, requires_grad: bool = False
) -> Tensor:
    """`fill_value` with the shape, layout, dtype and device of `input`."""


@manual(surfaces=("vt", "Tensor"))
def rand_like(input: Tensor, *, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers from [0, 1) with the shape, dtype and device of `input`."""


@manual(surfaces=("vt", "Tensor"))
def randn_like(input: Tensor, *, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """Standard normal numbers with the shape, dtype and device of `input`."""
