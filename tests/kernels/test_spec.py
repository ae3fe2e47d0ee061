"""Specialisations as text, images as bytes."""

import pytest

from vibetensor.kernels._image import Descriptor, Image
from vibetensor.kernels._spec import Spec, layout

TEXT = """
x: *bf16 16
q: tensordesc<bf16[1, 64]>
n: i32
BLOCK = 128
PRECISION = 'ieee'
CAUSAL = True
num_warps = 4
""".strip()


class Kernel:
    """As much of a ``@triton.jit`` function as a specialisation looks at."""

    __name__ = "kernel"

    def __init__(self, *names):
        self.params = [type("Parameter", (), {"name": n}) for n in names]

    def is_gluon(self):
        return False


def test_text():
    spec = Spec.parse(TEXT)
    assert spec.arguments == (
        ("x", "*bf16", True),
        ("q", "tensordesc<bf16[1, 64]>", False),
        ("n", "i32", False),
    )
    assert spec.values == {"BLOCK": 128, "PRECISION": "ieee", "CAUSAL": True, "num_warps": 4}


def test_in_the_compilers_words():
    said = Spec.parse(TEXT).of(Kernel("x", "q", "CAUSAL", "n", "BLOCK", "PRECISION"))
    assert list(said.signature.values()) == [
        "*bf16", "tensordesc<bf16[1, 64]>", "constexpr", "i32", "constexpr", "constexpr",
    ]  # fmt: skip
    assert said.constants == {(2,): True, (4,): 128, (5,): "ieee"}
    assert said.attributes == {(0,): [["tt.divisibility", 16]]}
    assert said.options == {"num_warps": 4}


@pytest.mark.parametrize("names", [("x", "n", "q", "BLOCK"), ("x", "q"), ("x", "q", "n", "m")])
def test_arguments_must_be_the_kernels(names):
    with pytest.raises(TypeError, match="kernel: the specialisation has the arguments"):
        Spec.parse(TEXT).of(Kernel(*names, "CAUSAL", "PRECISION"))


def test_layout():
    # An address, a byte, a short, an int; then an int64 at the next multiple of 8, a double.
    lies = layout(["*fp32", "i1", "bf16", "fp32", "i64", "*i8", "fp64"])
    assert lies.offsets == [0, 8, 10, 12, 16, 24, 32]
    assert (lies.size, lies.pointers) == (40 + 16, 0b1001)
    assert lies.parameters == [*lies.offsets, 40, 48]
    # A map of 128 bytes at a multiple of 64, three sizes of 4 bytes, three strides of 8.
    lies = layout(["i32", "tensordesc<fp16[1, 8, 64],Layout(1)>", "i32"])
    assert lies.offsets == [0, 64, 64 + 128 + 16 + 24]
    assert (lies.size, lies.pointers) == (240 + 16, 1 << 8)
    assert lies.parameters == [0, 64, 192, 196, 200, 208, 216, 224, 232, 240, 248]
    with pytest.raises(TypeError, match="nvTmaDesc cannot be passed"):
        layout(["nvTmaDesc"])


def test_image_as_bytes():
    image = Image(
        "k", b"code\n\0", 4, 1, 0, False, True, 8, 32, 3, (Descriptor(9, 3, 2, (1, 64)),), (0, 8)
    )
    data = image.to_bytes()
    assert Image.from_bytes(data) == image
    with pytest.raises(ValueError, match="damaged"):
        Image.from_bytes(data[:-1] + b"!")
