"""What a specialisation of a Triton kernel is: its arguments' types, constexpr values, options.

The text form is what the host code writes (vibetensor/cuda/triton_kernel.h), a line each::

    x: *bf16 16          an argument and its type; 16: always a multiple of 16
    n: i32
    BLOCK = 1024         a constexpr parameter, as a Python literal
    num_warps = 4        or an option of the compiler

Imports Triton only where a kernel is at hand.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pathlib
import re
from typing import Any

# Bytes of an argument by Triton's name of its type. A bool is a byte.
SIZES = {
    **dict.fromkeys(("i1", "u1", "i8", "u8"), 1),
    **dict.fromkeys(("i16", "u16", "fp16", "bf16"), 2),
    **dict.fromkeys(("i32", "u32", "fp32", "f32"), 4),
    **dict.fromkeys(("i64", "u64", "fp64"), 8),
}
DESCRIPTOR = re.compile(r"tensordesc<(\w+)\[([^\]]*)\]")
SCRATCH_POINTERS = 2  # behind the arguments: global memory, the profiler's


@dataclasses.dataclass(frozen=True)
class Spec:
    """A specialisation, read from its text."""

    text: str
    arguments: tuple[tuple[str, str, bool], ...]  # name, type, divisible
    values: dict[str, Any]  # constexpr parameters and options

    @classmethod
    def parse(cls, text: str) -> Spec:
        arguments, values = [], {}
        for line in text.splitlines():
            name, sign, rest = re.split(r"\s*([:=])\s*", line.strip(), maxsplit=1)
            if sign == "=":
                values[name] = ast.literal_eval(rest)
            else:
                divisible = rest.endswith(" 16")
                arguments.append((name, rest.removesuffix(" 16"), divisible))
        return cls(text, tuple(arguments), values)

    @property
    def types(self) -> list[str]:
        return [type for _, type, _ in self.arguments]

    def of(self, kernel: Any) -> Specialised:
        """The same in the compiler's words.

        Raises
        ------
        TypeError
            If the arguments are not the kernel's, in its order.
        """
        names = [p.name for p in kernel.params]
        constants = {n: v for n, v in self.values.items() if n in names}
        wanted = [n for n in names if n not in constants]
        given = [name for name, _, _ in self.arguments]
        if wanted != given:
            raise TypeError(
                f"{kernel.__name__}: the specialisation has the arguments {given}; the kernel, "
                f"apart from its constexpr parameters {sorted(constants)}, has {wanted}"
            )
        types = dict(zip(given, self.types, strict=True))
        if kernel.is_gluon():
            types = {n: with_layout(t) for n, t in types.items()}
        attributes: dict[tuple[int, ...], list] = {
            (names.index(n),): [["tt.divisibility", 16]]
            for n, _, divisible in self.arguments
            if divisible
        }
        return Specialised(
            signature={n: types.get(n, "constexpr") for n in names},
            constants={(names.index(n),): v for n, v in constants.items()},
            attributes=attributes,
            options={n: v for n, v in self.values.items() if n not in names},
        )


@dataclasses.dataclass(frozen=True)
class Specialised:
    """The arguments of Triton's ``ASTSource`` and ``compile``."""

    signature: dict[str, str]
    constants: dict[tuple[int, ...], Any]
    attributes: dict[tuple[int, ...], list]
    options: dict[str, Any]


def with_layout(type: str) -> str:
    """A descriptor's type with the layout that Gluon takes by default for its block."""
    match = DESCRIPTOR.fullmatch(type.removesuffix(">"))
    if match is None:
        return type
    from triton.experimental.gluon import language as gl

    block = [int(n) for n in match[2].split(",")]
    element = {"bf16": gl.bfloat16, "fp16": gl.float16, "fp32": gl.float32}[match[1]]
    return f"{match[0]},{gl.NVMMASharedLayout.get_default_for(block, element)!r}>"


def shipped() -> list[tuple[str, str]]:
    """Source and text of the specialisations in shipped.txt (tools/triton_specs.py writes it)."""
    blocks = (
        pathlib.Path(__file__).with_name("shipped.txt").read_text(encoding="utf-8").split("\n\n")
    )
    return [(b.partition("\n")[0], b.partition("\n")[2].strip()) for b in blocks if b.strip()]


def find_kernel(source: str) -> Any:
    """The ``@triton.jit`` function of ``"folder/file.py:function"`` below vibetensor/kernels."""
    path, _, name = source.partition(":")
    module = "vibetensor.kernels." + path.removesuffix(".py").replace("/", ".")
    return getattr(importlib.import_module(module), name)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the arguments of a kernel lie in the buffer that a launch packs."""

    offsets: list[int]  # of each argument
    size: int  # bytes of all, with the scratch pointers
    pointers: int  # mask of the 8-byte words that are addresses; a descriptor counts, at its start
    parameters: list[int]  # offsets of the kernel's parameters: a descriptor is several


def layout(types: list[str]) -> Layout:
    """The layout of arguments of these types, each at a multiple of its size (descriptors: 64)."""
    offsets, parameters, at, pointers = [], [], 0, 0
    for type in [*types, *["u64"] * SCRATCH_POINTERS]:
        match = DESCRIPTOR.match(type)
        if not match and type[0] != "*" and type not in SIZES:
            raise TypeError(f"an argument of type {type} cannot be passed to a Triton kernel")
        size = 128 if match else SIZES.get(type, 8)
        alignment = 64 if match else size
        at = -(-at // alignment) * alignment
        if (match or type[0] == "*") and at // 8 < 64:
            pointers |= 1 << at // 8
        offsets.append(at)
        parameters.append(at)
        at += size
        if match:  # the tensor map is followed by the sizes (32 bits) and the strides
            rank = match[2].count(",") + 1
            parameters += range(at, at + 4 * rank, 4)
            at += -(-4 * rank // 8) * 8
            parameters += range(at, at + 8 * rank, 8)
            at += 8 * rank
    return Layout(offsets[:-SCRATCH_POINTERS], at, pointers, parameters)
