"""Promotion against torch.result_type and what add, mul and div really return: 12 x 12 and numbers."""

import itertools

import pytest
import torch

import vibetensor as vt

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
NUMBERS = (True, 3, 1.5, 2j)


def name(dtype):
    return str(dtype).rpartition(".")[2]


def outcome(f):
    """The dtype of the result, or the type of the error."""
    try:
        return name(f().dtype)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("operation", ["add", "mul", "true_divide", "eq"])
@pytest.mark.parametrize("first", DTYPES)
def test_tensors(operation, first):
    """Dimensions and 0-d tensors in all pairings: only equal categories see the dimension."""
    for second, shapes in itertools.product(DTYPES, itertools.product(((2,), ()), repeat=2)):
        results = []
        for library in (vt, torch):
            a, b = (
                library.ones(shape, dtype=getattr(library, d))
                for shape, d in zip(shapes, (first, second))
            )
            results.append(outcome(lambda: getattr(library, operation)(a, b)))
        # PyTorch has a complex32.
        half_complex = {first, second} <= {"float16", *DTYPES[10:]}
        assert results[0] == results[1] or half_complex, (first, second, shapes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers(dtype):
    for number, shape in itertools.product(NUMBERS, ((2,), ())):
        for f in (
            lambda x: x + number,
            lambda x: number * x,
            lambda x: x / number,
            lambda x: x.mul(number),
            lambda x: x == number,
        ):
            results = [
                outcome(lambda: f(library.ones(shape, dtype=getattr(library, dtype))))
                for library in (vt, torch)
            ]
            half_complex = dtype == "float16" and isinstance(number, complex)
            assert results[0] == results[1] or half_complex, (dtype, number, shape)


@pytest.mark.parametrize("first", DTYPES)
def test_result_type(first):
    for second in DTYPES:
        ours = vt.promote_types(getattr(vt, first), getattr(vt, second))
        theirs = torch.promote_types(getattr(torch, first), getattr(torch, second))
        assert name(ours) == name(theirs) or name(theirs) == "complex32"
        a, b = (torch.ones(2, dtype=getattr(torch, d)) for d in (first, second))
        expected = name(torch.result_type(a, b))
        x = vt.ones(2, dtype=getattr(vt, first)) * vt.ones(2, dtype=getattr(vt, second))
        assert name(x.dtype) == expected or expected == "complex32"


def test_default_dtype_takes_part():
    before = vt.get_default_dtype()
    try:
        vt.set_default_dtype(vt.float64)
        assert (vt.ones(2, dtype=vt.int64) / 2).dtype is vt.float64
        assert (vt.ones(2, dtype=vt.int32) * 1.5).dtype is vt.float64
    finally:
        vt.set_default_dtype(before)
