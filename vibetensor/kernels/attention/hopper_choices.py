"""Which shape of the Hopper kernels runs where, as data. Measured on an H100 (docs/attention.md).

D is the head size rounded up to 64 or 128: smaller ones are padded by TMA, which reads zeros past
the last column and writes nothing there. The first row that fits is taken: Tq up to max_rows.
"""

from typing import NamedTuple

ANY = 1 << 30


class Forward(NamedTuple):
    """When it applies, and constants of attention_forward."""

    D: int
    causal: bool
    max_rows: int
    BM: int
    BN: int
    STAGES: int
    QUERY_STAGES: int
    WARPGROUPS: int
    REGISTERS: int
    together: int


# fmt: off
FORWARD = (
    Forward(128, True,   512, 128,  64, 3, 2, 2, 240, 16),
    Forward(128, True,   ANY, 128, 128, 2, 2, 2, 240,  8),
    Forward(128, False,  ANY, 128, 128, 2, 2, 2, 240,  8),
    Forward( 64, True,   512, 128,  64, 4, 2, 2, 240, 16),
    Forward( 64, True,  2048, 128, 128, 3, 2, 2, 240,  8),
    Forward( 64, True,   ANY, 192, 128, 2, 2, 3, 160,  8),
    Forward( 64, False, 1024, 128, 128, 3, 2, 2, 240,  8),
    Forward( 64, False,  ANY, 192, 128, 2, 2, 3, 160,  8),
)
# fmt: on


class Backward(NamedTuple):
    """When it applies, and constants of attention_backward."""

    D: int
    shared: bool  # of causal calls in which heads of queries share keys
    max_rows: int
    BM: int
    BN: int
    STAGES: int
    SUM_STAGES: int
    CLEARED: bool


# fmt: off
BACKWARD = (
    Backward(128, True,  512, 64, 128, 2, 2, False),
    Backward(128, True,  ANY, 64, 128, 2, 2, True),
    Backward( 64, True,  ANY, 64, 128, 3, 2, True),
    Backward(128, False, ANY, 64, 128, 2, 2, False),
    Backward( 64, False, ANY, 64, 128, 3, 2, False),
)
# fmt: on


def forward(D: int, causal: bool, Tq: int) -> Forward:
    return next(r for r in FORWARD if r.D == D and r.causal == causal and Tq <= r.max_rows)


def backward(D: int, Tq: int, shared: bool) -> Backward:
    return next(r for r in BACKWARD if r.D == D and shared >= r.shared and Tq <= r.max_rows)


def backward_together(causal: bool, blocks: int, multiprocessors: int) -> int:
    """How many (batch, key head) rows of `blocks` programs the backward walks together: few, for
    their queries to stay in L2. Causal programs, which differ in length, even out where as many
    rows as fill the device are walked, the longest programs first."""
    return max(2, multiprocessors // blocks) if causal else 4


def padded_head_size(dim: int) -> int:
    """The kernels' D for heads of `dim` columns, which must be a multiple of 8 up to 128."""
    return 64 if dim <= 64 else 128
